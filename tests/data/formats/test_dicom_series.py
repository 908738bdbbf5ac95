"""Series that are not whole, not one, or none: each a clear sentence, or handled as documented."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence as Items
from pydicom.uid import RLELossless

from tests.dicom_files import (
    CR,
    MR,
    PR,
    SR,
    TELLING,
    US,
    enhanced,
    header,
    placed,
    save,
    save_series,
    slices,
    voxels,
    with_pixels,
)
from weakseg.data.formats.reading import decode_volume, read_frame
from weakseg.data.formats.registry import IMAGES, VOLUMES, formats_of
from weakseg.data.volumes import read_volume
from weakseg.errors import DataError

ROOT = Path(__file__).resolve().parents[3]

Make = Callable[[Path], object]


def without(*gone: int) -> Make:
    def make(folder: Path) -> None:
        made = slices(voxels())
        save_series(folder, [s for k, s in enumerate(made) if k not in gone])

    return make


def of(change: Callable[[list], object], **options: object) -> Make:
    """A series that is changed before it is written; the list it returns, if it returns one."""

    def make(folder: Path) -> None:
        made = slices(voxels(), **options)
        changed = change(made)
        save_series(folder, changed if isinstance(changed, list) else made)

    return make


def files_changed(change: Callable[[Path], object]) -> Make:
    """A whole series one of whose files is changed."""

    def make(folder: Path) -> None:
        save_series(folder, slices(voxels()))
        change(sorted(folder.iterdir())[4])

    return make


def set_elements(index: int | None, **values: object) -> Callable[[list], object]:
    def change(made: list) -> None:
        for data in made if index is None else [made[index]]:
            for name, value in values.items():
                setattr(data, name, value)

    return change


def drop(index: int | None, *names: str) -> Callable[[list], object]:
    def change(made: list) -> None:
        for data in made if index is None else [made[index]]:
            for name in names:
                delattr(data, name)

    return change


def shifted(index: int, by: tuple[float, float, float]) -> Callable[[list], object]:
    def change(made: list) -> None:
        at = np.array([float(v) for v in made[index].ImagePositionPatient]) + by
        made[index].ImagePositionPatient = [f"{v:g}" for v in at]

    return change


def tilted(made: list) -> None:
    for k, data in enumerate(made):
        shifted(0, (0, 0.6 * k, 0))([data])


def times(keyword: str | None) -> Callable[[list], object]:
    def change(made: list) -> list:
        again = slices(voxels(seed=2))
        for k, data in enumerate(again):
            data.SOPInstanceUID += f".{k}"
        for number, part in enumerate((made, again)):
            for data in part if keyword else ():
                setattr(data, keyword, number + 1)
        return made + again

    return change


def two_series(made: list) -> list:
    return made + slices(voxels(seed=2), series=2, origin=(0, 0, 300))


def two_patients(made: list) -> None:
    made[3].PatientID = "MRN-48213378"


def half_turned_over(made: list) -> None:
    set_elements(None, ImageOrientationPatient=[1, 0, 0, 0, -1, 0])(made[:4])


def taken_twice(made: list) -> list:
    other = slices(voxels(seed=3))[4]
    other.SOPInstanceUID += ".7"
    return [*made, other]


def resized(made: list) -> None:
    made[2].Rows, made[2].PixelData = 6, made[2].PixelData[:120]


def film(folder: Path) -> None:
    save(folder / "film.dcm", with_pixels(header(US), voxels(5)))


def enhanced_without_places(folder: Path) -> None:
    data = enhanced(voxels(5))
    del data.PerFrameFunctionalGroupsSequence[3]
    save(folder / "frames.dcm", data)


def reports_alone(folder: Path) -> None:
    for k in range(3):
        save(folder / f"{k}.dcm", header(SR, number=k))


def radiographs(folder: Path) -> None:
    for k, values in enumerate(voxels(2)):
        save(folder / f"{k}.dcm", with_pixels(header(CR, number=k), values))


def colours(folder: Path) -> None:
    for k in range(3):
        data = with_pixels(header(US, number=k), np.zeros((6, 5, 3), np.uint8))
        save(folder / f"{k}.dcm", placed(data, (0, 0, k)))


def subfolders(folder: Path) -> None:
    for k in range(2):
        save_series(folder / f"part{k}", slices(voxels(4), series=k))


def cut(at: int) -> Callable[[Path], object]:
    return lambda file: file.write_bytes(file.read_bytes()[:at])


BAD: dict[str, tuple[Make, str, str]] = {
    "a missing slice": (without(4), "lacks 1 slice", "5 mm between slices 4 and 5 of 8"),
    "two missing slices": (without(2, 3), "lacks 2 slices", "7.5 mm between slices 2 and 3"),
    "slices missing in two places": (without(2, 6), "lacks 2 slices", "5 mm"),
    "uneven distances": (of(shifted(4, (0, 0, 0.9))), "even distances", "3.4 mm"),
    "two series in a folder": (of(two_series), "images of 2 series", "9, 9 files"),
    "two patients": (of(two_patients), "images of 2 patients", "8, 1 files"),
    "two frames of reference": (
        of(set_elements(3, FrameOfReferenceUID="1.2.3.4.5.6")),
        "2 frames of reference",
        "8, 1",
    ),
    "a slice of another direction": (
        of(set_elements(4, ImageOrientationPatient=[1, 0, 0, 0, 0, 1])),
        "not parallel",
        "1 of 9",
    ),
    "half of the slices turned over": (
        of(
            lambda m: (
                [set_elements(0, ImageOrientationPatient=[1, 0, 0, 0, -1, 0])([s]) for s in m[:4]]
                and m
            )
        ),
        "not parallel",
        "of 9 have another orientation",
    ),
    "slices turned in their plane": (
        of(set_elements(4, ImageOrientationPatient=[0, 1, 0, -1, 0, 0])),
        "turned in their plane",
        "1 of 9",
    ),
    "directions that are no unit vectors": (
        of(set_elements(None, ImageOrientationPatient=[2, 0, 0, 0, 1, 0])),
        "orientation of the image cannot",
        "lengths 2 and 1",
    ),
    "directions that are not perpendicular": (
        of(set_elements(2, ImageOrientationPatient=[1, 0, 0, 0.6, 0.8, 0])),
        "orientation of the image cannot",
        "53",
    ),
    "slices of another size": (of(resized), "differ in size", "8 of 12 × 10 pixels, 1 of 6 × 10"),
    "slices of another spacing": (
        of(set_elements(3, PixelSpacing=[0.9, 0.9])),
        "differ in spacing",
        "1 of 0.9 × 0.9 mm",
    ),
    "a spacing of nothing": (of(set_elements(3, PixelSpacing=[0, 0.7])), "spacing of the", "0 and"),
    "a slope of 0": (of(set_elements(5, RescaleSlope=0)), "slope is 0", ""),
    "a slope that is no number": (
        of(lambda m: setattr(m[5]["RescaleSlope"], "_value", "Ottilie")),
        "RescaleSlope cannot be used",
        "something else",
    ),
    "a position of two numbers": (
        of(set_elements(5, ImagePositionPatient=[1, 2])),
        "ImagePositionPatient cannot be used",
        "2 values",
    ),
    "no positions": (of(drop(None, "ImagePositionPatient")), "do not tell their place", ""),
    "one slice without a position": (of(drop(7, "ImagePositionPatient")), "do not tell", ""),
    "radiographs": (radiographs, "do not tell their place", ""),
    "4D by time": (
        of(times("TemporalPositionIdentifier")),
        "is 4D: it holds 2",
        "9 places, of 2 times",
    ),
    "4D by echo": (of(times("EchoTime"), kind=MR), "is 4D", "of 2 echoes"),
    "4D of unknown kind": (of(times(None)), "is 4D: it holds 2", "18 images at 9 places"),
    "a slice taken twice": (
        of(
            lambda m: (
                m
                + [
                    s
                    for s in slices(voxels(seed=3))[4:5]
                    if not setattr(s, "SOPInstanceUID", "1.2.3")
                ]
            )
        ),
        "at the same place",
        "slices 5 and 6 of 10",
    ),
    "a tilted gantry": (of(tilted), "tilted gantry", "13.5°"),
    "a slice shifted in its plane": (of(shifted(4, (3, 0, 0))), "tilted gantry", "shifted"),
    "a file cut in its pixels": (files_changed(cut(-50)), "truncated", "of 240|190 bytes"),
    "a file cut in its header": (files_changed(cut(700)), "is damaged", "without the size"),
    "an empty file": (files_changed(cut(0)), "no DICOM file", "0 bytes"),
    "a file of text": (
        files_changed(lambda f: f.write_text("Ottilie")),
        "no DICOM file",
        "another content",
    ),
    "one slice alone": (without(*range(1, 9)), "has one slice", ""),
    "an empty folder": (lambda f: f.mkdir(), "is a folder", "an empty folder"),
    "folders of series": (subfolders, "is a folder", "2 folders and no file"),
    "reports alone": (reports_alone, "no DICOM image", ""),
    "colours": (colours, "holds colours", ""),
    "a film": (film, "frames of the file have no place", "5 frames"),
    "an enhanced object that lacks places": (enhanced_without_places, "have no place", "5 frames"),
    "slices that are inverted": (
        of(set_elements(2, PhotometricInterpretation="MONOCHROME1")),
        "stored inverted",
        "8 and 1",
    ),
    "odd bits": (of(set_elements(2, HighBit=14)), "lowest bits", "HighBit 14"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_series_is_refused_in_a_clear_sentence(tmp_path, name):
    make, what, found = BAD[name]
    folder = tmp_path / "series"
    make(folder)
    with pytest.raises(DataError) as e:
        decode_volume(folder)
    said = e.value.render()
    assert what in e.value.what, said
    assert any(part in (e.value.found or "") for part in found.split("|")), said
    assert e.value.fix, said
    assert str(tmp_path) in str(e.value.where), said
    assert not [word for word in TELLING if word in said], said


def report_among(folder: Path) -> None:
    save_series(folder, slices(voxels()))
    save(folder / "report", header(SR, series=7))
    save(folder / "state.dcm", header(PR, series=8))


def localiser_among(folder: Path) -> None:
    save_series(folder, slices(voxels()))
    scout = with_pixels(header(series=5), voxels(1, 30, 20)[0])
    scout.ImageType = ["ORIGINAL", "PRIMARY", "LOCALIZER"]
    save(folder / "00.dcm.scout", placed(scout, (0, 0, 0), orientation=(0, 1, 0, 0, 0, -1)))


def other_files(folder: Path) -> None:
    save_series(folder, slices(voxels()))
    (folder / "readme.txt").write_text("Ottilie")
    (folder / ".DS_Store").write_bytes(b"")
    (folder / "Thumbs.db").write_bytes(b"x")


def copies(folder: Path) -> None:
    save_series(folder, slices(voxels()))
    (folder / "copy of 03.dcm").write_bytes((folder / "03.dcm").read_bytes())


def compressed(folder: Path) -> None:
    save_series(folder / "plain", slices(voxels()))
    made = slices(voxels())
    for data in made[::2]:
        save(folder / "plain" / "again", data)
        data.compress(RLELossless, generate_instance_uid=False)
    for k, data in enumerate(made):
        save(
            folder / f"{k}.dcm",
            data,
            syntax=data.file_meta.TransferSyntaxUID if k % 2 == 0 else "1.2.840.10008.1.2.1",
        )


def renumbered(folder: Path) -> None:
    made = slices(voxels())
    for k, data in enumerate(made):
        data.InstanceNumber = (k * 5) % 9
    save_series(folder, made)


def jittered(folder: Path) -> None:
    made = slices(voxels())
    for k in range(9):
        shifted(k, (0, 0, 0.05 * (k % 2)))(made)
    save_series(folder, made)


HANDLED: dict[str, Make] = {
    "reports and presentation states among images are left out": report_among,
    "a localiser among images is left out": localiser_among,
    "files of other kinds are left out": other_files,
    "copies of a file are taken once": copies,
    "slices may be stored in several ways": compressed,
    "instance numbers do not count": renumbered,
    "slices may lie off their even place by a tenth of a step": jittered,
}


@pytest.mark.parametrize("name", HANDLED)
def test_what_is_handled(tmp_path, name):
    folder = tmp_path / "series"
    HANDLED[name](folder)
    np.testing.assert_array_equal(read_volume(folder).values, voxels().transpose(2, 1, 0))


def test_monochrome1_is_turned_round_in_volumes(tmp_path):
    made = slices(voxels().astype(np.uint16), intercept=-5)
    for data in made:
        data.PhotometricInterpretation = "MONOCHROME1"
    values = read_volume(save_series(tmp_path / "s", made)).values
    expected = 65535 - voxels().astype(np.uint16).transpose(2, 1, 0) - 5.0
    np.testing.assert_array_equal(values, expected)


def lookup(values):
    table = Dataset()
    table.LUTDescriptor, table.ModalityLUTType = [len(values), 0, 16], "US"
    table.LUTData = np.array(values, np.uint16).tobytes()
    return Items([table])


@pytest.mark.parametrize("photometric", ["MONOCHROME2", "MONOCHROME1"])
def test_a_modality_lut_says_what_the_samples_of_a_series_are(tmp_path, photometric):
    stored = np.random.default_rng(4).integers(0, 256, (9, 12, 10)).astype(np.uint8)
    table = np.random.default_rng(5).permutation(256) * 3
    made = slices(stored)
    for data in made:
        del data.RescaleSlope, data.RescaleIntercept
        data.PhotometricInterpretation = photometric
        data.ModalityLUTSequence = lookup(table)
        data["ModalityLUTSequence"][0]["LUTData"].VR = "OW"
    expected = table[stored].astype(float)
    if photometric == "MONOCHROME1":
        expected = table[0] + table[255] - expected
    found = read_volume(save_series(tmp_path / "s", made)).values
    np.testing.assert_array_equal(found, expected.transpose(2, 1, 0))


def test_slices_with_a_table_and_with_a_slope_may_stand_together(tmp_path):
    stored = np.random.default_rng(4).integers(0, 256, (9, 12, 10)).astype(np.uint8)
    made = slices(stored, slope=2, intercept=-7)
    made[3].ModalityLUTSequence = lookup(np.arange(256) * 2 + 1)
    made[3]["ModalityLUTSequence"][0]["LUTData"].VR = "OW"
    expected = stored * 2.0 - 7
    expected[3] = stored[3] * 2.0 + 1
    found = read_volume(save_series(tmp_path / "s", made)).values
    np.testing.assert_array_equal(found, expected.transpose(2, 1, 0))


def test_a_single_file_is_an_image_and_a_folder_a_volume(tmp_path):
    folder = save_series(tmp_path / "series", slices(voxels()))
    assert formats_of(folder) is VOLUMES
    assert formats_of(folder / "03.dcm") is IMAGES
    (tmp_path / "pictures").mkdir()
    assert formats_of(tmp_path / "pictures") is IMAGES
    with pytest.raises(DataError, match="has one slice") as e:
        read_volume(folder / "03.dcm")
    assert "name the folder" in str(e.value.fix)


def test_a_series_of_a_gigabyte_is_refused_by_its_headers(tmp_path):
    made = slices(voxels(3, 2, 2))
    for data in made:
        data.Rows = data.Columns = 12000
    with pytest.raises(DataError, match="too large"):
        read_frame(save_series(tmp_path / "s", made))


def test_the_page_says_what_was_tried():
    page = " ".join((ROOT / "docs/dicom.md").read_text().split())
    assert f"{len(BAD)} bad series are refused" in page
    assert f"{len(HANDLED)} oddities are read" in page
    assert all(name in page for name in (*BAD, *HANDLED))
