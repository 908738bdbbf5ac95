"""The random walk against cases whose answer is known."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage

from weakseg.masks.rules.random_walker import LONGEST_SIDE, random_walker_mask


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
