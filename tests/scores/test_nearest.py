"""The nearest border pixel against distance transforms, and other sums to the last bit."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import distance_transform_edt
from sklearn.metrics import average_precision_score

from weakseg.scores import pixel_average_precision, surface_distances
from weakseg.scores.nearest import border_distances
from weakseg.scores.surface import _percentile

from .blobs import blob, filled_pairs

STEPS = st.sampled_from([0.37, 1.0, 4.0])


def by_transform(first, second, spacing):
    """From Euclidean distance transforms of the whole image."""
    to_second = distance_transform_edt(~second, sampling=spacing)
    to_first = distance_transform_edt(~first, sampling=spacing)
    return to_second[first], to_first[second]


@given(filled_pairs(8), st.tuples(STEPS, STEPS, STEPS), st.booleans())
@settings(max_examples=100, deadline=None)
def test_distances_are_those_of_transforms(pair, steps, equal):
    first, second = pair
    spacing = (steps[0],) * first.ndim if equal else steps[: first.ndim]
    expected = by_transform(first, second, spacing)
    for a, b in zip(border_distances(first, second, spacing), expected, strict=True):
        assert a.dtype == np.float64
        np.testing.assert_allclose(a, b, rtol=1e-12, atol=0)


def test_large_borders_and_noise():
    shape = (120, 90)
    pairs = [
        (blob(shape, 3), blob(shape, 4)),
        tuple(np.random.default_rng(1).random((2, *shape)) > 0.5),
    ]
    for first, second in pairs:
        found, expected = (f(first, second, (1.0, 1.0)) for f in (border_distances, by_transform))
        for a, b in zip(found, expected, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-12)
        assert len(surface_distances(first, second)[0]) <= len(found[0])


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
