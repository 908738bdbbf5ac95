"""The vote of neighbouring slices and the parts that go, by hand and by scikit-image."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from skimage.morphology import remove_small_objects

from weakseg.masks.clean_up import keep_parts, vote_along


def line(*values):
    return np.array(values, dtype=bool)[None, None]


@pytest.mark.parametrize(
    ("mask", "present", "reach", "expected"),
    [
        ("10100", "11111", 1, "11000"),  # a gap closes, a lone slice goes; at the end a tie stays
        ("10100", "11111", 0, "10100"),
        ("01110", "11111", 1, "01110"),
        ("10101", "10101", 1, "10101"),  # absent slices neither vote nor get a mask
        ("11011", "11111", 2, "11111"),
        ("00100", "11111", 1, "00000"),
        ("1", "1", 3, "1"),
    ],
)
def test_slices_vote(mask, present, reach, expected):
    bits = [line(*map(int, text)) for text in (mask, expected)]
    found = vote_along(bits[0], [c == "1" for c in present], reach)
    np.testing.assert_array_equal(found, bits[1])


def test_every_voxel_has_its_own_vote_and_slices_may_be_told_in_numbers():
    mask = np.stack([line(1, 0, 1, 0)[0], line(0, 0, 0, 1)[0]])
    found = vote_along(mask, [1, 1, 1, 0], 1)
    assert found.dtype == bool
    np.testing.assert_array_equal(found[:, 0], [[1, 1, 1, 0], [0, 0, 0, 0]])


def test_of_many_equal_parts_the_first_are_kept():
    mask = np.zeros((60, 2, 60), dtype=bool)
    mask[::2, 0, ::2] = True  # 900 single voxels
    mask[30, 1, 30] = True  # and one of two
    found = np.argwhere(keep_parts(mask, largest=4))
    assert found.tolist() == [[0, 0, 0], [0, 0, 2], [0, 0, 4], [30, 0, 30], [30, 1, 30]]


def test_of_the_largest_none_is_kept_that_is_too_small():
    mask = line(1, 1, 1, 0, 1, 0, 1, 1)
    kept = line(1, 1, 1, 0, 0, 0, 1, 1)
    np.testing.assert_array_equal(keep_parts(mask, min_voxels=2, largest=3), kept)


def test_parts_on_few_slices_and_small_ones_go():
    mask = np.zeros((9, 9, 5), dtype=bool)
    mask[0:3, 0:3, 2] = True  # 9 voxels on one slice
    mask[5:7, 5:7, 1:4] = True  # 12 voxels on three
    mask[8, 0, 0] = mask[7, 1, 1] = True  # 2 voxels that touch by a corner, on two slices
    assert keep_parts(mask, min_slices=2).sum() == 14
    assert keep_parts(mask, min_slices=3).sum() == 12
    assert keep_parts(mask, min_voxels=9).sum() == 21
    assert keep_parts(mask, min_voxels=10).sum() == 12
    assert keep_parts(mask, largest=1).sum() == 12
    assert keep_parts(mask, largest=2).sum() == 21
    assert keep_parts(mask, largest=9).sum() == mask.sum()
    assert keep_parts(mask, min_voxels=13).sum() == 0
    twins = line(1, 0, 1)
    np.testing.assert_array_equal(keep_parts(twins, largest=1), line(1, 0, 0))


@given(arrays.arrays(bool, st.tuples(*[st.integers(1, 6)] * 3)), st.integers(1, 8))
def test_small_parts_go_as_scikit_image_has_it(mask, least):
    expected = remove_small_objects(mask, max_size=least - 1, connectivity=3)
    np.testing.assert_array_equal(keep_parts(mask, min_voxels=least), expected)


def test_nonsense_is_refused():
    with pytest.raises(ValueError, match="X, Y, Z"):
        keep_parts(np.ones((3, 3)))
    with pytest.raises(ValueError, match="2 slices"):
        vote_along(np.ones((1, 1, 2)), [True], 1)
    with pytest.raises(ValueError, match="at least 0"):
        vote_along(np.ones((1, 1, 1)), [True], -1)
