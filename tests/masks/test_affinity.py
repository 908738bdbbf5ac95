"""The walk of heat along affinities: matrices by hand, what a walk keeps, a planted disc."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import ndimage
from skimage.transform import resize

from weakseg.masks.rules.affinity import (
    BACKGROUND,
    LESION,
    OPEN,
    AffinityRule,
    affinity_mask,
    coarse_heat,
    confident,
    count_pairs,
    offsets,
    pairs_of,
    transition_matrix,
    walked,
)
from weakseg.masks.thresholds import normalise
from weakseg.scores import dice


def test_steps_are_those_nearer_than_the_radius_each_once():
    assert offsets(2) == [(0, 1), (1, -1), (1, 0), (1, 1)]
    for radius in (2, 3, 5, 9):
        found = offsets(radius)
        both = {*found, *((-dy, -dx) for dy, dx in found)}
        around = range(-radius, radius + 1)
        assert len(both) == 2 * len(found)
        assert both | {(0, 0)} == {
            (dy, dx) for dy in around for dx in around if np.hypot(dy, dx) < radius
        }
    with pytest.raises(ValueError, match="at least 2"):
        offsets(1)


def test_the_matrix_of_a_three_by_three_grid_by_hand():
    # Pixels 0..8 by rows; the left column differs by 1 from the rest.
    features = np.array([[0, 1, 1]] * 3, dtype=float)[..., None]
    # To the power 2, an affinity of exp(-ln 2 / 2) is a half.
    t = transition_matrix(features * np.log(2) / 2, radius=2, beta=2).toarray()
    corner = np.array([1, 0.5, 0, 1, 0.5, 0, 0, 0, 0]) / 3
    left = np.array([1, 0.5, 0, 1, 0.5, 0, 1, 0.5, 0]) / 4.5
    centre = np.array([0.5, 1, 1, 0.5, 1, 1, 0.5, 1, 1]) / 7.5
    right_corner = np.array([0, 1, 1, 0, 1, 1, 0, 0, 0]) / 4
    np.testing.assert_allclose(t[0], corner)
    np.testing.assert_allclose(t[3], left)
    np.testing.assert_allclose(t[4], centre)
    np.testing.assert_allclose(t[2], right_corner)
    heat = np.array([[0, 0, 3], [0, 0, 0], [0, 0, 0]], dtype=float)
    once = walked(heat, transition_matrix(features * np.log(2) / 2, radius=2, beta=2), 1)
    expected = [[0, 3 / 5, 3 / 4], [0, 3 / 7.5, 3 / 6], [0, 0, 0]]
    np.testing.assert_allclose(once, expected, atol=1e-12)


def test_the_distance_is_the_sum_over_features():
    features = np.zeros((3, 3, 2))
    features[0, 0] = (1, -2)
    t = transition_matrix(features, radius=2, beta=1).toarray()
    assert t[0, 1] / t[0, 0] == pytest.approx(np.exp(-3))


grids = arrays(
    np.float64,
    st.tuples(st.integers(3, 7), st.integers(3, 7), st.just(2)),
    elements=st.floats(-2, 2),
)


@settings(deadline=None, max_examples=40)
@given(grids, st.integers(2, 4), st.floats(0.1, 12), st.integers(0, 40), st.integers(0, 99))
def test_what_every_walk_keeps(features, radius, beta, steps, seed):
    t = transition_matrix(features, radius=radius, beta=beta)
    np.testing.assert_allclose(t.sum(axis=1), 1)
    assert t.data.min() >= 0
    shape = features.shape[:2]
    np.testing.assert_allclose(walked(np.full(shape, 0.3), t, steps), 0.3)
    heat = np.random.default_rng(seed).random(shape)
    after = walked(heat, t, steps)
    assert heat.min() - 1e-12 <= after.min() <= after.max() <= heat.max() + 1e-12


@settings(deadline=None, max_examples=20)
@given(st.integers(3, 8), st.integers(3, 8), st.integers(2, 4), st.integers(0, 30))
def test_where_all_pixels_are_alike_heat_only_spreads_out(h, w, radius, steps):
    t = transition_matrix(np.full((h, w, 3), 7.0), radius=radius)
    reached = (t > 0).sum(axis=1)  # by each pixel: fewer at the border
    heat = np.random.default_rng(h * w).random((h, w))
    after = walked(heat, t, steps)
    assert (reached * after.ravel()).sum() == pytest.approx((reached * heat.ravel()).sum())
    spans = [np.ptp(walked(heat, t, n)) for n in range(0, 60, 15)]
    assert all(b <= a + 1e-12 for a, b in pairwise(spans))


def disc(side=48, radius=11):
    """A bright disc on noise, and heat that covers its left half and a bit beside it."""
    rng = np.random.default_rng(3)
    y, x = np.mgrid[:side, :side]
    truth = (y - 24) ** 2 + (x - 26) ** 2 < radius**2
    image = rng.normal(0.3, 0.03, truth.shape) + 0.4 * truth
    heat = np.exp(-((y - 24) ** 2 + (x - 20) ** 2) / (2 * 5.0**2))
    return image, heat, truth


def test_heat_on_half_a_disc_fills_it():
    image, heat, truth = disc()
    plain = dice(normalise(heat) > 0.5, truth)
    mask = affinity_mask(heat, 5 * image[..., None], radius=4, beta=4, steps=64)
    assert plain < 0.6
    assert dice(mask, truth) > 0.9
    # On the coarse grid as well, and enlarged again.
    coarse = affinity_mask(heat, 5 * image[::2, ::2, None], radius=4, beta=4, steps=64)
    assert coarse.shape == truth.shape
    assert dice(coarse, truth) > 0.85


@settings(deadline=None, max_examples=15)
@given(st.sampled_from([1e-6, 0.5, 3.0, 1e5]))
def test_the_heat_s_unit_does_not_matter(scale):
    image, heat, _ = disc()
    one, other = (affinity_mask(s * heat, image[..., None], steps=8) for s in (1.0, scale))
    # But for pixels on the very threshold, which rounding moves.
    assert (one != other).sum() <= 2


@pytest.mark.parametrize("value", [0.0, -1.0, 5.0])
def test_a_flat_heatmap_gives_an_empty_mask(value):
    features = np.zeros((8, 8, 1))
    assert not affinity_mask(np.full((16, 16), value), features).any()


def test_a_walk_that_has_evened_everything_out_gives_an_empty_mask():
    heat = np.zeros((6, 6))
    heat[2, 2] = 1
    assert not affinity_mask(heat, np.zeros((6, 6, 1)), steps=4000).any()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"at": 1.0}, "at must be"),
        ({"steps": -1}, "steps must be at least 0"),
        ({"beta": 0.0}, "beta must be positive"),
        ({"radius": 1}, "radius must be"),
    ],
)
def test_bad_parameters_are_refused(change, words):
    heat = np.eye(6)
    with pytest.raises(ValueError, match=words):
        affinity_mask(heat, np.zeros((6, 6, 1)), **change)
    with pytest.raises(ValueError, match="finite"):
        affinity_mask(heat, np.full((6, 6, 1), np.inf))


def test_what_a_heatmap_is_sure_of():
    heat = np.array([[0, 1, 5, 10.0]] * 4)
    found = confident(heat, (4, 4), high=0.6, low=0.25)
    np.testing.assert_array_equal(found[0], [BACKGROUND, BACKGROUND, OPEN, LESION])
    assert (confident(np.ones((4, 4)), (4, 4), high=0.6, low=0.25) == OPEN).all()
    with pytest.raises(ValueError, match="low < high"):
        confident(heat, (4, 4), high=0.2, low=0.25)


@pytest.mark.parametrize("shape", [(3, 32), (32, 3), (1, 4), (2, 1), (4, 1)])
def test_a_grid_narrower_than_a_step_has_the_pairs_that_fit(shape):
    features = np.random.default_rng(0).random((*shape, 2))
    t = transition_matrix(features, radius=5, beta=1).toarray()
    y, x = (a.ravel() for a in np.indices(shape))
    near = np.hypot(y[:, None] - y, x[:, None] - x) < 5
    flat = features.reshape(-1, 2)
    affinity = near * np.exp(-np.abs(flat[:, None] - flat).sum(axis=2))
    np.testing.assert_allclose(t, affinity / affinity.sum(axis=1, keepdims=True))
    heat = np.eye(10 * shape[0], 10 * shape[1])
    assert affinity_mask(heat, features, radius=5).shape == heat.shape
    known = np.full(shape, LESION, dtype=np.uint8)
    assert count_pairs(known, 5)["lesion"] == (near.sum() - near.shape[0]) // 2


def test_pairs_are_counted_by_hand():
    labels = np.array([[LESION, LESION, OPEN], [BACKGROUND, OPEN, OPEN]], dtype=np.uint8)
    # A row of two lesions; background below one of them and aslant of the other.
    assert count_pairs(labels, 2) == {"lesion": 1, "background": 0, "different": 2}
    assert count_pairs(np.stack([labels] * 3), 2)["different"] == 6


def test_the_defaults_are_those_of_the_rule():
    image, heat, _ = disc()
    rule = AffinityRule()
    told = {k: getattr(rule, k) for k in ("radius", "beta", "steps", "at")}
    features = 2 * image[::2, ::2, None]
    made = affinity_mask(heat, features)
    assert made.any()
    np.testing.assert_array_equal(made, affinity_mask(heat, features, **told))
    heat, features = np.random.default_rng(0).random((2, 40, 40)) ** [[[300]], [[1]]]
    made = affinity_mask(heat, features[..., None])
    for name, value in told.items():
        further = {name: value + (0.01 if name == "at" else 1)}
        assert (made != affinity_mask(heat, features[..., None], **further)).any(), name
    features = 2 * image[::2, ::2, None]
    found = transition_matrix(features[:6, :6])
    wanted = transition_matrix(features[:6, :6], radius=rule.radius, beta=rule.beta)
    np.testing.assert_array_equal(found.toarray(), wanted.toarray())


def test_affinities_of_few_bits_are_those_of_the_same_features_in_more():
    features = np.random.default_rng(0).random((5, 4, 2)).astype(np.float32)
    found = transition_matrix(features, radius=3)
    assert found.dtype == np.float64
    assert found.format == "csr"
    wanted = transition_matrix(features.astype(np.float64), radius=3)
    np.testing.assert_array_equal(found.toarray(), wanted.toarray())


@pytest.mark.parametrize("shape", [(5, 4), (5, 4, 2, 1)])
def test_features_are_of_places_in_a_plane(shape):
    with pytest.raises(ValueError, match=r"features must be \(h, w, D\)"):
        transition_matrix(np.zeros(shape))
    with pytest.raises(ValueError, match=r"features must be \(h, w, D\) and finite"):
        transition_matrix(np.where(np.eye(4)[..., None], np.nan, 0))


def test_steps_of_a_walk_are_powers_of_its_matrix():
    t = transition_matrix(np.random.default_rng(1).random((3, 4, 2)), radius=2)
    heat = np.random.default_rng(2).integers(0, 9, (3, 4))
    for steps in (0, 1, 5):
        wanted = np.linalg.matrix_power(t.toarray(), steps) @ heat.ravel()
        found = walked(heat, t, steps)
        assert found.dtype == np.float64
        np.testing.assert_allclose(found, wanted.reshape(3, 4))


@pytest.mark.parametrize(
    ("shape", "grid"), [((12, 16), (6, 8)), ((6, 8), (12, 16)), ((5, 5), (5, 5))]
)
def test_heat_on_another_grid_is_resampled_bilinearly_and_peaks_at_one(shape, grid):
    heat = ndimage.gaussian_filter(np.random.default_rng(0).random(shape), 1)
    small = resize(heat / heat.max(), grid, order=1, anti_aliasing=shape > grid)
    np.testing.assert_allclose(coarse_heat(5 * heat, grid), small / small.max(), atol=1e-12)
    assert not coarse_heat(np.ones(shape), grid).any()


def test_the_mask_is_of_the_walked_heat_over_its_own_maximum_enlarged():
    rng = np.random.default_rng(3)
    heat, features = ndimage.gaussian_filter(rng.random((14, 10)), 2), rng.random((7, 5, 2))
    t = transition_matrix(features, radius=3, beta=2)
    spread = walked(coarse_heat(heat, (7, 5)), t, 4)
    large = resize(spread, (14, 10), order=1)
    for at in np.quantile(large / large.max(), (0.3, 0.8)):
        made = affinity_mask(heat, features, radius=3, beta=2, steps=4, at=at)
        np.testing.assert_array_equal(made, large > at * large.max())
        assert 0 < made.sum() < made.size


def test_opposite_pairs_of_a_grid_by_hand():
    values = np.arange(12).reshape(3, 4)
    for offset, here, there in (
        ((0, 1), [[0, 1, 2], [4, 5, 6], [8, 9, 10]], [[1, 2, 3], [5, 6, 7], [9, 10, 11]]),
        ((2, -1), [[1, 2, 3]], [[8, 9, 10]]),
        ((1, 2), [[0, 1], [4, 5]], [[6, 7], [10, 11]]),
        ((0, 0), values.tolist(), values.tolist()),
    ):
        a, b = pairs_of(values, offset)
        assert (a.tolist(), b.tolist()) == (here, there)
    for offset in ((3, 0), (0, 4), (1, -4), (4, 5)):
        assert [p.size for p in pairs_of(values, offset)] == [0, 0]
