"""Geodesic growth against cases whose answer is known."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage, sparse
from scipy.sparse.csgraph import dijkstra

from weakseg.masks.rules.geodesic import GeodesicRule, geodesic_mask


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


def dijkstra_mask(heat, grey, high, low, edge):
    """The same by scipy's shortest paths over an explicit graph of the eight neighbours."""
    M, N = grey.shape
    across, down = np.zeros((M, N)), np.zeros((M, N))
    across[:, 1:-1] = (grey[:, 2:] - grey[:, :-2]) / 2
    across[:, 0], across[:, -1] = grey[:, 1] - grey[:, 0], grey[:, -1] - grey[:, -2]
    down[1:-1] = (grey[2:] - grey[:-2]) / 2
    down[0], down[-1] = grey[1] - grey[0], grey[-1] - grey[-2]
    cost = 1 + edge * np.sqrt(across**2 + down**2)
    graph = sparse.lil_array((M * N, M * N))
    for y, x in np.ndindex(M, N):
        for dy, dx in ((0, 1), (1, -1), (1, 0), (1, 1)):
            v, u = y + dy, x + dx
            if v < M and 0 <= u < N:
                way = np.hypot(dy, dx) * (cost[y, x] + cost[v, u]) / 2
                graph[y * N + x, v * N + u] = graph[v * N + u, y * N + x] = way
    nearest = [
        dijkstra(graph.tocsr(), indices=np.flatnonzero(seeds), min_only=True).reshape(M, N)
        for seeds in (heat > high, heat < low)
    ]
    return nearest[0] < nearest[1] - 1e-9, abs(nearest[0] - nearest[1]) < 1e-9


@pytest.mark.parametrize("shape", [(11, 13), (2, 9), (9, 2)])
@pytest.mark.parametrize("seed", range(4))
def test_distances_are_those_of_another_library(shape, seed):
    rng = np.random.default_rng(seed)
    heat, grey = rng.random(shape), rng.random(shape)
    heat, grey = heat / heat.max(), (grey - grey.min()) / np.ptp(grey)
    for high, low, edge in ((0.9, 0.1, 5.0), (0.85, 0.2, 0.3)):
        wanted, even = dijkstra_mask(heat, grey, high, low, edge)
        made = geodesic_mask(heat, grey, high=high, low=low, edge=edge)
        assert made.dtype == bool
        np.testing.assert_array_equal(made[~even], wanted[~even])


def test_what_lies_on_a_limit_is_no_seed():
    """In a row of even brightness places count: the fifth is nearer to the background."""
    heat = np.array([[1.0, 0.5, 0.5, 0.5, 0.75, 0.1], [0.1] * 6])[:1]
    made = geodesic_mask(heat, np.ones((1, 6)), high=0.75, low=0.25)
    assert made.tolist() == [[True, True, True, False, False, False]]
    heat = np.array([[1.0, 0.25, 0.5, 0.5, 0.5, 0.1]])
    made = geodesic_mask(heat, np.ones((1, 6)), high=0.75, low=0.25)
    assert made.tolist() == [[True, True, True, False, False, False]]


def test_halfway_itself_is_no_lesion():
    heat = np.array([[1.0, 0.625, 0.5, 0.375]])
    made = geodesic_mask(heat, heat, high=0.75, low=0.25)
    assert made.dtype == bool
    assert made.tolist() == [[True, True, False, False]]
    assert geodesic_mask(np.zeros((3, 4)), heat[[0, 0, 0]]).dtype == bool


def test_what_is_as_near_to_both_is_no_lesion():
    heat = np.array([[1.0, 0.5, 0.5, 0.5, 0.1]])
    assert geodesic_mask(heat, 0 * heat).tolist() == [[True, True, False, False, False]]


def test_the_defaults_are_those_of_the_rule():
    """On images that are enough to tell an edge of 20 from one of 21."""
    rule, rng = GeodesicRule(), np.random.default_rng(0)
    told = {"high": rule.high, "low": rule.low, "edge": rule.edge}
    differ = []
    for _ in range(40):
        heat, image = ndimage.gaussian_filter(rng.random((2, 24, 20)), (0, 2, 2))
        heat -= heat.min()
        made = geodesic_mask(heat, image)
        np.testing.assert_array_equal(made, geodesic_mask(heat, image, **told))
        differ.append((made != geodesic_mask(heat, image, edge=21)).any())
    assert any(differ)
