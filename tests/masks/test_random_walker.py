"""The random walk against cases whose answer is known."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage
from skimage.segmentation import random_walker

from weakseg.masks.rules.random_walker import LONGEST_SIDE, RandomWalkerRule, random_walker_mask


def _dice(a: np.ndarray, b: np.ndarray) -> float:
    return 2 * (a & b).sum() / (a.sum() + b.sum())


def _ramp(width: int = 41) -> np.ndarray:
    """Heat that falls evenly from left to right."""
    return np.tile(np.linspace(1, 0, width), (9, 1))


def test_on_an_even_image_the_edge_lies_halfway_between_the_seeds():
    mask = random_walker_mask(_ramp(), np.full((9, 41), 7.0), high=0.7, low=0.3)
    # Seeds end at column 11 (0.725) and begin at column 29 (0.275): the middle is column 20.
    assert mask[:, :20].all()
    assert not mask[:, 21:].any()


@pytest.mark.parametrize("edge", [14, 17, 24, 27])
def test_the_edge_follows_the_image(edge):
    image = np.zeros((9, 41))
    image[:, :edge] = 100
    mask = random_walker_mask(_ramp(), image)
    assert mask[:, :edge].all()
    assert not mask[:, edge:].any()


def test_a_blurred_heatmap_is_brought_back_to_the_disc():
    y, x = np.mgrid[:96, :80]
    disc = (y - 40) ** 2 + (x - 45) ** 2 < 14**2
    heat = ndimage.gaussian_filter(np.roll(disc, 3, axis=1).astype(float), 9)  # and beside it
    noise = np.random.default_rng(0).normal(0, 4, disc.shape)
    image = 60 + 80 * disc + noise
    grown = random_walker_mask(heat, image)
    assert _dice(grown, disc) > 0.95
    assert _dice(grown, disc) > _dice(heat > 0.5 * heat.max(), disc) + 0.05


@given(st.integers(0, 50))
def test_sure_pixels_stay_and_far_ones_stay_out(seed):
    rng = np.random.default_rng(seed)
    heat = ndimage.gaussian_filter(rng.random((24, 20)), 2)
    heat = (heat - heat.min()) / np.ptp(heat)
    mask = random_walker_mask(heat, rng.random((24, 20)))
    assert mask[heat > 0.7].all()
    assert not mask[heat < 0.3].any()


def test_the_scale_of_heat_and_image_does_not_matter():
    rng = np.random.default_rng(1)
    heat, image = ndimage.gaussian_filter(rng.random((24, 20)), 3), rng.random((24, 20))
    heat -= heat.min()
    one = random_walker_mask(heat, image)
    np.testing.assert_array_equal(one, random_walker_mask(heat * 1e3, image * 255))


def test_large_images_keep_their_size():
    side = LONGEST_SIDE * 2
    y, x = np.mgrid[:side, : side // 2]
    disc = (y - side / 2) ** 2 + (x - side / 4) ** 2 < (side / 8) ** 2
    heat = ndimage.gaussian_filter(disc.astype(float), side / 16)
    mask = random_walker_mask(heat, disc * 100.0)
    assert mask.shape == disc.shape
    assert _dice(mask, disc) > 0.95


def test_what_a_smaller_copy_does_not_show_is_parted_halfway():
    """Between the seeds lies a line of one pixel, which the copy leaves out."""
    side = 2 * LONGEST_SIDE + 100
    shown = ((np.arange(LONGEST_SIDE) + 0.5) * side / LONGEST_SIDE).astype(int)
    edge = next(i for i in range(side // 2, side) if i not in shown)
    heat = np.zeros((side, 8))
    heat[:edge] = 1
    heat[edge] = np.linspace(0.32, 0.68, 8)
    for turned in (heat, heat.T):
        image = np.random.default_rng(0).random(turned.shape)
        np.testing.assert_array_equal(random_walker_mask(turned, image), turned > 0.5)


def test_a_kind_of_seeds_that_a_smaller_copy_does_not_show_leaves_a_threshold():
    heat = np.full((3 * LONGEST_SIDE, 3), 0.4)
    heat[300:600] = 0.6
    heat[400, 1], heat[:9, 0] = 1.0, 0.0
    np.testing.assert_array_equal(random_walker_mask(heat, np.ones(heat.shape)), heat > 0.5)


def test_without_background_seeds_it_is_a_threshold():
    heat = np.linspace(0.4, 1, 36).reshape(6, 6)
    np.testing.assert_array_equal(random_walker_mask(heat, heat), heat > 0.5)


@pytest.mark.parametrize(
    "bad",
    [{"high": 0.3, "low": 0.7}, {"high": 1.0}, {"low": 0.0}, {"beta": -1.0}],
)
def test_parameters_out_of_range(bad):
    with pytest.raises(ValueError):
        random_walker_mask(_ramp(), _ramp(), **bad)


def test_shapes_must_agree():
    with pytest.raises(ValueError, match="image"):
        random_walker_mask(_ramp(), np.zeros((9, 40)))


def exact(heat, image, high, low, beta):
    """The same by scikit-image's exact solver, on an image from 0 to 1."""
    seeds = (heat > high) + 2 * (heat < low)
    grey = (image - image.min()) / np.ptp(image)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        met = random_walker(grey, seeds, beta=beta, mode="bf", return_full_prob=True)
    return met[0] > 0.5, abs(met[0] - 0.5) < 1.5e-3


