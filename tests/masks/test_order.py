"""The k-th smallest value, against sorting."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from weakseg.masks.order import kth_smallest

FLOATS = st.sampled_from([np.float16, np.float32, np.float64]).flatmap(
    lambda kind: hnp.arrays(
        kind,
        hnp.array_shapes(min_dims=1, max_dims=3, max_side=5),
        elements={"allow_nan": False},
    )
)


@settings(max_examples=40)
@given(FLOATS, st.data())
def test_it_is_what_sorting_finds(values: np.ndarray, data: st.DataObject) -> None:
    k = data.draw(st.integers(0, values.size - 1))
    parts = values if values.ndim > 1 else [values[::2], values[1::2]]
    before = values.copy()
    assert kth_smallest(parts, k) == np.sort(values, axis=None)[k]
    np.testing.assert_array_equal(values, before)  # nothing is changed


def test_values_that_share_their_first_digits():
    values = np.float32(1) + np.arange(5, dtype=np.float32)[::-1] * np.float32(2**-23)
    assert [kth_smallest([values], k) for k in range(5)] == sorted(values.tolist())


@pytest.mark.parametrize("kind", [">f2", "<f4", ">f4", ">f8"])
def test_bytes_may_be_in_either_order(kind: str) -> None:
    values = np.array([[3.5, -1.0, 0.25], [2.0, -7.0, 2.0]], dtype=kind)
    assert [kth_smallest(values, k) for k in range(6)] == [-7, -1, 0.25, 2, 2, 3.5]


@pytest.mark.parametrize("k", [-1, 3])
def test_there_is_no_such_place(k: int) -> None:
    with pytest.raises(ValueError, match=f"there are 3 values, and none at place {k}"):
        kth_smallest([np.ones(3, np.float32)], k)
