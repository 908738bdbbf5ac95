"""Thresholds: every rule against a naive one, and the promises of the docstrings."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from skimage.filters import threshold_otsu

from tests.masks.blobs import blobs, naive_dice
from weakseg.masks.rules import Evidence, segment
from weakseg.masks.rules.global_thresholds import FixedRule, OtsuRule, TrainQuantileRule
from weakseg.masks.set_thresholds import GRID, best_threshold, train_quantile_threshold
from weakseg.masks.thresholds import (
    apply_threshold,
    area_prior_mask,
    area_prior_threshold,
    dice_curve,
    fixed_threshold,
    is_flat,
    normalise,
    normalised_mask,
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
    "one pixel": np.ones((1, 1)),
}
flat = pytest.mark.parametrize("heatmap", FLAT.values(), ids=FLAT.keys())
not_finite = pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])


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
    found = normalise(heatmap)
    assert (found.dtype, found.shape) == (np.float64, heatmap.shape)
    assert not found.any()


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


def test_at_the_threshold_is_not_lesion() -> None:
    mask = apply_threshold([[0.4, 0.5, 0.6]], 0.5)
    np.testing.assert_array_equal(mask, [[0, 0, 1]])
    assert mask.dtype == bool


@not_finite
def test_heat_that_is_not_finite_says_nothing_and_gives_no_mask(value: float) -> None:
    heatmap = np.array([[value, 1.0], [2.0, 3.0]])
    assert is_flat(heatmap)
    assert quantile_threshold(heatmap, 0.5) == np.inf
    assert area_prior_threshold(heatmap, 0.5, np.ones((2, 2), dtype=bool)) == np.inf
    for call in (normalise, otsu_threshold, lambda h: apply_threshold(h, 0.5)):
        with pytest.raises(ValueError, match="heatmap must hold numbers, got NaN or infinity 1"):
            call(heatmap)


@pytest.mark.parametrize(
    ("odd", "got"),
    [
        (None, "NoneType"),
        ("heat.png", "type <U8"),
        ({"heat": 1}, "dict"),
        (np.array([[1 + 2j]]), "type complex128"),
        (np.array([[None]]), "type object"),
        (5.0, "the single number 5.0"),
        ([], "shape \\(0,\\)"),
    ],
)
def test_what_is_no_heatmap_is_named(odd: object, got: str) -> None:
    for call in (is_flat, normalise, otsu_threshold, lambda h: apply_threshold(h, 0.5)):
        with pytest.raises(ValueError, match=f"heatmap must .*, got {got}"):
            call(odd)


@pytest.mark.parametrize("odd", [None, "0.5", [0.5], 1j])
def test_a_threshold_is_a_number(odd: object) -> None:
    with pytest.raises(ValueError, match="threshold must be a number, got"):
        apply_threshold([[1.0]], odd)


def test_infinity_chooses_nothing_and_nan_is_no_threshold() -> None:
    assert not apply_threshold([[1.0, 2.0]], np.inf).any()
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


@pytest.mark.thorough
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


@given(st.data())
def test_the_dice_curve_is_that_of_a_plain_loop(data: st.DataObject) -> None:
    heatmap = data.draw(hnp.arrays(np.float64, SHAPES, elements=TIED))
    truth = data.draw(hnp.arrays(np.bool_, heatmap.shape))
    thresholds = np.array(data.draw(st.lists(st.one_of(TIED, SMOOTH), max_size=6)))
    expected = [naive_dice(apply_threshold(heatmap, t), truth) for t in thresholds]
    np.testing.assert_array_equal(dice_curve(heatmap, truth, thresholds), expected)


def test_a_volume_four_voxels_deep_is_no_colour_image(recwarn: pytest.WarningsRecorder) -> None:
    otsu_threshold(np.random.default_rng(0).random((8, 8, 4)))
    assert not recwarn.list


def test_two_empty_masks_agree() -> None:
    np.testing.assert_array_equal(
        dice_curve([[0.2, 0.8]], [[False, False]], [0.5, 0.8, np.inf]), [0, 1, 1]
    )


@given(st.data())
def test_the_oracle_is_the_best_of_all_thresholds(data: st.DataObject) -> None:
    heatmap = data.draw(HEATMAPS.filter(lambda h: not is_flat(h)))
    truth = data.draw(hnp.arrays(np.bool_, heatmap.shape))
    oracle = oracle_threshold(heatmap, truth)
    reached = naive_dice(apply_threshold(heatmap, oracle), truth)
    tried = [0.0, *heatmap[heatmap > 0], np.inf]
    dices = [naive_dice(apply_threshold(heatmap, t), truth) for t in tried]
    assert reached == max(dices)
    best = [t for t, d in zip(tried, dices, strict=True) if d == reached]
    if np.isfinite(oracle):
        assert oracle == max(best)
    else:
        assert max(best) == np.inf


@pytest.mark.parametrize("seed", range(6))
def test_the_oracle_is_no_worse_than_any_rule(seed: int) -> None:
    heatmap, truth = blobs(seed)
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


@pytest.mark.parametrize(("area", "count"), [(0.07, 7), (0.29, 29), (0.999, 99), (0.001, 0)])
def test_whole_pixels_are_counted_in_a_region_of_a_hundred(area: float, count: int) -> None:
    heat = np.arange(1.0, 201).reshape(2, 100)
    region = np.array([[True], [False]]) & np.ones((2, 100), bool)
    assert area_prior_mask(heat, area, region).sum() == count
    assert area_prior_threshold(heat, area, region) == 100 - count


@pytest.mark.parametrize(
    ("heat", "truth", "threshold"),
    [
        # All of it, although the coolest is warm: the threshold is no heat at all.
        ([0.5, 0.6], [1, 1], 0.0),
        ([5.0, 6.0], [1, 1], 0.0),
        # One of one and two of four reach 2 / 3 alike, with two lesions: the higher is taken.
        ([0.9, 0.7, 0.5, 0.3, 0.1], [1, 0, 0, 1, 0], 0.7),
        # Three of four reach 6 / 7, one of one 2 / 4.
        ([0.9, 0.7, 0.5, 0.3, 0.1], [1, 0, 1, 1, 0], 0.1),
        # Equal heat goes together: 2 of 3.
        ([0.9, 0.5, 0.5, 0.2], [1, 1, 0, 0], 0.2),
    ],
)
def test_the_oracle_by_hand(heat: list[float], truth: list[int], threshold: float) -> None:
    assert oracle_threshold([heat], [truth]) == threshold
    assert oracle_threshold([heat[::-1]], [truth[::-1]]) == threshold


def test_large_heatmaps_are_cut_as_small_ones(monkeypatch):
    heat = np.random.default_rng(3).random((7, 6, 5)).astype(np.float32)
    at = float(heat[2, 3, 4])  # not above itself
    expected = heat.astype(np.float64) > at
    monkeypatch.setattr("weakseg.masks.thresholds.AT_ONCE", 10)
    np.testing.assert_array_equal(apply_threshold(heat, at), expected)
    heat[6, 5, 4] = np.nan
    with pytest.raises(ValueError, match="NaN"):
        apply_threshold(heat, at)


@pytest.mark.thorough
@given(HEATMAPS, INNER)
def test_in_parts_thresholds_and_masks_are_the_very_same(heatmap: np.ndarray, at: float) -> None:
    heat = heatmap.astype(np.float32)
    whole = otsu_threshold(heat), normalised_mask(heat, at)
    region = np.random.default_rng(0).random(heat.shape) < 0.6
    shares = quantile_threshold(heat, at), area_prior_threshold(heat, at, region)
    np.testing.assert_array_equal(whole[1], apply_threshold(normalise(heat), at))
    with pytest.MonkeyPatch.context() as patch:
        for module in ("thresholds", "checks"):
            patch.setattr(f"weakseg.masks.{module}.AT_ONCE", 0)
        assert otsu_threshold(heat) == whole[0]
        assert (quantile_threshold(heat, at), area_prior_threshold(heat, at, region)) == shares
        np.testing.assert_array_equal(normalised_mask(heat, at), whole[1])


@pytest.mark.parametrize("rule", [OtsuRule(), FixedRule(at=0.3), TrainQuantileRule()])
def test_rules_of_one_number_make_the_same_mask_of_singles_and_of_doubles(rule) -> None:
    heat = np.random.default_rng(0).normal(size=(5, 6, 7)).astype(np.float32)
    fitted = rule.fit(Evidence(train=lambda: [heat], val=list, test=list))
    made = [segment(fitted, heat), segment(fitted, heat.astype(np.float64))]
    with pytest.MonkeyPatch.context() as patch:
        for module in ("thresholds", "checks"):
            patch.setattr(f"weakseg.masks.{module}.AT_ONCE", 10)
        made.append(segment(fitted, heat))
        with pytest.raises(ValueError, match="heatmap must hold numbers, got NaN or infinity 2"):
            segment(
                fitted,
                np.where(heat == heat.max(), np.nan, np.where(heat == heat.min(), np.inf, heat)),
            )
    assert 0 < made[0].sum() < heat.size
    for other in made[1:]:
        np.testing.assert_array_equal(other, made[0])
