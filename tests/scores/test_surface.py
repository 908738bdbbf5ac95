"""HD95, mean surface distance and the rules for empty masks."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from monai.metrics.hausdorff_distance import compute_hausdorff_distance
from monai.metrics.surface_distance import compute_average_surface_distance
from scipy.ndimage import binary_erosion, distance_transform_edt
from scipy.spatial.distance import cdist

from weakseg.scores import hd95, image_diagonal, mean_surface_distance, surface_distances
from weakseg.scores.surface import hd95_and_mean

from .blobs import blob, filled_pairs, mask_pairs

SPACINGS = {2: [None, (1.0, 1.0), (0.7, 2.5)], 3: [None, (0.9, 0.9, 5.0)]}
GRID = [
    (shape, spacing)
    for shape in [(24, 31), (64, 48), (12, 15, 9)]
    for spacing in SPACINGS[len(shape)]
]


def whole_image_distances(pred, truth, spacing):
    """The same without a box, by scipy's erosion."""
    borders = [m & ~binary_erosion(m) for m in (pred, truth)]
    maps = [distance_transform_edt(~b, sampling=spacing) for b in borders]
    return maps[1][borders[0]], maps[0][borders[1]]


@pytest.mark.filterwarnings("ignore:.*always_return_as_numpy:FutureWarning")
@pytest.mark.parametrize(("shape", "spacing"), GRID)
@pytest.mark.parametrize("seed", range(3))
def test_equal_to_monai(shape, spacing, seed):
    pred, truth = blob(shape, seed, 0.05 + 0.1 * seed), blob(shape, seed + 50, 0.1)
    a, b = (torch.from_numpy(m)[None, None].float() for m in (pred, truth))
    steps = None if spacing is None else list(spacing)
    far = compute_hausdorff_distance(a, b, include_background=True, percentile=95, spacing=steps)
    mean = compute_average_surface_distance(
        a, b, include_background=True, symmetric=True, spacing=steps
    )
    assert hd95(pred, truth, spacing) == pytest.approx(float(far), rel=1e-5)
    assert mean_surface_distance(pred, truth, spacing) == pytest.approx(float(mean), rel=1e-5)


@given(filled_pairs(7), st.sampled_from([None, 1.0, 0.37, 4.0]))
@settings(max_examples=80, deadline=None)
def test_the_box_changes_nothing(pair, step):
    pred, truth = (np.pad(m, [(3, 2)] * m.ndim) for m in pair)
    spacing = None if step is None else (step,) + (1.0,) * (pred.ndim - 1)
    for ours, whole in zip(
        surface_distances(pred, truth, spacing),
        whole_image_distances(pred, truth, spacing),
        strict=True,
    ):
        np.testing.assert_allclose(ours, whole, rtol=1e-12, atol=0)


@given(filled_pairs(5))
@settings(max_examples=50, deadline=None)
def test_equal_to_all_pairs_of_border_pixels(pair):
    pred, truth = pair
    borders = [np.argwhere(m & ~binary_erosion(m)) for m in pair]
    table = cdist(*borders)
    there, back = surface_distances(pred, truth)
    np.testing.assert_allclose(there, table.min(axis=1), rtol=1e-12)
    np.testing.assert_allclose(back, table.min(axis=0), rtol=1e-12)


def test_by_hand():
    pred, truth = np.zeros((9, 9), bool), np.zeros((9, 9), bool)
    pred[4, 1] = True
    truth[4, 5] = truth[4, 8] = True
    there, back = surface_distances(pred, truth)
    assert there.tolist() == [4]
    assert back.tolist() == [4, 7]
    # The 95th percentile of 4 and 7 lies at rank 0.95 between them.
    assert hd95(pred, truth) == pytest.approx(4 + 0.95 * 3)
    assert mean_surface_distance(pred, truth) == pytest.approx(5)
    assert hd95(pred, truth, spacing=(9.0, 0.5)) == pytest.approx((4 + 0.95 * 3) / 2)


def test_only_the_border_counts_and_the_edge_of_the_image_is_border():
    solid, ring = np.ones((5, 5), bool), np.ones((5, 5), bool)
    ring[1:-1, 1:-1] = False
    there, back = surface_distances(solid, ring)
    assert len(there) == len(back) == 16
    assert hd95(solid, ring) == 0


def test_percentiles_are_taken_on_each_side():
    """A long border close by and a short one far off: pooling would hide the far one."""
    pred, truth = np.zeros((60, 60), bool), np.zeros((60, 60), bool)
    pred[2, :] = True
    truth[2, :] = True
    truth[40, 5:10] = True
    assert np.percentile(np.concatenate(surface_distances(pred, truth)), 95) == 0
    assert hd95(pred, truth) == hd95(truth, pred) == 38


def test_empty_masks():
    nothing, something = np.zeros((30, 40), bool), np.zeros((30, 40), bool)
    something[3, 3] = True
    for pair in [(nothing, something), (something, nothing), (nothing, nothing)]:
        there, back = surface_distances(*pair)
        assert len(there) == len(back) == 0
    for score in (hd95, mean_surface_distance):
        assert score(nothing, nothing) == 0
        assert score(nothing, something) == score(something, nothing) == 50
        assert score(nothing, something, spacing=(2.0, 2.0)) == 100


def test_diagonal():
    assert image_diagonal((3, 4)) == 5
    assert image_diagonal((3, 4), (2, 2)) == 10
    assert image_diagonal((2, 3, 6)) == 7
    assert image_diagonal((2, 3, 6), (1.0, 2.0, 0.5)) == pytest.approx(math.sqrt(4 + 36 + 9))


@given(filled_pairs())
@settings(max_examples=60, deadline=None)
def test_no_hit_costs_as_much_as_a_miss(pair):
    pred, truth = pair
    spacing = tuple(0.5 + axis for axis in range(pred.ndim))
    far, mean = hd95_and_mean(pred, truth, spacing)
    assert mean >= 0
    assert max(far, mean) < hd95(np.zeros_like(pred), truth, spacing)


@given(mask_pairs())
@settings(max_examples=60, deadline=None)
def test_symmetry_identity_translation_and_unit(pair):
    pred, truth = pair
    here = np.array(hd95_and_mean(pred, truth))
    np.testing.assert_allclose(hd95_and_mean(truth, pred), here, rtol=1e-12)
    assert hd95_and_mean(pred, pred) == (0, 0)
    millimetres = np.array(hd95_and_mean(pred, truth, (0.25,) * pred.ndim))
    np.testing.assert_allclose(millimetres, here / 4, rtol=1e-12)
    if pred.any() and truth.any():
        moved = [np.pad(m, [(4, 1)] * m.ndim) for m in pair]
        np.testing.assert_allclose(hd95_and_mean(*moved), here, rtol=1e-12)


@pytest.mark.parametrize("score", [surface_distances, hd95, mean_surface_distance])
@pytest.mark.parametrize("spacing", [(1.0,), (1.0, 1.0, 1.0), (1.0, 0.0), (1.0, -2.0), (1, np.nan)])
@pytest.mark.parametrize("filled", [True, False])
def test_spacing_must_fit(score, spacing, filled):
    mask = np.full((4, 4), filled)
    with pytest.raises(ValueError, match="spacing must be 2 positive numbers"):
        score(mask, mask, spacing)


@pytest.mark.parametrize("score", [surface_distances, hd95, mean_surface_distance])
def test_shapes_must_agree(score):
    with pytest.raises(ValueError, match=r"pred must have the shape of truth, \(4, 5\)"):
        score(np.ones((4, 4), bool), np.ones((4, 5), bool))
