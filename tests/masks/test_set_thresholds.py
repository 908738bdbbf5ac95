"""One threshold for a set: pools, candidates and the best, against naive ones and by hand."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from tests.masks.blobs import blobs, naive_dice
from weakseg.masks import set_thresholds
from weakseg.masks.set_thresholds import (
    GRID,
    POOLED_VALUES,
    best_threshold,
    candidate_thresholds,
    train_quantile_threshold,
)


def test_train_quantile_of_equal_sizes_is_the_pooled_quantile() -> None:
    rng = np.random.default_rng(0)
    maps = [rng.gamma(1 + i, 1.0, (50, 60)) for i in range(4)]
    pool = np.sort(np.concatenate([m.ravel() for m in maps]))
    for q in (0.5, 0.9, 0.97):
        rank = np.searchsorted(pool, train_quantile_threshold(maps, q)) / pool.size
        assert rank == pytest.approx(q, abs=1 / POOLED_VALUES)


def test_train_quantile_weighs_images_alike_whatever_their_size() -> None:
    rng = np.random.default_rng(0)
    large, small = rng.uniform(0, 1, (200, 200)), rng.uniform(10, 11, (10, 10))
    assert 0.97 < train_quantile_threshold([large, small], 0.49) <= 1
    assert 10 <= train_quantile_threshold([large, small], 0.51) < 10.1


@pytest.mark.parametrize("q", [0.3, 0.9, 0.97])
def test_a_pool_of_many_images_is_bounded_and_its_rank_stays(
    monkeypatch: pytest.MonkeyPatch, q: float
) -> None:
    monkeypatch.setattr(set_thresholds, "POOL_LIMIT", 10 * POOLED_VALUES)
    rng = np.random.default_rng(0)
    maps = [rng.gamma(1 + i % 5, 1.0, (50, 60)).astype(np.float32) for i in range(75)]
    pool = set_thresholds._pool(maps)
    assert pool.size == 75 * 128  # the largest power of two that has room
    assert pool.dtype == np.float32
    full = np.sort(np.concatenate([m.ravel() for m in maps]))
    rank = np.searchsorted(full, train_quantile_threshold(maps, q)) / full.size
    assert rank == pytest.approx(q, abs=1 / 128)


@pytest.mark.parametrize("kind", [np.float16, np.float32, np.float64])
def test_thresholds_are_those_of_the_same_heat_in_more_bits(kind: type) -> None:
    rng = np.random.default_rng(0)
    maps = [rng.random((32, 32)).astype(kind) for _ in range(2000)]
    exact = [m.astype(np.float64) for m in maps]
    samples = np.concatenate([np.sort(m, axis=None) for m in exact])
    for q in (0.1, 0.35, 0.9, 0.97):
        expected = np.quantile(samples, q, method="higher")
        assert train_quantile_threshold(maps, q) == expected
    np.testing.assert_array_equal(candidate_thresholds(maps), candidate_thresholds(exact))


def test_train_quantile_reads_a_generator_once_and_is_not_random() -> None:
    maps = [np.random.default_rng(i).random((64, 64)) for i in range(3)]
    assert train_quantile_threshold((m for m in maps), 0.9) == train_quantile_threshold(maps, 0.9)


def test_train_quantile_never_falls_below_no_heat() -> None:
    assert train_quantile_threshold([-np.ones((5, 5))], 0.9) == 0
    assert train_quantile_threshold([np.full((5, 5), np.nan), np.eye(5)], 0.6) == 0


@pytest.mark.parametrize(
    "call", [lambda: train_quantile_threshold([], 0.9), lambda: candidate_thresholds([])]
)
def test_no_heatmap_at_all_is_an_error(call: Callable[[], object]) -> None:
    with pytest.raises(ValueError, match="at least one heatmap, got none"):
        call()


def test_candidates_spread_over_the_positive_heat() -> None:
    heatmap = np.concatenate([np.zeros(5000), -np.ones(100), np.linspace(20, 40, 4000)])[None]
    candidates = candidate_thresholds([heatmap], 11)
    assert candidates.size == 11
    assert candidates[0] == 0
    np.testing.assert_allclose(candidates[1:], np.linspace(20, 40, 10), atol=0.1)
    np.testing.assert_array_equal(candidate_thresholds([-heatmap[:, :5100]])[:1], [0.0])
    np.testing.assert_array_equal(candidate_thresholds([np.zeros((3, 3))]), [0.0])
    with pytest.raises(ValueError, match="count must be at least 2, got 1"):
        candidate_thresholds([heatmap], 1)


def test_the_best_threshold_is_that_of_a_plain_search() -> None:
    pairs = [blobs(s, (30 + s, 40)) for s in range(8)]
    maps, truths = [p[0] for p in pairs], [p[1] for p in pairs]
    truths[3] = np.zeros_like(truths[3])
    lesions = [i for i in range(8) if truths[i].any()]
    assert 4 < len(lesions) < 8
    expected = [np.mean([naive_dice(maps[i] > t, truths[i]) for i in lesions]) for t in GRID]
    threshold, curve = best_threshold(iter(maps), iter(truths))
    np.testing.assert_allclose(curve, expected, rtol=1e-12)
    assert threshold == GRID[np.argmax(expected)]
    assert 0 < threshold < 1


def test_of_equally_good_thresholds_the_highest_is_taken() -> None:
    heatmap, truth = np.array([[0.1, 0.9]]), np.array([[False, True]])
    threshold, curve = best_threshold([heatmap], [truth], [0.7, 0.3, 0.05, 0.8, 0.95])
    assert threshold == 0.8
    np.testing.assert_allclose(curve, [1, 1, 2 / 3, 1, 0])


def test_a_set_without_lesions_or_with_unequal_counts_is_refused() -> None:
    heatmap = np.eye(3)
    with pytest.raises(ValueError, match="got only empty masks"):
        best_threshold([heatmap], [np.zeros((3, 3))])
    with pytest.raises(ValueError, match="shorter"):
        best_threshold([heatmap, heatmap], [heatmap])
    with pytest.raises(ValueError, match="candidates must be a list of numbers"):
        best_threshold([heatmap], [heatmap], [])


# A pool of heat, by hand


@pytest.fixture
def small_pool(monkeypatch: pytest.MonkeyPatch) -> None:
    """Four values an image, and eight in all."""
    monkeypatch.setattr(set_thresholds, "POOLED_VALUES", 4)
    monkeypatch.setattr(set_thresholds, "POOL_LIMIT", 8)


MAPS = [np.array([[1.0, 2, 3, 4]]), np.array([[40.0, 30], [20, 10]]), np.arange(100.0, 500, 100)]


@pytest.mark.usefixtures("small_pool")
@pytest.mark.parametrize(
    ("images", "pool"),
    [
        (1, [1, 2, 3, 4]),
        (2, [1, 2, 3, 4, 10, 20, 30, 40]),
        # Half of each: the lower of two neighbours, then the upper, and of the third its quarters.
        (3, [1, 3, 20, 40, 200, 400]),
        (4, [1, 3, 20, 40, 200, 400, 2, 4]),
        # One of each: of what was left the lower, the upper, and so on; of the fifth its middle.
        (5, [1, 40, 200, 4, 30]),
        # No image is left without a value.
        (9, [1, 40, 200, 4, 30, 300, 3, 30, 300]),
    ],
)
def test_a_pool_that_is_full_keeps_every_other_value(images: int, pool: list[float]) -> None:
    maps = (MAPS[k % 3] for k in range(images))
    np.testing.assert_array_equal(set_thresholds._pool(maps), pool)


@pytest.mark.parametrize(
    ("kind", "kept"),
    [
        (np.float16, np.float32),
        (np.float32, np.float32),
        (np.float64, np.float64),
        (np.int64, np.float64),
    ],
)
def test_heat_is_pooled_in_its_own_bits(kind: type, kept: type) -> None:
    found = set_thresholds._pool([np.arange(9).astype(kind)])
    assert found.dtype == kept
    assert found.size == POOLED_VALUES
    not_finite = np.array([1, 2, np.nan]).astype(kept)
    assert set_thresholds._pool([not_finite]).dtype == kept


@pytest.mark.usefixtures("small_pool")
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_map_that_is_not_finite_counts_as_zeros(bad: float) -> None:
    maps = [MAPS[0], np.array([[5.0, bad, 7.0]])]
    np.testing.assert_array_equal(set_thresholds._pool(maps), [1, 2, 3, 4, 0, 0, 0, 0])
    maps = [*MAPS[:2], np.array([[bad]])]
    np.testing.assert_array_equal(set_thresholds._pool(maps), [1, 3, 20, 40, 0, 0])


def test_the_quantile_is_the_higher_of_two_values() -> None:
    heat = np.repeat([[0.0, 1.0]], 512, axis=0)
    assert train_quantile_threshold([heat], 0.499) == 0
    assert train_quantile_threshold([heat], 0.5) == 1
    assert train_quantile_threshold([heat], 0.501) == 1


def test_there_are_a_hundred_and_one_candidates_and_zero_is_one() -> None:
    heat = np.linspace(0.001, 5, 100_000)[None]
    found = candidate_thresholds([heat])
    assert (found.size, found[0]) == (101, 0)
    assert found.dtype == np.float64
    # The lowest and the highest of 1024 values, and 98 between them, evenly.
    np.testing.assert_allclose(found[1:], np.linspace(*found[[1, -1]], 100), atol=1e-4)
    np.testing.assert_allclose(found[[1, -1]], [0.0034, 4.9976], atol=1e-3)
    assert candidate_thresholds([heat], 2).tolist() == [0, found[1]]
    few = candidate_thresholds([np.array([[0, 0, 3, 7]])])
    assert few[[0, 1, -1]].tolist() == [0, 3, 7]
    np.testing.assert_array_equal(candidate_thresholds([-heat]), [0.0])


@pytest.mark.parametrize("candidates", [[[0.1, 0.2]], [0.1, np.nan], 0.5, []])
def test_candidates_are_a_list_of_numbers(candidates: object) -> None:
    heat = np.array([[0.1, 0.9]])
    with pytest.raises(ValueError, match="candidates must be a list of numbers"):
        best_threshold([heat], [heat > 0.5], candidates)


def test_the_mean_is_over_images_with_a_lesion() -> None:
    heat = np.array([[0.2, 0.4, 0.8]])
    truths = [[[0, 0, 1]], [[0, 0, 0]], [[0, 1, 1]]]
    threshold, curve = best_threshold([heat] * 3, truths, [0, 0.3, 0.5])
    # Of three, two and one pixels: 1/2, 2/3, 1 for the one; 4/5, 1, 2/3 for the other.
    np.testing.assert_allclose(curve, [(1 / 2 + 4 / 5) / 2, (2 / 3 + 1) / 2, (1 + 2 / 3) / 2])
    assert threshold == 0.5
