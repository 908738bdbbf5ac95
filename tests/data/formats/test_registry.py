"""The contract of a format: frames, the ways to write, foreign files and packages that lack."""

from __future__ import annotations

import gzip
from dataclasses import replace

import nibabel as nib
import numpy as np
import pytest
from PIL import Image

from tests.data.helpers import image_size, noise, save, save_volume
from weakseg.data.formats import reading
from weakseg.data.formats.base import Package
from weakseg.data.formats.png import PNG
from weakseg.data.formats.reading import decode, decode_volume, read_frame
from weakseg.data.formats.registry import FOREIGN, IMAGES, VOLUMES, formats_of, formats_of_dims
from weakseg.data.formats.writing import mask_suffix, write_mask
from weakseg.errors import DataError


def test_a_2d_image_is_a_frame_of_one_slice_that_tells_no_place(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # a quarter turn: height and width change places
    path = save(tmp_path / "a.png", noise(1, (16, 20)), exif=exif)
    frame = read_frame(path)
    assert frame.shape == (20, 16, 1) == (*decode(path).values.shape, 1)
    assert image_size(path) == (20, 16)
    assert (frame.spacing, frame.known_spacing, frame.coded) == ((1, 1, 1), False, False)
    np.testing.assert_array_equal(frame.affine, np.eye(4))


def test_the_frame_of_a_volume_is_what_nibabel_reads(tmp_path):
    affine = np.array([[-2.0, 0, 0, 5], [0, 0, 3, -7], [0, 1.5, 0, 9], [0, 0, 0, 1]])
    path = save_volume(tmp_path / "a.nii.gz", np.zeros((4, 5, 6), np.int16), affine)
    frame, other = read_frame(path), nib.load(path)
    assert frame.shape == other.shape
    np.testing.assert_allclose(frame.affine, other.affine)
    np.testing.assert_allclose(frame.spacing, other.header.get_zooms())
    assert frame.orientation == "".join(nib.aff2axcodes(other.affine)) == "LSA"
    assert frame.known_spacing


def test_names_stand_for_images_or_volumes(tmp_path):
    assert formats_of("a/b.NII.gz") is formats_of("b.nii") is formats_of_dims(3) is VOLUMES
    assert formats_of("a.nii.png") is formats_of("a") is formats_of_dims(2) is IMAGES
    assert (mask_suffix(tmp_path / "a.tif"), mask_suffix(tmp_path / "a.nii")) == (".png", ".nii.gz")
    assert IMAGES.named("x/A.JPEG")
    assert not IMAGES.named("x/a.nii")


def test_masks_are_written_as_goes_with_their_image(tmp_path):
    flat, deep = noise(2) > 99, noise(3, (4, 5, 6)) > 99
    write_mask(tmp_path / "out/a.png", flat, tmp_path / "a.jpg")  # tells nothing, need not be there
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "out/a.png")), flat * 255)
    volume = save_volume(tmp_path / "v.nii", np.zeros((4, 5, 6), np.float32))
    write_mask(tmp_path / "out/v.nii.gz", deep, volume)
    written = nib.load(tmp_path / "out/v.nii.gz")
    np.testing.assert_array_equal(np.asarray(written.dataobj), deep)
    assert written.get_data_dtype() == np.uint8
    np.testing.assert_array_equal(written.affine, nib.load(volume).affine)
    with pytest.raises(ValueError, match="nothing is written"):
        IMAGES.each[1].write(tmp_path / "a.jpg", flat, tmp_path / "a.jpg")


HEADS = {
    "a Git LFS pointer": b"version https://git-lfs.github.com/spec/v1\n",
    "half of a NIfTI pair (.hdr and .img)": b"\x5c\x01\0\0" + b"\0" * 340 + b"ni1\0",
    "an Analyze 7.5 header (.hdr), which does not tell left from right": b"\0\0\x01\x5c" * 90,
    "gzip data, perhaps a NIfTI volume": gzip.compress(b"x"),
    "a WebP or another RIFF file": b"RIFF" + bytes(20),
    "a JPEG 2000": b"\0\0\0\x0cjP  " + bytes(20),
    "an NRRD file": b"NRRD0004\n",
    "a PDF": b"%PDF-1.4",
    "HTML or XML text": b"<!DOCTYPE html>",
}


@pytest.mark.parametrize("foreign", FOREIGN, ids=lambda f: f.name)
@pytest.mark.parametrize("read", [decode, decode_volume])
def test_foreign_files_are_named_with_a_way_out(tmp_path, foreign, read):
    head = HEADS[foreign.name]
    if read is decode_volume and foreign.name.startswith("gzip"):
        head = gzip.compress(head)  # once packed, it would be unpacked
    (tmp_path / "a").write_bytes(head)
    with pytest.raises(DataError) as e:
        read(tmp_path / "a")
    noun = "volume" if read is decode_volume else "image"
    assert e.value.what.startswith("The file is not a")
    assert e.value.what.endswith(f" {noun}.")
    assert e.value.found == foreign.name
    formats = VOLUMES if read is decode_volume else IMAGES
    told = foreign.as_volume if read is decode_volume else foreign.as_image
    assert e.value.fix == (told or formats.remedy)


def test_images_among_volumes_and_volumes_among_images_are_named(tmp_path):
    save(tmp_path / "a.png", noise(1))
    with pytest.raises(DataError, match="not a NIfTI or DICOM volume") as e:
        decode_volume(tmp_path / "a.png")
    assert (e.value.found, str(e.value.fix)[:14]) == ("a 2D image", "list 2D images")
    save_volume(tmp_path / "a.nii", np.zeros((4, 5, 6), np.int16))
    with pytest.raises(DataError, match="not a PNG, JPEG") as e:
        decode(tmp_path / "a.nii")
    assert (e.value.found, str(e.value.fix)[:12]) == ("a NIfTI volume", "list volumes")


def test_a_package_that_lacks_is_named_with_the_command(tmp_path, monkeypatch):
    path = save(tmp_path / "a.png", noise(1))

    def needing(*modules: str) -> None:
        packages = tuple(Package(m, "pip install 'weakseg[pictures]'") for m in modules)
        each = (replace(PNG, packages=packages),)
        monkeypatch.setattr(reading, "IMAGES", replace(IMAGES, each=each))

    needing("json", "no_such_decoder")
    for read in (decode, lambda p: read_frame(p, reading.IMAGES)):
        with pytest.raises(DataError, match="format PNG are read with the help of no_such") as e:
            read(path)
        assert e.value.fix == "pip install 'weakseg[pictures]'"
        assert e.value.where == str(path)
    needing("json")
    assert decode(path).values.shape == (16, 20)
