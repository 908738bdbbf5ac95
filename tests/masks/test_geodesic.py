"""Geodesic growth against cases whose answer is known."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage

from weakseg.masks.rules.geodesic import geodesic_mask


def _ramp(width: int = 41) -> np.ndarray:
    """Heat that falls evenly from left to right."""
    return np.tile(np.linspace(1, 0, width), (9, 1))


def test_on_an_even_image_the_edge_lies_halfway_between_the_seeds():
    mask = geodesic_mask(_ramp(), np.full((9, 41), 7.0), high=0.7, low=0.3)
    # Lesion seeds end at column 11 (0.725), those of the background begin at column 29 (0.275).
    assert mask[:, :20].all()
    assert not mask[:, 20:].any()  # at column 20 both are 9 steps away


@pytest.mark.parametrize("edge", [15, 18, 22, 26])
def test_the_edge_follows_the_image(edge):
    image = np.zeros((9, 41))
    image[:, :edge] = 100
    mask = geodesic_mask(_ramp(), image, edge=100)
    assert mask[:, : edge - 1].all()
    assert not mask[:, edge + 1 :].any()


def test_without_a_price_on_edges_the_image_does_not_matter():
    image = np.random.default_rng(0).random((9, 41))
    even = geodesic_mask(_ramp(), np.zeros((9, 41)))
    np.testing.assert_array_equal(geodesic_mask(_ramp(), image, edge=0), even)


@given(st.integers(0, 50))
def test_sure_pixels_stay_and_far_ones_stay_out_in_any_units(seed):
    rng = np.random.default_rng(seed)
    heat = ndimage.gaussian_filter(rng.random((24, 20)), 2)
    heat = (heat - heat.min()) / np.ptp(heat)
    image = rng.random((24, 20))
    mask = geodesic_mask(heat, image)
    assert mask[heat > 0.7].all()
    assert not mask[heat < 0.3].any()
    np.testing.assert_array_equal(geodesic_mask(heat * 8, image * 64 + 16), mask)


def test_where_nothing_is_far_the_threshold_is_halfway():
    heat = np.array([[1.0, 0.6, 0.45, 0.4]])
    np.testing.assert_array_equal(geodesic_mask(heat, heat), [[True, True, False, False]])


def test_a_flat_heatmap_gives_an_empty_mask():
    assert not geodesic_mask(np.zeros((5, 5)), np.ones((5, 5))).any()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"low": 0.7}, "low"),
        ({"high": 1.0}, "high"),
        ({"edge": -1.0}, "edge"),
    ],
)
def test_parameters_out_of_range_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        geodesic_mask(np.eye(4), np.eye(4), **change)


def test_shapes_must_agree():
    with pytest.raises(ValueError, match="heatmap is"):
        geodesic_mask(np.eye(4), np.eye(5))
