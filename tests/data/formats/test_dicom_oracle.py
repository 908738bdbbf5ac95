"""DICOM files are read as SimpleITK reads them: those that come with pydicom, and made-up ones."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pydicom
import pytest
import SimpleITK as sitk  # noqa: N813  (its usual name)

from tests.dicom_files import (
    enhanced,
    placed,
    save,
    save_series,
    slices,
    voxels,
    with_pixels,
)
from tests.dicom_files import header as made_header
from weakseg.data.case_files import case_spacing
from weakseg.data.cases import Case
from weakseg.data.formats.dicom.codecs import frames
from weakseg.data.formats.dicom.display import rescaled, shown_samples
from weakseg.data.formats.dicom.header import read_header
from weakseg.data.formats.reading import read_frame
from weakseg.data.formats.registry import IMAGES, VOLUMES, formats_of
from weakseg.data.formats.writing import mask_suffix, write_mask
from weakseg.data.images import read_image
from weakseg.data.volumes import read_volume, write_volume
from weakseg.errors import DataError

ROOT = Path(__file__).resolve().parents[3]
BUNDLED = Path(pydicom.__file__).parent / "data" / "test_files"
"""Files that come with pydicom."""

GREY = (
    *("693_J2KI", "CT_small", "J2K_pixelrep_mismatch", "JPEG-lossy", "JPEG2000"),
    *("JPEGLSNearLossless_08", "JPEGLSNearLossless_16", "JPGExtended", "MR_small"),
    *("MR_small_RLE", "MR_small_bigendian", "MR_small_expb", "MR_small_implicit"),
    *("MR_small_jp2klossless", "MR_small_jpeg_ls_lossless", "MR_small_padded"),
    *("examples_overlay", "image_dfl"),
)
COLOUR = (
    *("ExplVR_BigEnd", "GDCMJ2K_TextGBR", "SC_jpeg_no_color_transform", "SC_rgb_gdcm_KY"),
    *("SC_jpeg_no_color_transform_2", "SC_rgb_dcmtk_+eb+cr", "SC_rgb_jls_lossy_line"),
    *("SC_rgb_jls_lossy_sample", "SC_rgb_jpeg", "SC_rgb_jpeg_app14_dcmd", "SC_rgb_jpeg_dcmd"),
    *("SC_rgb_jpeg_gdcm", "SC_rgb_rle", "SC_rgb_small_odd"),
    *("SC_rgb_small_odd_big_endian", "examples_jpeg2k", "examples_palette", "examples_rgb_color"),
    "SC_ybr_full_422_uncompressed",
)
# Lossy JPEG in YBR: libraries differ by a step or two of rounding in the transform to RGB.
NEARLY = (
    *("SC_rgb_dcmtk_+eb+cy+n1", "SC_rgb_dcmtk_+eb+cy+n2", "SC_rgb_dcmtk_+eb+cy+np"),
    *("SC_rgb_dcmtk_+eb+cy+s2", "SC_rgb_dcmtk_+eb+cy+s4", "SC_rgb_jpeg_dcmtk"),
    *("SC_rgb_jpeg_lossy_gdcm", "SC_rgb_small_odd_jpeg"),
)
INNER = ("77654033/CR*/*", "77654033/CT*/*", "98892001/*/*", "98892003/*/*")


def theirs(path: Path) -> np.ndarray:
    """(frames, M, N[, 3]) as SimpleITK reads it, modality values of grey images."""
    sitk.ProcessObject.SetGlobalWarningDisplay(False)
    return sitk.GetArrayFromImage(sitk.ReadImage(str(path)))


def ours(path: Path) -> np.ndarray:
    """The first frame, rescaled where it is grey; colours as they are shown."""
    with path.open("rb") as f:
        data = read_header(f, whole=True)
    values = next(frames(data, str(path)))
    if values.ndim == 3 or data.PhotometricInterpretation == "PALETTE COLOR":
        return shown_samples(data, values, str(path))
    if data.PhotometricInterpretation == "MONOCHROME1":  # which SimpleITK turns round as well
        values = 2**data.BitsStored - 1 - values
    return rescaled(data, values, str(path))


@pytest.mark.parametrize("name", [*GREY, *COLOUR])
def test_bundled_files_hold_the_values_that_simpleitk_reads(name):
    path = BUNDLED / f"{name}.dcm"
    np.testing.assert_allclose(ours(path), theirs(path)[0], rtol=1e-12)
    assert read_image(path).shape[:2] == read_frame(path).shape[:2] == theirs(path).shape[1:3]


@pytest.mark.parametrize("name", NEARLY)
def test_lossy_colours_differ_by_rounding_alone(name):
    path = BUNDLED / f"{name}.dcm"
    assert np.abs(ours(path).astype(int) - theirs(path)[0]).max() <= 4


def test_slices_of_the_bundled_media_hold_the_values_that_simpleitk_reads():
    files = [f for pattern in INNER for f in (BUNDLED / "dicomdirtests").glob(pattern)]
    assert len(files) == 31
    for path in files:
        np.testing.assert_allclose(ours(path), theirs(path)[0], rtol=1e-12)


def test_deep_colours_are_those_of_the_same_picture_in_8_bits():
    # SimpleITK mixes up the planes of these two files.
    flat = ours(BUNDLED / "SC_rgb_rle.dcm").astype(np.uint16)
    for name in ("SC_rgb_rle_16bit", "SC_rgb_rle_32bit"):
        np.testing.assert_array_equal(ours(BUNDLED / f"{name}.dcm"), flat * 257)


NO_IMAGES = {
    "reportsi.dcm": "structured report",
    "test-SR.dcm": "structured report",
    "rtstruct.dcm": "contours",
    "rtplan.dcm": "plan",
    "rtdose.dcm": "dose",
    "liver_1frame.dcm": "segmentation",
    "waveform_ecg.dcm": "waveform",
    "dicomdirtests/DICOMDIR": "DICOMDIR",
    "dicomdirtests/DICOMDIR-bigEnd": "DICOMDIR",
    "priv_SQ.dcm": "without pixels",
}


@pytest.mark.parametrize("name", NO_IMAGES)
def test_bundled_files_without_an_image_are_named_for_what_they_are(name):
    with pytest.raises(DataError, match="holds no image") as e:
        read_image(BUNDLED / name)
    assert NO_IMAGES[name] in e.value.render()


def test_bundled_files_that_are_cut_or_are_films_are_refused():
    with pytest.raises(DataError, match="truncated") as e:
        read_image(BUNDLED / "MR_truncated.dcm")
    assert e.value.found == "8130 bytes of pixels"
    with pytest.raises(DataError, match="another size"):
        read_image(BUNDLED / "JPEG2000-embedded-sequence-delimiter.dcm")
    film = BUNDLED / "examples_ybr_color.dcm"
    assert formats_of(film) is IMAGES
    with pytest.raises(DataError, match="several frames"):
        read_image(film)


def as_itk(folder: Path) -> sitk.Image:
    """A series as SimpleITK sorts and reads it."""
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(folder)))
    return reader.Execute()


def itk_affine(image: sitk.Image) -> np.ndarray:
    """(4, 4) from indices to mm, right, anterior, superior."""
    affine = np.eye(4)
    affine[:3, :3] = np.array(image.GetDirection()).reshape(3, 3) * image.GetSpacing()
    affine[:3, 3] = image.GetOrigin()
    return np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine


def same_as_itk(path: Path, image: sitk.Image) -> None:
    volume = read_volume(path)
    np.testing.assert_allclose(volume.affine, itk_affine(image), atol=1e-3)
    np.testing.assert_allclose(volume.spacing, image.GetSpacing(), rtol=1e-5)
    expected = sitk.GetArrayFromImage(image).transpose(2, 1, 0)
    np.testing.assert_allclose(volume.values, expected, rtol=1e-6)


def test_the_bundled_ct_series_has_values_geometry_and_order_of_simpleitk():
    folder = BUNDLED / "dicomdirtests" / "98892001" / "CT5N"
    same_as_itk(folder, as_itk(folder))
    assert read_frame(folder).shape == (16, 16, 5)


OBLIQUE = (0.96, 0.28, 0, -0.168, 0.576, 0.8)
SERIES = {
    "plain": {},
    "oblique": {"orientation": OBLIQUE, "step": 1.7},
    "sagittal": {"orientation": (0, 1, 0, 0, 0, -1)},
    "rescaled": {"slope": 0.5, "intercept": -1024},
}


@pytest.mark.parametrize("name", SERIES)
def test_series_have_values_geometry_and_order_of_simpleitk(tmp_path, name):
    save_series(tmp_path, slices(voxels(), **SERIES[name]))
    assert formats_of(tmp_path) is VOLUMES
    same_as_itk(tmp_path, as_itk(tmp_path))


def test_an_enhanced_object_is_a_volume_sorted_by_place(tmp_path):
    values = voxels(6)
    path = save(tmp_path / "frames.dcm", enhanced(values))
    assert formats_of(path) is VOLUMES
    volume = read_volume(path)
    np.testing.assert_array_equal(volume.values, values[::-1].transpose(2, 1, 0) * 2.0 - 5)
    image = sitk.ReadImage(str(path))  # which keeps the order of the file
    np.testing.assert_allclose(volume.spacing, image.GetSpacing())
    last = itk_affine(image) @ [0, 0, len(values) - 1, 1]
    np.testing.assert_allclose(volume.affine[:3, 3], last[:3] * [1, 1, 1], atol=1e-3)


def test_each_slice_has_its_own_slope(tmp_path):
    made = slices(voxels(4))
    for k, data in enumerate(made):
        data.RescaleSlope, data.RescaleIntercept = k + 1, -k
    save_series(tmp_path, made)
    same_as_itk(tmp_path, as_itk(tmp_path))


@pytest.mark.parametrize("name", SERIES)
def test_what_is_written_beside_a_series_lies_on_it(tmp_path, name):
    series = save_series(tmp_path / "series", slices(voxels(), **SERIES[name]))
    frame = read_frame(series)
    mask = np.random.default_rng(0).random(frame.shape) > 0.5
    out, heat = tmp_path / f"m{mask_suffix(series)}", tmp_path / "h.nii.gz"
    write_mask(out, mask, series)
    write_volume(heat, mask / 3, series)
    for path in (out, heat):
        written, origin = sitk.ReadImage(str(path)), as_itk(series)
        np.testing.assert_allclose(itk_affine(written), itk_affine(origin), atol=1e-3)
        np.testing.assert_allclose(nib.load(path).affine, frame.affine, atol=1e-4)
    np.testing.assert_array_equal(sitk.GetArrayFromImage(sitk.ReadImage(str(out))).T, mask)
    assert nib.load(out).header["sform_code"] == nib.load(out).header["qform_code"] == 1


def test_a_single_slice_keeps_its_place_and_tells_no_third_spacing(tmp_path):
    values = voxels(1)[0]
    data = placed(with_pixels(made_header(), values), (1, 2, 3), orientation=OBLIQUE)
    path = save(tmp_path / "a.dcm", data)
    frame = read_frame(path, IMAGES)
    assert (frame.shape, frame.spacing, frame.known_spacing) == ((12, 10, 1), (0.8, 0.7, 1.0), True)
    image = sitk.ReadImage(str(path))
    for row, column in ((0, 0), (11, 0), (0, 9), (5, 7)):
        point = image.TransformIndexToPhysicalPoint((column, row, 0))
        np.testing.assert_allclose(
            (frame.affine @ [row, column, 0, 1])[:3] * [-1, -1, 1], point, atol=1e-3
        )
    assert case_spacing(Case("a", path, "")) is None


def test_the_page_lists_the_files_that_were_read():
    page = (ROOT / "docs/dicom.md").read_text()
    for names in (GREY, COLOUR, NEARLY, NO_IMAGES):
        assert f"| {len(names)} | {', '.join(f'`{n}`' for n in names)} |" in page
