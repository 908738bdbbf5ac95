"""What the files of a case hold: images and volumes by one set of questions."""

import numpy as np
import pytest

from tests.data.helpers import noise, save, save_volume
from weakseg.config import DataConfig
from weakseg.data.case_files import (
    as_planes,
    case_frame,
    case_image,
    case_spacing,
    case_truth,
    fullest_plane,
    read_whole,
    shown_intensity,
)
from weakseg.data.cases import Case
from weakseg.errors import DataError

DATA = DataConfig()
AFFINE = np.diag([1.5, 1.0, 4.0, 1.0]) + np.array([[0, 0, 0, 7.0]] + [[0] * 4] * 3)


@pytest.fixture
def volume(tmp_path):
    values = np.arange(5 * 4 * 3, dtype=np.int16).reshape(5, 4, 3)
    save_volume(tmp_path / "v.nii.gz", values, AFFINE)
    return Case("v", tmp_path / "v.nii.gz", "tumor"), values


def test_an_image_is_a_frame_of_one_slice(tmp_path):
    save(tmp_path / "a.png", noise(1))
    case = Case("a", tmp_path / "a.png", "x")
    image = case_image(case, DATA)
    assert case_frame(case).shape == (*image.shape[:2], 1)
    assert case_spacing(case) is None
    planes = as_planes(case, image)
    assert len(planes) == 1
    np.testing.assert_array_equal(planes[0], image)
    assert fullest_plane(case, image > 0) == 0
    assert shown_intensity(case, DATA) == "auto"


def test_planes_of_a_volume_are_as_viewers_show_them(volume):
    case, values = volume
    found = case_image(case, DATA)
    np.testing.assert_array_equal(found, values)
    planes = as_planes(case, found)
    assert planes.shape == (3, 4, 5)
    for z in range(3):  # X to the right, Y upwards
        for x in range(5):
            for y in range(4):
                assert planes[z][3 - y, x] == values[x, y, z]
    assert case_spacing(case) == (1.5, 1.0, 4.0)
    assert shown_intensity(case, DATA) == "percentile"
    mask = np.zeros(values.shape, dtype=bool)
    mask[0, 0, 1] = mask[1:3, 0, 2] = True
    assert fullest_plane(case, mask) == 2


def test_a_truth_is_none_where_none_is_named(volume, tmp_path):
    case, values = volume
    assert case_truth(case, DATA) is None
    save_volume(tmp_path / "m.nii.gz", (values > 30).astype(np.uint8), AFFINE)
    masked = Case("v", case.image, "tumor", tmp_path / "m.nii.gz")
    np.testing.assert_array_equal(case_truth(masked, DATA), values > 30)


def test_every_file_of_a_case_is_read(volume, tmp_path):
    case, values = volume
    read_whole(case)
    save_volume(tmp_path / "w.nii.gz", values[:4], AFFINE)
    with pytest.raises(DataError, match="different grids"):
        read_whole(Case("v", case.image, "x", more=(tmp_path / "w.nii.gz",)))
