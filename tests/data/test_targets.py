"""Targets in little memory: what comes out is what was put in."""

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from tests.data.helpers import save_volume
from weakseg.data.cases import Case
from weakseg.data.images import write_grey
from weakseg.data.patches import IGNORE
from weakseg.data.targets import PackedTargets, read_target, write_target

SHAPES = hnp.array_shapes(min_dims=2, max_dims=3, min_side=1, max_side=9)


@given(st.lists(hnp.arrays(np.uint8, SHAPES, elements=st.sampled_from([0, 1, IGNORE])), max_size=4))
def test_targets_go_round(arrays):
    targets = PackedTargets()
    for i, array in enumerate(arrays):
        targets[3 * i] = array
    assert list(targets) == [3 * i for i in range(len(arrays))]
    assert len(targets) == len(arrays)
    for i, target in targets.items():
        assert target.dtype == np.uint8
        np.testing.assert_array_equal(target, arrays[i // 3])
    assert 1 not in targets
    with pytest.raises(KeyError):
        targets[1]


@pytest.mark.parametrize(("values", "bits"), [([0, 1], 1), ([0, 1, IGNORE], 2)])
def test_a_pixel_takes_one_bit_or_two(values, bits):
    targets = PackedTargets()
    for i in range(5):
        targets[i] = np.random.default_rng(i).choice(np.array(values, dtype=np.uint8), (64, 64))
    assert targets.nbytes == 5 * 64 * 64 * bits // 8


AFFINE = np.diag([2.0, 1.0, 3.0, 1.0])
SHAPE = (6, 5, 4)


@pytest.fixture
def volume(tmp_path):
    path = tmp_path / "v.nii.gz"
    save_volume(path, np.random.default_rng(0).normal(size=SHAPE), AFFINE)
    return path


def drawn(shape, seed):
    return np.random.default_rng(seed).choice(np.array([0, 1, IGNORE], dtype=np.uint8), shape)


def test_a_target_of_a_volume_lies_on_the_volume_and_is_read_again(volume, tmp_path):
    case, target = Case("v", volume, "tumor"), drawn(SHAPE, 1)
    write_target(tmp_path / "t.nii.gz", [case], [target])
    held = nib.load(tmp_path / "t.nii.gz")
    np.testing.assert_allclose(held.affine, AFFINE)
    found = np.asanyarray(held.dataobj)
    np.testing.assert_array_equal(found == 128, target == IGNORE)
    np.testing.assert_array_equal(found == 255, target == 1)
    np.testing.assert_array_equal(read_target(tmp_path / "t.nii.gz", case), target)


def test_targets_of_slices_share_a_file_and_are_read_again(volume, tmp_path):
    cases = [Case(f"v_{z}", volume, "tumor", slice=z) for z in range(4)]
    targets = [drawn((5, 6), z) for z in (0, 1, 3)]
    write_target(tmp_path / "t.nii.gz", [cases[z] for z in (0, 1, 3)], targets)
    for z, target in zip((0, 1, 3), targets, strict=True):
        np.testing.assert_array_equal(read_target(tmp_path / "t.nii.gz", cases[z]), target)
    assert not read_target(tmp_path / "t.nii.gz", cases[2]).any()


def test_a_target_of_a_picture_is_read_again(tmp_path):
    write_grey(tmp_path / "i.png", np.arange(30, dtype=np.uint8).reshape(5, 6))
    case, target = Case("i", tmp_path / "i.png", "tumor"), drawn((5, 6), 2)
    write_target(tmp_path / "t.png", [case], [target])
    np.testing.assert_array_equal(read_target(tmp_path / "t.png", case), target)
