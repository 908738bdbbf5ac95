"""Targets in little memory: what comes out is what was put in."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from weakseg.data.patches import IGNORE
from weakseg.data.targets import PackedTargets

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
