"""Rows of ``lesions.csv``: the unit is that of the numbers beside it."""

import numpy as np
import pytest

from tests.data.helpers import save_volume
from tests.dicom_files import CR, header, save, with_pixels
from weakseg.config import DataConfig
from weakseg.data.cases import Case
from weakseg.methods.lesions import lesion_rows, lesion_values, rows_version

MASK = np.zeros((32, 32), bool)
MASK[4:14, 4:24] = True
"""Ten rows of twenty pixels."""


def only_row(path, mask):
    case = Case("a", path, "")
    values = lambda: lesion_values(case, DataConfig())  # noqa: E731
    (row,) = lesion_rows(case, mask, mask.astype(np.float32), lambda at: None, values)
    return row


def radiograph(path, **elements):
    values = np.arange(1024, dtype=np.uint16).reshape(32, 32)
    return save(path, with_pixels(header(CR, **elements), values))


def test_a_2d_dicom_file_that_tells_its_spacing_is_measured_in_mm(tmp_path):
    row = only_row(radiograph(tmp_path / "a.dcm", PixelSpacing=[0.5, 0.25]), MASK)
    assert (row["unit"], row["pixels"], row["size"]) == ("mm", 200, 200 * 0.5 * 0.25)
    assert row["diameter"] == pytest.approx(np.hypot(9 * 0.5, 19 * 0.25), abs=1e-3)
    assert (row["x"], row["y"], row["z"]) == (13.5, 8.5, 0.0)  # its place is column and row


def test_only_images_that_may_tell_their_spacing_have_rows_of_another_version(tmp_path):
    dicom = Case("a", radiograph(tmp_path / "a.dcm"), "")
    unnamed = Case("b", radiograph(tmp_path / "b"), "")
    others = [Case("c", tmp_path / name, "") for name in ("c.png", "c.TIFF", "c.jpg", "c.nii.gz")]
    others.append(Case("d", tmp_path / "d.nii", "", slice=3))
    assert rows_version(others) == []
    assert rows_version([dicom]) == rows_version([*others, unnamed]) == [2]


def test_one_that_does_not_is_measured_in_pixels(tmp_path):
    row = only_row(radiograph(tmp_path / "a.dcm"), MASK)
    assert (row["unit"], row["size"]) == ("pixels", 200)
    assert row["diameter"] == pytest.approx(np.hypot(9, 19), abs=1e-3)


@pytest.mark.parametrize("told", [True, False])
def test_volumes_likewise(tmp_path, told):
    affine = np.diag([0.5, 2, 3, 1]) if told else np.eye(4)
    path = save_volume(tmp_path / "v.nii.gz", np.zeros((32, 32, 4), np.int16), affine)
    row = only_row(path, np.stack([MASK] * 2 + [~MASK & MASK] * 2, axis=2))
    assert (row["unit"], row["size"]) == (("mm", 400 * 3.0) if told else ("voxels", 400))
