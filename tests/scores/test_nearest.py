"""Three ways to the nearest border pixel that must not differ."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import distance_transform_edt
from sklearn.metrics import average_precision_score

from weakseg.scores import nearest, pixel_average_precision, surface_distances
from weakseg.scores.nearest import WAYS, border_distances, cheapest_way
from weakseg.scores.surface import _percentile

from .blobs import blob, filled_pairs

STEPS = st.sampled_from([0.37, 1.0, 4.0])


@given(filled_pairs(8), st.tuples(STEPS, STEPS, STEPS), st.booleans())
@settings(max_examples=100, deadline=None)
def test_all_ways_agree(pair, steps, equal):
    first, second = pair
    spacing = (steps[0],) * first.ndim if equal else steps[: first.ndim]
    expected = WAYS["map"](first, second, spacing)
    for way in WAYS.values():
        for a, b in zip(way(first, second, spacing), expected, strict=True):
            assert a.dtype == np.float64
            np.testing.assert_allclose(a, b, rtol=1e-12, atol=0)


def test_exact_to_the_last_bit_at_the_largest_side_of_a_table_in_single_precision():
    side = nearest._EXACT_SIDE
    first, second = np.zeros((2, side, side), bool)
    first[0, 0] = first[-1, :3] = second[-1, -1] = second[5, ::7] = True
    assert nearest._is_whole(first.shape, (1.0, 1.0))
    assert not nearest._is_whole((side + 1, side), (1.0, 1.0))
    for a, b in zip(
        WAYS["table"](first, second, (1, 1)), WAYS["map"](first, second, (1, 1)), strict=True
    ):
        np.testing.assert_array_equal(a, b)


def test_the_way_follows_the_borders():
    small = blob((24, 24), 1)
    assert cheapest_way(small, blob((24, 24), 2), (1, 1)) == "table"
    noise = np.random.default_rng(0).random((2, 300, 300)) > 0.5
    assert cheapest_way(*noise, (1, 1)) == "map"
    far = np.zeros((2, 2000, 2000), bool)
    far[:, ::2, 0] = True
    far[1, 0] = True
    assert cheapest_way(*far, (1, 1)) == "tree"


def test_large_borders_of_each_way_equal_to_transforms_of_the_whole_image():
    """Through the door, without naming a way."""
    shape = (120, 90)
    pairs = [
        (blob(shape, 3), blob(shape, 4)),
        tuple(np.random.default_rng(1).random((2, *shape)) > 0.5),
    ]
    for first, second in pairs:
        maps = [distance_transform_edt(~m) for m in (first, second)]
        there, back = border_distances(first, second, (1.0, 1.0))
        np.testing.assert_allclose(there, maps[1][first], rtol=1e-12)
        np.testing.assert_allclose(back, maps[0][second], rtol=1e-12)
        assert len(surface_distances(first, second)[0]) <= len(there)


@given(
    st.lists(st.floats(0, 1e6), min_size=1, max_size=60), st.sampled_from([0.0, 50.0, 95.0, 100.0])
)
@settings(max_examples=200, deadline=None)
def test_percentile_is_numpys_to_the_last_bit(values, percent):
    assert _percentile(np.array(values), percent) == np.percentile(values, percent)


@pytest.mark.parametrize("levels", [3, 50, 10**6])
@pytest.mark.parametrize("share", [0.01, 0.4, 1.0])
def test_average_precision_equal_to_scikit_learn_with_and_without_ties(levels, share):
    rng = np.random.default_rng(levels)
    heat, truth = rng.integers(levels, size=(31, 40)), rng.random((31, 40)) < share
    expected = average_precision_score(truth.ravel(), heat.ravel())
    assert pixel_average_precision(heat, truth) == pytest.approx(expected, rel=1e-12)
