"""Thresholds: every rule against a naive one, and the promises of the docstrings."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.ndimage import gaussian_filter
from skimage.filters import threshold_otsu

from weakseg.masks import set_thresholds
from weakseg.masks.set_thresholds import (
    GRID,
    POOLED_VALUES,
    best_threshold,
    candidate_thresholds,
    train_quantile_threshold,
)
from weakseg.masks.thresholds import (
    apply_threshold,
    area_prior_mask,
    area_prior_threshold,
    dice_curve,
    fixed_threshold,
    is_flat,
    normalise,
    oracle_threshold,
    otsu_threshold,
    quantile_threshold,
)

SHAPES = hnp.array_shapes(min_dims=2, max_dims=3, max_side=8)
# Few distinct values make ties, zeros and negative heat common.
TIED = st.integers(-3, 6).map(float)
SMOOTH = st.floats(-5, 20, allow_nan=False, width=32)
HEATMAPS = hnp.arrays(np.float64, SHAPES, elements=st.one_of(TIED, SMOOTH))
INNER = st.floats(0.01, 0.99)
FLAT = {
    "zeros": np.zeros((4, 5)),
    "negative": -np.arange(1.0, 7.0).reshape(2, 3),
    "constant": np.full((4, 5), 3.3),
    "constant but for rounding": 3.3 + 1e-9 * np.eye(4),
    "nan": np.array([[np.nan, 1.0], [2.0, 3.0]]),
    "infinite": np.array([[np.inf, 1.0], [2.0, 3.0]]),
    "one pixel": np.ones((1, 1)),
}
flat = pytest.mark.parametrize("heatmap", FLAT.values(), ids=FLAT.keys())


def _blobs(seed: int, shape: tuple[int, int] = (40, 50)) -> tuple[np.ndarray, np.ndarray]:
    """A normalised heatmap and a truth that it half agrees with."""
    rng = np.random.default_rng(seed)
    signal = gaussian_filter(rng.standard_normal(shape), 5)
    other = gaussian_filter(rng.standard_normal(shape), 5)
    return normalise(signal), signal + 0.7 * other > 1.2 * signal.std()


def _naive_dice(mask: np.ndarray, truth: np.ndarray) -> float:
    both = mask.sum() + truth.sum()
    return 2 * (mask & truth).sum() / both if both else 1.0


# normalise, is_flat, apply_threshold


def test_normalise_drops_the_negative_and_peaks_at_one() -> None:
    np.testing.assert_allclose(normalise([[-2, 0, 1], [2, 3, 4]]), [[0, 0, 0.25], [0.5, 0.75, 1]])


def test_normalise_leaves_its_argument_alone() -> None:
    heatmap = np.array([[-1.0, 2.0]])
    normalise(heatmap)
    np.testing.assert_array_equal(heatmap, [[-1.0, 2.0]])


@flat
def test_a_flat_heatmap_gives_zeros(heatmap: np.ndarray) -> None:
    assert is_flat(heatmap)
    np.testing.assert_array_equal(normalise(heatmap), np.zeros(heatmap.shape))


@pytest.mark.parametrize("scale", [1e-30, 1.0, 1e30, 8e307])
def test_flatness_does_not_depend_on_the_scale(scale: float) -> None:
    assert not is_flat(scale * np.array([[1.0, 1.001]]))
    assert not is_flat(scale * np.array([[-2.0, 1.0]]))
    assert is_flat(scale * np.array([[1.0, 1.0 + 1e-8]]))


@given(HEATMAPS)
def test_normalise_is_between_0_and_1_and_idempotent(heatmap: np.ndarray) -> None:
    h = normalise(heatmap)
    assert h.min() >= 0
    assert h.max() == (0 if is_flat(heatmap) else 1)
    if not is_flat(h):
        np.testing.assert_array_equal(normalise(h), h)


def test_at_the_threshold_is_not_lesion_and_nan_never_is() -> None:
    mask = apply_threshold([[0.4, 0.5, 0.6], [np.nan, -np.inf, np.inf]], 0.5)
    np.testing.assert_array_equal(mask, [[0, 0, 1], [0, 0, 1]])
    assert mask.dtype == bool


def test_infinity_chooses_nothing_and_nan_is_no_threshold() -> None:
    assert not apply_threshold([[1.0, np.inf]], np.inf).any()
    with pytest.raises(ValueError, match="threshold must be a number, got nan"):
        apply_threshold([[1.0]], np.nan)


@given(HEATMAPS, SMOOTH, SMOOTH)
def test_a_higher_threshold_gives_a_subset(heatmap: np.ndarray, a: float, b: float) -> None:
    low, high = apply_threshold(heatmap, min(a, b)), apply_threshold(heatmap, max(a, b))
    assert not (high & ~low).any()


# One image


def test_fixed_is_what_was_asked() -> None:
    assert fixed_threshold(0.3) == 0.3


@pytest.mark.parametrize(
    ("call", "name"),
    [
        (fixed_threshold, "at"),
        (lambda v: quantile_threshold(np.eye(3), v), "q"),
        (lambda v: train_quantile_threshold([np.eye(3)], v), "q"),
        (lambda v: area_prior_threshold(np.eye(3), v, np.ones((3, 3))), "area"),
    ],
)
@pytest.mark.parametrize("value", [0.0, 1.0, -0.1, 7.0, np.nan])
def test_a_share_out_of_range_is_named(
    call: Callable[[float], float], name: str, value: float
) -> None:
    with pytest.raises(ValueError, match=rf"^{name} must be in \(0, 1\), got {value}"):
        call(value)


@pytest.mark.parametrize("seed", range(5))
def test_otsu_is_scikit_images(seed: int) -> None:
    raw = np.random.default_rng(seed).gamma(2.0, 3.0, (30, 20)) - 2
    expected = threshold_otsu(np.maximum(raw, 0) / raw.max())
    assert otsu_threshold(raw) == expected
    assert otsu_threshold(normalise(raw)) == expected


def test_otsu_parts_two_plateaus() -> None:
    heatmap = np.array([[0.0, 0.0, 0.0], [8.0, 9.0, 10.0]])
    heatmap[0, 1] = 0.5
    mask = apply_threshold(normalise(heatmap), otsu_threshold(heatmap))
    np.testing.assert_array_equal(mask[1], [1, 1, 1])
    assert not mask[0, [0, 2]].any()


@given(HEATMAPS, st.integers(-20, 20))
def test_otsu_and_fixed_do_not_depend_on_the_scale(heatmap: np.ndarray, power: int) -> None:
    scaled = heatmap * 2.0**power
    assert otsu_threshold(scaled) == otsu_threshold(heatmap)
    at = fixed_threshold(0.5)
    np.testing.assert_array_equal(
        apply_threshold(normalise(scaled), at), apply_threshold(normalise(heatmap), at)
    )


@flat
def test_of_a_flat_heatmap_no_rule_chooses_anything(heatmap: np.ndarray) -> None:
    region = np.ones(heatmap.shape, dtype=bool)
    for threshold in (
        otsu_threshold(heatmap),
        quantile_threshold(heatmap, 0.5),
        area_prior_threshold(heatmap, 0.5, region),
        oracle_threshold(heatmap, region),
    ):
        assert threshold == np.inf
    assert not apply_threshold(normalise(heatmap), fixed_threshold(0.5)).any()
    assert not area_prior_mask(heatmap, 0.5, region).any()


def test_a_quantile_without_ties_takes_its_share() -> None:
    heatmap = np.random.default_rng(0).permutation(np.arange(1.0, 101.0)).reshape(10, 10)
    mask = apply_threshold(heatmap, quantile_threshold(heatmap, 0.9))
    assert heatmap[mask].min() == 92
    assert mask.sum() == 9
    assert apply_threshold(heatmap, quantile_threshold(heatmap, 0.8)).sum() == 19


@given(HEATMAPS, INNER)
def test_a_quantile_takes_at_most_its_share_and_only_heat(heatmap: np.ndarray, q: float) -> None:
    mask = apply_threshold(heatmap, quantile_threshold(heatmap, q))
    assert mask.mean() <= 1 - q + 1e-12
    assert (heatmap[mask] > 0).all()


def test_a_quantile_of_mostly_zeros_takes_the_heat_there_is() -> None:
    heatmap = np.zeros((10, 10))
    heatmap[2, 3:6] = [0.1, 0.5, 1.0]
    threshold = quantile_threshold(heatmap, 0.9)
    assert threshold == 0
    np.testing.assert_array_equal(apply_threshold(heatmap, threshold), heatmap > 0)


def test_a_quantile_among_negative_heat_is_zero() -> None:
    assert quantile_threshold([[-4, -3, -2, -1, 5]], 0.5) == 0


def test_area_prior_takes_the_hottest_of_the_region_only() -> None:
    heatmap = np.arange(1.0, 101.0).reshape(10, 10)
    region = np.zeros((10, 10), dtype=bool)
    region[:5] = True
    mask = area_prior_mask(heatmap, 0.1, region)
    np.testing.assert_array_equal(np.flatnonzero(mask), [45, 46, 47, 48, 49])


def test_area_prior_takes_none_of_a_tie_that_does_not_fit() -> None:
    heatmap = np.array([[5.0, 3.0, 3.0, 3.0, 1.0, 1.0, 1.0, 1.0, 1.0, 0.0]])
    whole = np.ones_like(heatmap)
    assert area_prior_mask(heatmap, 0.3, whole).sum() == 1
    assert area_prior_mask(heatmap, 0.4, whole).sum() == 4


def test_area_prior_takes_whole_pixels_that_floats_round_down() -> None:
    heatmap = np.arange(1.0, 101.0).reshape(10, 10)
    assert area_prior_mask(heatmap, 0.29, np.ones((10, 10))).sum() == 29


def test_area_prior_never_takes_what_is_not_hot() -> None:
    heatmap = np.zeros((10, 10))
    heatmap[4, 4] = 1.0
    heatmap[0, 0] = -1.0
    assert np.argwhere(area_prior_mask(heatmap, 0.5, np.ones((10, 10)))).tolist() == [[4, 4]]


def test_area_prior_of_no_region_is_nothing() -> None:
    assert area_prior_threshold(np.eye(3), 0.5, np.zeros((3, 3))) == np.inf


@given(st.data(), INNER)
def test_area_prior_never_exceeds(data: st.DataObject, area: float) -> None:
    heatmap = data.draw(HEATMAPS)
    region = data.draw(hnp.arrays(np.bool_, heatmap.shape))
    mask = area_prior_mask(heatmap, area, region)
    assert mask.sum() <= area * region.sum() + 1e-6
    assert not (mask & ~region).any()
    assert (heatmap[mask] > 0).all()
    if mask.any():
        left = heatmap[region & ~mask]
        assert left.size == 0 or heatmap[mask].min() > left.max()


# A set


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


@given(st.data())
def test_the_dice_curve_is_that_of_a_plain_loop(data: st.DataObject) -> None:
    heatmap = data.draw(
        hnp.arrays(np.float64, SHAPES, elements=st.one_of(TIED, st.just(float("nan"))))
    )
    truth = data.draw(hnp.arrays(np.bool_, heatmap.shape))
    thresholds = np.array(data.draw(st.lists(st.one_of(TIED, SMOOTH), max_size=6)))
    expected = [_naive_dice(apply_threshold(heatmap, t), truth) for t in thresholds]
    np.testing.assert_array_equal(dice_curve(heatmap, truth, thresholds), expected)


def test_a_volume_four_voxels_deep_is_no_colour_image(recwarn: pytest.WarningsRecorder) -> None:
    otsu_threshold(np.random.default_rng(0).random((8, 8, 4)))
    assert not recwarn.list


def test_two_empty_masks_agree() -> None:
    np.testing.assert_array_equal(
        dice_curve([[0.2, 0.8]], [[False, False]], [0.5, 0.8, np.inf]), [0, 1, 1]
    )


def test_the_best_threshold_is_that_of_a_plain_search() -> None:
    pairs = [_blobs(s, (30 + s, 40)) for s in range(8)]
    maps, truths = [p[0] for p in pairs], [p[1] for p in pairs]
    truths[3] = np.zeros_like(truths[3])
    lesions = [i for i in range(8) if truths[i].any()]
    assert 4 < len(lesions) < 8
    expected = [np.mean([_naive_dice(maps[i] > t, truths[i]) for i in lesions]) for t in GRID]
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


@given(st.data())
def test_the_oracle_is_the_best_of_all_thresholds(data: st.DataObject) -> None:
    heatmap = data.draw(HEATMAPS.filter(lambda h: not is_flat(h)))
    truth = data.draw(hnp.arrays(np.bool_, heatmap.shape))
    oracle = oracle_threshold(heatmap, truth)
    reached = _naive_dice(apply_threshold(heatmap, oracle), truth)
    tried = [0.0, *heatmap[heatmap > 0], np.inf]
    dices = [_naive_dice(apply_threshold(heatmap, t), truth) for t in tried]
    assert reached == max(dices)
    best = [t for t, d in zip(tried, dices, strict=True) if d == reached]
    if np.isfinite(oracle):
        assert oracle == max(best)
    else:
        assert max(best) == np.inf


@pytest.mark.parametrize("seed", range(6))
def test_the_oracle_is_no_worse_than_any_rule(seed: int) -> None:
    heatmap, truth = _blobs(seed)
    rules = [*GRID, otsu_threshold(heatmap), *(quantile_threshold(heatmap, q) for q in GRID[1:-1])]
    oracle = dice_curve(heatmap, truth, [oracle_threshold(heatmap, truth)])[0]
    assert oracle >= dice_curve(heatmap, truth, rules).max()
    assert oracle > 0.3


def test_the_oracle_of_a_planted_lesion_is_perfect() -> None:
    heatmap = np.full((20, 20), 0.2)
    heatmap[3:7, 4:9] = np.linspace(0.5, 1.0, 20).reshape(4, 5)
    truth = heatmap >= 0.5
    threshold = oracle_threshold(heatmap, truth)
    assert threshold == 0.2
    np.testing.assert_array_equal(apply_threshold(heatmap, threshold), truth)


def test_the_oracle_chooses_nothing_where_there_is_nothing_to_find() -> None:
    heatmap = np.array([[0.0, 0.0, 0.4, 1.0]])
    assert oracle_threshold(heatmap, np.zeros((1, 4))) == np.inf
    assert oracle_threshold(heatmap, [[True, True, False, False]]) == np.inf


@pytest.mark.parametrize(
    "call",
    [
        lambda h, m: dice_curve(h, m, [0.5]),
        oracle_threshold,
        lambda h, m: best_threshold([h], [m]),
    ],
)
def test_shapes_that_differ_are_named(call: Callable[[object, object], object]) -> None:
    with pytest.raises(ValueError, match=r"truth must have the heatmap's shape \(2, 3\)"):
        call(np.zeros((2, 3)), np.ones((3, 2)))
    with pytest.raises(ValueError, match=r"region must have the heatmap's shape \(2, 3\)"):
        area_prior_threshold(np.zeros((2, 3)), 0.5, np.ones((3, 2)))


def test_a_heatmap_without_pixels_is_named() -> None:
    with pytest.raises(ValueError, match=r"at least one pixel, got shape \(0, 4\)"):
        normalise(np.zeros((0, 4)))


@pytest.mark.parametrize(
    ("heat", "flat"),
    [
        ([-np.inf, 1.0], True),
        ([1.0, np.inf], True),
        ([np.nan, 1.0], True),
        ([-1.0, 0.0], True),
        ([1.0 - 0.9e-6, 1.0], True),
        ([1.0 - 1.1e-6, 1.0], False),
        ([-1.0, 1e-9], False),
    ],
)
def test_flat_is_what_is_not_finite_not_positive_or_even_to_a_millionth(heat, flat):
    assert is_flat([heat]) is flat


def test_a_curve_without_thresholds_is_empty_and_their_order_is_kept() -> None:
    heatmap, truth = [[1, 2, 3, 4]], [[0, 0, 1, 1]]
    assert dice_curve(heatmap, truth, []).shape == (0,)
    # Above 3 one of two, above 0 all four, above 2 both; whole numbers as well.
    np.testing.assert_allclose(dice_curve(heatmap, truth, [3, 0, 2]), [2 / 3, 4 / 6, 1])


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


@pytest.mark.parametrize(("area", "count"), [(0.07, 7), (0.29, 29), (0.999, 99), (0.001, 0)])
def test_whole_pixels_are_counted_in_a_region_of_a_hundred(area: float, count: int) -> None:
    heat = np.arange(1.0, 201).reshape(2, 100)
    region = np.array([[True], [False]]) & np.ones((2, 100), bool)
    assert area_prior_mask(heat, area, region).sum() == count
    assert area_prior_threshold(heat, area, region) == 100 - count
