"""The box that holds most of a mask, against trying all of them."""

from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from weakseg.masks.fullest_box import fullest_box


@given(hnp.arrays(bool, hnp.array_shapes(min_dims=1, max_dims=3, max_side=6)), st.integers(1, 7))
@settings(max_examples=50)
def test_no_box_holds_more(mask, side):
    box = fullest_box(mask, side)
    sides = [min(side, n) for n in mask.shape]
    assert [s.stop - s.start for s in box] == sides
    starts = product(*(range(n - k + 1) for n, k in zip(mask.shape, sides, strict=True)))
    every = (
        mask[tuple(slice(f, f + k) for f, k in zip(first, sides, strict=True))].sum()
        for first in starts
    )
    assert mask[box].sum() == max(every)


def test_it_lies_around_what_it_holds():
    mask = np.zeros((20, 9, 3), bool)
    mask[9:12, 0, 1] = True
    assert fullest_box(mask, 5) == (slice(8, 13), slice(0, 5), slice(0, 3))
    assert fullest_box(np.zeros((4, 4)), 2) == (slice(0, 2), slice(0, 2))
    with pytest.raises(ValueError, match="at least 1, got 0"):
        fullest_box(mask, 0)
