"""Windows: which values of an image or a slice become black and white, as configured."""

import nibabel as nib
import numpy as np
import pytest

from tests.data.helpers import save, save_volume
from tests.dicom_files import CR, header, save_series, slices, voxels, with_pixels
from tests.dicom_files import save as save_dicom
from weakseg.config import DataConfig, parse_config
from weakseg.data.case_files import case_image, intensity_of, read_whole
from weakseg.data.cases import Case, Labels
from weakseg.data.images import scale_intensity
from weakseg.errors import ConfigError, DataError
from weakseg.methods.checks import check_settings

RAMP = np.arange(120, dtype=np.uint16).reshape(12, 10) * 30


def seen(path, z=None, **options):
    """What a network sees of a case, in [0, 1]."""
    data = DataConfig(**options)
    case = Case("c", path, "x", slice=z, volume="v" if z is not None else "")
    return scale_intensity(case_image(case, data), intensity_of(case, data))


def mapped(values, low, high):
    return np.clip((np.asarray(values, float) - low) / (high - low), 0, 1)


@pytest.fixture
def radiograph(tmp_path):
    def write(photometric="MONOCHROME2", **elements):
        data = with_pixels(header(CR), RAMP, photometric)
        data.RescaleSlope, data.RescaleIntercept = 2, -100
        for name, value in elements.items():
            setattr(data, name, value)
        return save_dicom(tmp_path / "r.dcm", data)

    return write


def test_a_window_of_dicom_is_in_rescaled_values(radiograph):
    found = seen(radiograph(), window=(1500, 2000))
    np.testing.assert_allclose(found, mapped(2 * RAMP - 100.0, 500, 2500), atol=1e-4)
    turned = seen(radiograph("MONOCHROME1"), window=(1500, 2000))
    np.testing.assert_allclose(turned, 1 - found, atol=1e-4)


def test_the_file_s_own_window_counts_alone_where_it_is_asked_for(radiograph):
    own = {"WindowCenter": 1500, "WindowWidth": 1000, "VOILUTFunction": "LINEAR_EXACT"}
    found = seen(radiograph(**own), window="file")
    np.testing.assert_allclose(found, mapped(2 * RAMP - 100.0, 1000, 2000), atol=1e-4)
    # Without one the range is that of the values, as of every deep image.
    low, high = np.percentile(2 * RAMP - 100.0, (0.5, 99.5))
    expected = mapped(2 * RAMP - 100.0, low, high)
    np.testing.assert_allclose(seen(radiograph(), window="file"), expected, atol=1e-4)
    np.testing.assert_allclose(seen(radiograph(**own), window="percentiles"), expected, atol=1e-4)


def test_a_window_of_other_images_is_in_their_stored_values(tmp_path):
    image = np.random.default_rng(0).integers(0, 256, (32, 33)).astype(np.uint8)
    path = save(tmp_path / "a.png", image)
    np.testing.assert_allclose(seen(path, window=(100, 50)), mapped(image, 75, 125), atol=1e-6)
    np.testing.assert_array_equal(seen(path, window="file"), seen(path))
    low, high = np.percentile(image, (0.5, 99.5))
    found = seen(path, window="percentiles")
    np.testing.assert_allclose(found, mapped(image, low, high), atol=1e-6)


def test_slices_of_nifti_have_a_window_in_the_file_s_values(tmp_path):
    values = np.random.default_rng(1).integers(-1000, 2000, (9, 8, 4)).astype(np.int16)
    image = nib.Nifti1Image(values, np.eye(4))
    image.header.set_slope_inter(0.5, 10)
    image.header["cal_min"], image.header["cal_max"] = -50, 450
    path = tmp_path / "v.nii.gz"
    nib.save(image, path)
    stored = np.asarray(nib.load(path).dataobj)[:, :, 2].T
    np.testing.assert_allclose(
        seen(path, 2, window=(40, 400)), mapped(stored, -160, 240), atol=1e-5
    )
    np.testing.assert_allclose(seen(path, 2, window="file"), mapped(stored, -50, 450), atol=1e-5)
    plain = save_volume(tmp_path / "w.nii.gz", values)
    np.testing.assert_array_equal(seen(plain, 2, window="file"), seen(plain, 2))
    np.testing.assert_array_equal(seen(plain, 2, window="percentiles"), seen(plain, 2))


@pytest.mark.parametrize("photometric", ["MONOCHROME2", "MONOCHROME1"])
def test_slices_of_series_have_the_window_of_the_slice_in_the_middle(tmp_path, photometric):
    made = slices(voxels(), slope=2, intercept=-10)
    for k, data in enumerate(made):
        data.PhotometricInterpretation = photometric
        data.WindowCenter, data.WindowWidth = (100, 601) if k == 4 else (0, 5)
    path = save_series(tmp_path / "s", made)
    values = voxels()[3] * 2.0 - 10
    expected = mapped(values, -200.5 + 0, 399.5)
    if photometric == "MONOCHROME1":
        expected = 1 - expected
    np.testing.assert_allclose(seen(path, 3, window="file"), expected, atol=1e-5)


@pytest.mark.parametrize("window", [[40, 0], [40, -1], [".nan", 3], [1, 2, 3], "bone"])
def test_windows_without_a_width_are_refused(window):
    with pytest.raises(ConfigError, match="window"):
        parse_config({"data": {"window": window}})


def test_a_window_is_part_of_the_data_and_its_absence_is_not():
    assert "window" not in DataConfig().fingerprint_settings()
    assert DataConfig(window=(40, 400)).fingerprint_settings()["window"] == [40, 400]


def test_of_whole_volumes_a_classifier_takes_a_window_and_segmenters_none(capsys):
    tree = {"data": {"window": [40, 400]}, "segmenters": {"net": {}}}
    labels = Labels(("normal",), ("tumor",))
    with pytest.raises(ConfigError, match="for their classifier, and there is none"):
        check_settings(parse_config(tree), labels, 1, 3)
    tree["classifier"] = {"arch": "mil:squeezenet1_1"}
    with pytest.raises(ConfigError, match="for their classifier, and there is none"):
        check_settings(parse_config(tree), Labels((), ("tumor",)), 1, 3)
    check_settings(parse_config(tree), labels, 1, 3)
    assert "data.window counts for the classifier" in capsys.readouterr().err


@pytest.mark.parametrize("window", ["auto", "file"])
def test_floats_without_a_range_are_refused_with_their_file(tmp_path, window):
    import tifffile

    path = tmp_path / "deep.tif"
    tifffile.imwrite(path, np.linspace(-1, 3, 12, dtype=np.float32).reshape(4, 3))
    case, data = Case("a", path, ""), DataConfig(intensity="dtype", window=window)
    for read in (case_image, read_whole):
        with pytest.raises(DataError, match=r"deep\.tif"):
            read(case, data)
