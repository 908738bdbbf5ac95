"""Files and folders that are no image, named for what they are."""

import struct

import pytest

from tests.data.helpers import noise, save
from weakseg.data.formats.dicom.signs import is_dicom
from weakseg.data.images import read_image
from weakseg.data.volumes import read_volume
from weakseg.errors import DataError


def element(group, number, vr, value, order="<"):
    """A data element in explicit VR (PS3.5, 7.1.2), or with ``vr`` None in implicit VR (7.1.3)."""
    if vr is None:
        return struct.pack(f"{order}HHI", group, number, len(value)) + value
    return struct.pack(f"{order}HH2sH", group, number, vr, len(value)) + value


UID = b"1.2.840.10008.5.1.4.1.1.1\0"
META = element(2, 0, b"UL", struct.pack("<I", 60)) + element(2, 2, b"UI", UID)
DICOM = {
    "with a preamble": bytes(128) + b"DICM" + META,
    "preamble with text": b"II*\0".ljust(128) + b"DICM" + META,
    "file meta first": META + bytes(200),
    "explicit, no file meta": element(8, 0x16, b"UI", UID) + element(8, 0x18, b"UI", UID),
    "implicit": element(8, 0x16, None, UID) + element(8, 0x18, None, UID),
    "implicit, group length": element(8, 0, None, struct.pack("<I", 80)) + element(8, 5, None, b""),
    "big endian": element(8, 0x16, b"UI", UID, ">") + bytes(100),
}
OTHERS = {
    "empty": b"",
    "short": b"\x08\0\x05\0",
    "zeros": bytes(600),
    "text": b"image,label\n" * 20,
    "numbers": b"".join(struct.pack("<I", k) for k in range(8, 140)),
    "eights": b"\x08\0\0\0\x04\0\0\0" + b"\xff" * 200,
}


@pytest.mark.parametrize("name", DICOM)
def test_dicom_is_known_with_and_without_a_preamble(name, tmp_path):
    assert is_dicom(DICOM[name])
    path = tmp_path / "a.png"
    path.write_bytes(DICOM[name].ljust(600, b"\0"))
    for read in (read_image, read_volume):
        with pytest.raises(DataError) as e:
            read(path)
        assert "DICOM" in e.value.what


@pytest.mark.parametrize("name", OTHERS)
def test_other_files_are_not_taken_for_dicom(name):
    assert not is_dicom(OTHERS[name])


def test_a_folder_is_named_with_what_it_holds(tmp_path):
    series = tmp_path / "series"
    series.mkdir()

    def said(read):
        with pytest.raises(DataError) as e:
            read(series)
        return e.value.render()

    for read in (read_image, read_volume):
        assert "an empty folder" in said(read)
    (series / "a" / "b").mkdir(parents=True)
    assert "1 folders and no file" in said(read_volume)
    save(series / "a.png", noise(1))
    for read in (read_image, read_volume):
        assert "1 .png" in said(read)
        assert "name the image file itself" in said(read)
    for k in range(3):
        (series / f"IM{k}").write_bytes(DICOM["implicit"])
    assert "a folder of DICOM files, a series" in said(read_image)
    assert "3 DICOM files, 1 .png" in said(read_image)
    assert "weakseg import dicom" in said(read_image)
    assert "without the size of the image" in said(read_volume)