@pytest.mark.parametrize("seed", range(3))
def test_who_is_met_first_is_what_the_exact_solver_says(seed):
    rng = np.random.default_rng(seed)
    heat = ndimage.gaussian_filter(rng.random((20, 26)), 1)
    heat = (heat - heat.min()) / np.ptp(heat)
    image = ndimage.gaussian_filter(255 * rng.random((20, 26)), 1)
    for high, low, beta in ((0.8, 0.2, 130.0), (0.7, 0.35, 3.0)):
        wanted, even = exact(heat, image, high, low, beta)
        made = random_walker_mask(heat, image, high=high, low=low, beta=beta)
        assert made.dtype == bool
        np.testing.assert_array_equal(made[~even], wanted[~even])


def test_the_defaults_are_those_of_the_rule():
    rng = np.random.default_rng(9)
    heat, image = ndimage.gaussian_filter(rng.random((20, 26)), 1), rng.random((20, 26))
    heat -= heat.min()
    rule = RandomWalkerRule()
    told = {"high": rule.high, "low": rule.low, "beta": rule.beta}
    np.testing.assert_array_equal(
        random_walker_mask(heat, image), random_walker_mask(heat, image, **told)
    )


def test_what_lies_on_a_limit_is_no_seed_and_halfway_is_no_lesion():
    """In a row of even brightness the kind that is nearer is met first more often."""
    even = np.ones((1, 6))
    heat = np.array([[1.0, 0.5, 0.5, 0.5, 0.75, 0.1]])
    made = random_walker_mask(heat, even, high=0.75, low=0.25)
    assert made.tolist() == [[True, True, True, False, False, False]]
    heat = np.array([[1.0, 0.25, 0.5, 0.5, 0.5, 0.1]])
    made = random_walker_mask(heat, even, high=0.75, low=0.25)
    assert made.tolist() == [[True, True, True, False, False, False]]
    heat = np.array([[1.0, 0.625, 0.5, 0.375]])  # nothing is far: a threshold halfway
    made = random_walker_mask(heat, heat, high=0.75, low=0.25)
    assert made.dtype == bool
    assert made.tolist() == [[True, True, False, False]]


def test_without_beta_the_image_does_not_matter():
    rng = np.random.default_rng(3)
    heat = ndimage.gaussian_filter(rng.random((20, 26)), 1)
    heat -= heat.min()
    one, other = (random_walker_mask(heat, i, beta=0) for i in (rng.random((20, 26)), heat))
    assert (one != other).sum() <= 1
    np.testing.assert_array_equal(random_walker_mask(heat, 0 * heat), one)


def test_where_every_pixel_is_sure_the_walk_is_none():
    heat = np.array([[1.0, 0.9, 0.1, 0.2]])
    assert random_walker_mask(heat, heat).tolist() == [[True, True, False, False]]


def test_no_warning_of_the_solver_is_passed_on(recwarn):
    random_walker_mask(_ramp(), np.full((9, 41), 7.0))
    random_walker_mask(_ramp(), np.random.default_rng(0).random((9, 41)))
    assert not recwarn.list


@pytest.mark.parametrize(
    ("shape", "small"), [((800, 6), (384, 3)), ((6, 800), (3, 384)), ((385, 1), (384, 1))]
)
def test_larger_images_are_walked_on_with_a_longer_side_of_384(monkeypatch, shape, small):
    """The walk is on the smaller grid, seeds are seeds there, and all of it comes back."""
    asked = []

    def walk(grey, seeds, **settings):
        asked.append((grey.shape, seeds))
        return np.stack([seeds == 1, seeds == 2]).astype(float)

    monkeypatch.setattr("skimage.segmentation.random_walker", walk)
    long = max(shape)
    heat = np.linspace(1, 0, long)
    heat = np.broadcast_to(heat[:, None] if shape[0] == long else heat, shape)
    made = random_walker_mask(heat, np.random.default_rng(0).random(shape))
    ((asked_shape, seeds),) = asked
    assert asked_shape == seeds.shape == small
    assert set(np.unique(seeds)) == {0, 1, 2}
    # Three in ten are sure, three in ten are far, and nobody reached what is between.
    assert (seeds == 1).mean() == pytest.approx(0.3, abs=0.01)
    assert (seeds == 2).mean() == pytest.approx(0.3, abs=0.01)
    np.testing.assert_array_equal(made, heat > 0.7)


@pytest.mark.parametrize("side", [384, 200])
def test_images_of_384_pixels_are_walked_on_as_they_are(monkeypatch, side):
    asked = []
    monkeypatch.setattr(
        "skimage.segmentation.random_walker",
        lambda grey, seeds, **_: asked.append(grey) or np.stack([seeds == 1, seeds == 2]) * 1.0,
    )
    image = np.random.default_rng(0).random((side, 3))
    random_walker_mask(np.linspace(1, 0, side)[:, None] * np.ones(3), image)
    np.testing.assert_array_equal(asked[0], (image - image.min()) / np.ptp(image))


def test_seeds_that_a_smaller_copy_has_not_are_no_seeds():
    """Of 800 × 6 pixels every other one is left: a single one in the first column is lost."""
    heat = np.full((800, 6), 0.5)
    heat[:, 3:] = 0.1
    image = np.random.default_rng(0).random(heat.shape)
    lost = heat.copy()
    lost[400, 0] = 1  # the only one that is sure
    np.testing.assert_array_equal(random_walker_mask(lost, image), lost == 1)
    lost = np.full((800, 6), 0.5)
    lost[:300], lost[400, 0] = 1, 0.1  # the only one that is far: nothing is met but the lesion
    made = random_walker_mask(lost, image)
    assert made[:299].all()
    assert not made[301:].any()
