"""Scores of heatmaps."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.ndimage import binary_dilation, gaussian_filter
from torchmetrics.functional.classification import binary_average_precision

from weakseg.scores import energy_inside, pixel_average_precision, pointing_game

from .blobs import blob

ALL = (pixel_average_precision, pointing_game, energy_inside)
# Whole numbers, so that a change of scale neither makes nor breaks a tie.
HEAT = hnp.arrays(
    np.int64, hnp.array_shapes(min_dims=2, max_dims=3, max_side=7), elements=st.integers(-9, 9)
)


def step_area(heat, lesion):
    """Average precision from its definition: threshold by threshold."""
    area, before = 0.0, 0.0
    for cut in np.unique(heat)[::-1]:
        taken = heat >= cut
        found = (taken & lesion).sum() / lesion.sum()
        area += (found - before) * (taken & lesion).sum() / taken.sum()
        before = found
    return area


@pytest.mark.parametrize("shape", [(20, 33), (10, 12, 8)])
@pytest.mark.parametrize("seed", range(3))
def test_average_precision_equal_to_torchmetrics(shape, seed):
    truth = blob(shape, seed)
    noise = np.random.default_rng(seed).random(shape)
    heat = gaussian_filter(truth.astype(float), 2) + 0.3 * noise
    heat = np.round(heat, 2)
    oracle = binary_average_precision(torch.from_numpy(heat / 2), torch.from_numpy(truth).int())
    assert pixel_average_precision(heat, truth) == pytest.approx(float(oracle), rel=1e-4)
    assert pixel_average_precision(heat, truth) == pytest.approx(step_area(heat, truth))


def test_average_precision_by_hand():
    heat = [[0.9, 0.8, 0.7, 0.1]]
    assert pixel_average_precision(heat, [[1, 0, 1, 0]]) == pytest.approx((1 + 2 / 3) / 2)
    assert pixel_average_precision(heat, [[1, 1, 0, 0]]) == 1
    assert pixel_average_precision(np.ones((1, 4)), [[1, 0, 0, 0]]) == pytest.approx(0.25)
    assert pixel_average_precision(heat, np.ones((1, 4))) == 1


def test_pointing_by_hand():
    truth = np.zeros((9, 9), bool)
    truth[4, 4] = True
    for place, reach in [((4, 4), 0), ((4, 6), 2), ((6, 6), 2 * 2**0.5), ((0, 4), 4)]:
        heat = np.zeros((9, 9))
        heat[place] = 3.0
        assert pointing_game(heat, truth, tolerance=reach) == 1
        if reach:
            assert pointing_game(heat, truth, tolerance=reach - 0.01) == 0
            assert pointing_game(heat, truth) == 0


def test_pointing_with_ties_is_a_random_pick():
    truth = np.array([[1, 1, 0, 0, 0]], dtype=bool)
    assert pointing_game([[5, 0, 5, 5, 5]], truth) == 0.25
    assert pointing_game([[5, 5, 0, 0, 0]], truth) == 1
    assert pointing_game([[5, 0, 5, 5, 0]], truth, tolerance=1) == pytest.approx(2 / 3)


@pytest.mark.parametrize("value", [0.0, 1.0, -3.0])
def test_a_flat_map_points_nowhere_even_on_a_lesion_that_fills_the_image(value):
    flat = np.full((5, 5), value)
    assert pointing_game(flat, np.ones((5, 5), bool)) == 0
    assert pointing_game(flat, np.eye(5, dtype=bool), tolerance=9) == 0


def test_energy_by_hand():
    truth = np.array([[1, 1, 0, 0]], dtype=bool)
    assert energy_inside([[3.0, -5.0, 1.0, -2.0]], truth) == 0.75
    assert energy_inside([[-3.0, 0.0, -1.0, -2.0]], truth) == 0
    assert energy_inside([[0.0, 0.0, 0.0, 7.0]], truth) == 0
    assert energy_inside([[1.0, 0.0, 0.0, -9.0]], truth) == 1
    assert energy_inside(np.full((1, 4), 2.0), truth) == 0.5


@pytest.mark.parametrize("scale", [1e-300, 1e300])
def test_energy_survives_extreme_scales(scale):
    heat = np.array([[3.0, 1.0, 1.0, 1.0]] * 8) * scale
    truth = np.zeros((8, 4), bool)
    truth[:, 0] = True
    assert energy_inside(heat, truth) == pytest.approx(0.5)


@given(HEAT, st.data())
@settings(max_examples=60, deadline=None)
def test_range_scale_and_order(heat, data):
    truth = data.draw(hnp.arrays(np.bool_, heat.shape))
    for score in ALL:
        value = score(heat, truth)
        if not truth.any():
            assert np.isnan(value)
            continue
        assert 0 <= value <= 1
        assert score(4.0 * heat, truth) == pytest.approx(value)
        axes = tuple(reversed(range(heat.ndim)))
        assert score(heat.transpose(axes), truth.transpose(axes)) == pytest.approx(value)
    if truth.any():
        for score in (pixel_average_precision, pointing_game):
            assert score(heat + 5, truth) == score(np.exp(heat / 4), truth) == score(heat, truth)
        assert energy_inside(np.clip(heat, 0, None), truth) == energy_inside(heat, truth)
        if not truth.all():
            assert pixel_average_precision(truth, truth) == pointing_game(truth, truth) == 1
            assert energy_inside(truth, truth) == 1
            assert pointing_game(~truth, truth) == energy_inside(~truth, truth) == 0


@given(HEAT, st.data())
@settings(max_examples=40, deadline=None)
def test_a_tolerance_of_one_is_a_dilation(heat, data):
    truth = data.draw(hnp.arrays(np.bool_, heat.shape))
    if not truth.any():
        truth.flat[0] = True
    near = binary_dilation(truth)
    assert pointing_game(heat, truth, tolerance=1) == pointing_game(heat, near)
    assert pointing_game(heat, near) >= pointing_game(heat, truth)


def test_half_precision_is_read_as_it_is():
    heat = np.array([[1, 2, 3, 4]], dtype=np.float16)
    for score in ALL:
        assert score(heat, [[0, 0, 1, 1]]) == score(heat.astype(float), [[0, 0, 1, 1]]) > 0


@pytest.mark.parametrize("score", ALL)
def test_errors(score):
    truth = np.eye(3, dtype=bool)
    with pytest.raises(ValueError, match=r"heatmap must have the shape of truth, \(3, 3\).*\(3, 4"):
        score(np.zeros((3, 4)), truth)
    for bad in (np.nan, np.inf):
        heat = np.zeros((3, 3))
        heat[1, 1] = bad
        with pytest.raises(ValueError, match="heatmap must be finite, got 1 "):
            score(heat, truth)
        with pytest.raises(ValueError, match="heatmap must be finite"):
            score(heat, np.zeros((3, 3), bool))
    with pytest.raises(ValueError, match="heatmap must hold real numbers, got type <U1"):
        score(np.full((3, 3), "a"), truth)
    with pytest.raises(ValueError, match="truth must hold booleans"):
        score(np.zeros((3, 3)), np.full((3, 3), 255))


@pytest.mark.parametrize("tolerance", [-1, np.nan, np.inf])
def test_tolerance_must_be_a_length(tolerance):
    with pytest.raises(ValueError, match="tolerance must be a number of pixels"):
        pointing_game(np.eye(3), np.eye(3), tolerance=tolerance)


def test_all_the_energy_inside_is_no_more_than_all():
    """Sums of the same numbers in another order, of which some exceed the whole in the last bit."""
    rng = np.random.default_rng(0)
    raw = []
    for _ in range(60):
        heat = rng.normal(size=(9, 9))
        positive = np.maximum(heat, 0) / heat.max()
        raw.append(positive[heat > 0].sum() / positive.sum())
        assert energy_inside(heat, heat > 0) <= 1
        assert energy_inside(heat, heat > 0) == pytest.approx(1)
    assert max(raw) > 1, "the example must show something"
