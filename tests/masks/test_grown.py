"""The grown rule against lesions that reach beyond the warm region."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage

from weakseg.config import parse_config
from weakseg.errors import ConfigError
from weakseg.masks.rules import Evidence, segment
from weakseg.masks.rules.grown import GrownRule, grown_mask
from weakseg.masks.rules.two_tone import two_tone_mask

SHAPE = (48, 44)


def far(y: float, x: float) -> np.ndarray:
    rows, columns = np.mgrid[: SHAPE[0], : SHAPE[1]]
    return np.hypot(rows - y, columns - x)


HEAT = np.exp(-((far(20, 20) / 8) ** 2))
"""Above 0.35 within 8.2 pixels of its middle, above 0.2 within 10.1."""

LESION = far(20, 22) < 7.5
"""Up to 9.5 pixels from the middle of the heat."""


@pytest.mark.parametrize("tone", [60.0, -60.0], ids=["bright", "dark"])
def test_a_lesion_is_found_to_its_end_outside_the_warm_region(tone):
    image = 100 + tone * LESION
    part = two_tone_mask(HEAT, image, blur=0)
    assert part.sum() < 0.97 * LESION.sum()
    np.testing.assert_array_equal(grown_mask(HEAT, image, blur=0), LESION)


def test_what_has_the_tone_and_does_not_touch_the_part_stays_outside():
    near = far(20, 20) < 10
    other = near & ~LESION & (far(20, 10.5) < 1.2)
    assert other.any()
    assert (HEAT[other] > 0.2).all()
    assert (HEAT[other] < 0.35).all()
    image = 100 + 60.0 * (LESION | other)
    np.testing.assert_array_equal(grown_mask(HEAT, image, blur=0), LESION)


def test_where_it_would_become_too_large_more_heat_is_asked_for():
    """By hand: a row whose heat falls by a tenth a pixel; all but the ends is of one tone."""
    heat = np.tile(
        np.array([0.05, 0.25, 0.45, 0.65, 0.85, 1.0, 0.85, 0.65, 0.45, 0.25, 0.05]), (3, 1)
    )
    image = np.tile(np.array([0, 9, 9, 9, 9, 9, 9, 9, 9, 9, 0.0]), (3, 1))
    image[0] = 0
    column = np.arange(11)
    warm_part = (heat > 0.6) & (image > 0)  # 5 columns of two rows
    assert warm_part.sum() == 10
    reached = {
        most: grown_mask(heat, image, warm=0.6, reach=0.1, most=most, blur=0)
        for most in (1, 1.5, 3)
    }
    np.testing.assert_array_equal(reached[1], warm_part)
    np.testing.assert_array_equal(reached[1.5], (image > 0) & (abs(column - 5) < 4))
    np.testing.assert_array_equal(reached[3], image > 0)


@pytest.mark.parametrize("tone", [60.0, -60.0], ids=["bright", "dark"])
def test_where_the_cold_has_much_of_the_tone_nothing_grows(tone):
    cold = HEAT <= 0.2
    # A third of the cold, away from the lesion, is of the lesion's tone.
    strip = cold & (np.indices(SHAPE)[0] >= 34)
    share = strip.sum() / cold.sum()
    image = 100 + tone * (LESION | strip)
    part = two_tone_mask(HEAT, image, blur=0)
    assert part.sum() < 0.97 * LESION.sum()
    for rare, expected in ((share * 0.99, part), (share * 1.01, LESION), (1.0, LESION)):
        np.testing.assert_array_equal(grown_mask(HEAT, image, rare=rare, blur=0), expected)


def test_what_is_as_hot_as_the_reach_is_cold_and_a_share_on_its_limit_is_not_too_large():
    """By hand: of four cold pixels one is of the tone, and it is as hot as the reach."""
    heat = np.array([[0, 0.5, 1, 0.6, 0.25, 0.3], [0, 0.3, 0.7, 0.3, 0.3, 0]])
    image = np.array([[9, 0, 0, 0, 0, 9], [9.0] * 6])
    told = {"warm": 0.55, "reach": 0.25, "blur": 0, "most": 9}
    part = two_tone_mask(heat, image, warm=0.55, blur=0)
    grown = grown_mask(heat, image, **told)
    assert (part.sum(), grown.sum()) == (2, 3)
    np.testing.assert_array_equal(grown_mask(heat, image, rare=0.24, **told), part)
    np.testing.assert_array_equal(grown_mask(heat, image, rare=0.25, **told), grown)
    np.testing.assert_array_equal(grown_mask(heat, image, rare=0, **told), part)


def test_where_nothing_is_cold_its_share_of_the_tone_is_none(recwarn):
    image = 100 + 60.0 * LESION
    warmed = np.maximum(HEAT, 0.21)
    np.testing.assert_array_equal(grown_mask(warmed, image, rare=0.01, blur=0), LESION)
    assert not recwarn.list


def test_what_is_no_body_does_not_count_as_cold():
    """A dark lesion before a dark background outside of the head."""
    head = far(22, 22) < 18
    image = np.where(head, 100.0 - 60 * LESION, 0.0)
    assert (image[HEAT <= 0.2] < 40).mean() > 0.4
    np.testing.assert_array_equal(grown_mask(HEAT, image, rare=0.1, blur=0), LESION)


def test_holes_are_filled():
    image = 100 + 60.0 * (LESION & (far(20, 22) >= 1.5))
    np.testing.assert_array_equal(grown_mask(HEAT, image, blur=0), LESION)


@given(st.integers(0, 60), st.floats(1.0, 5.0))
def test_it_holds_the_two_tone_part_and_keeps_its_bounds(seed, most):
    rng = np.random.default_rng(seed)
    heat = ndimage.gaussian_filter(rng.normal(size=SHAPE), 4)
    heat = np.maximum(heat / heat.max(), 0)
    image = ndimage.gaussian_filter(rng.normal(size=SHAPE), 1.5)
    part = two_tone_mask(heat, image)
    grown = grown_mask(heat, image, most=most)
    assert grown[part].all()
    outside = grown & ~ndimage.binary_fill_holes(grown & (heat > 0.2))
    assert not (outside & ~part).any()
    if most == 1:
        np.testing.assert_array_equal(grown, part)


def test_a_flat_heatmap_and_an_even_image():
    image = np.full(SHAPE, 7.0)
    assert not grown_mask(np.zeros(SHAPE), image).any()
    np.testing.assert_array_equal(grown_mask(HEAT, image), two_tone_mask(HEAT, image))


def test_it_is_a_rule_of_the_experiment():
    config = parse_config({"masks": {"rules": [{"rule": "grown", "reach": 0.1, "most": 2}]}})
    (rule,) = config.masks.rules
    assert rule == GrownRule(reach=0.1, most=2)
    fitted = rule.fit(Evidence(train=list, val=list, test=list))
    assert (fitted.masks_seen, fitted.needs_image) == (0, True)
    image = 100 + 60.0 * LESION
    np.testing.assert_array_equal(
        segment(fitted, HEAT, image), grown_mask(HEAT, image, reach=0.1, most=2)
    )
    with pytest.raises(ConfigError, match="reach must be below warm"):
        parse_config({"masks": {"rules": [{"rule": "grown", "reach": 0.5}]}})


@pytest.mark.parametrize(
    "wrong", [{"reach": 0.4}, {"reach": 0.0}, {"most": 0.5}, {"blur": -1}, {"rare": 1.1}]
)
def test_parameters_out_of_range_are_refused(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        grown_mask(HEAT, np.zeros(SHAPE), **wrong)


def test_the_heat_that_is_asked_for_rises_in_sixteen_equal_steps():
    """A row of one tone: joined is what lies above the first step that leaves few enough."""
    column = np.arange(400)
    heat = np.maximum(0, 1 - abs(column - 200) / 200)[None] * np.ones((2, 1))
    image = np.ones((2, 400))
    image[1] = 0  # so that there are two tones
    heat[1] *= 0.9
    warm, reach = 0.6, 0.2
    part = int((heat[0] > warm).sum())
    steps = [reach + k * (warm - reach) / 16 for k in range(16)]
    sizes = [int((heat[0] > level).sum()) for level in steps]
    assert len(set(sizes)) == 16
    for most in np.linspace(1, 2.2, 40):
        made = grown_mask(heat, image, warm=warm, reach=reach, most=most, blur=0)
        assert made.sum() == next((s for s in sizes if s <= most * part), part)
        assert not made[1].any()


def test_exactly_as_many_times_the_part_is_not_too_many():
    heat = np.array([[0.3, 0.3, 0.8, 1.0, 0.3, 0.3, 0.0], [0, 0, 0.7, 0, 0, 0, 0]])
    image = np.array([[0, 1, 1, 1, 1, 0, 0], [0] * 7])
    sizes = [
        grown_mask(heat, image, warm=0.6, reach=0.2, most=most, blur=0).sum()
        for most in (1, 1.99, 2, 3)
    ]
    assert sizes == [2, 2, 4, 4]


def test_the_growth_never_falls_to_its_reach():
    heat = np.array([[0.25, 0.5, 0.5, 1.0, 0.5, 0.26, 0.0], [0, 0, 0, 0.9, 0, 0, 0]])
    image = np.array([[1.0] * 7, [0.0] * 7])
    made = grown_mask(heat, image, warm=0.75, reach=0.25, most=9, blur=0)
    assert made.astype(int).tolist() == [[0, 1, 1, 1, 1, 1, 0], [0] * 7]


def test_all_parts_grow_and_the_smaller_ones_stay():
    """Two discs of one tone, each within its own warm spot, one of a fifth of the other's size."""
    large, small = far(16, 16) < 7, far(38, 34) < 3.2
    heat = np.maximum(np.exp(-((far(16, 16) / 7) ** 2)), np.exp(-((far(38, 34) / 3) ** 2)))
    image = 1.0 * (large | small)
    part = two_tone_mask(heat, image, blur=0)
    assert (part & small).any()
    assert part.sum() < 0.97 * image.sum()
    np.testing.assert_array_equal(grown_mask(heat, image, reach=0.05, blur=0), image)


def test_a_heatmap_s_own_maximum_is_what_shares_are_of():
    image = 100 + 60.0 * LESION
    np.testing.assert_array_equal(grown_mask(7 * HEAT, image, blur=0), LESION)


def test_the_defaults_are_those_of_the_rule():
    """On a ramp, of which the part takes a fifth: how many times it may grow shows."""
    heat = np.maximum(0, 1 - abs(np.arange(400) - 200) / 200)[None] * np.array([[1], [0.9]])
    image = np.array([[1.0], [0.0]]) * np.ones((2, 400))
    rule = GrownRule(warm=0.8)
    settings = {k: getattr(rule, k) for k in ("reach", "most", "blur")}
    made = grown_mask(heat, image, warm=0.8)
    np.testing.assert_array_equal(made, grown_mask(heat, image, warm=0.8, **settings))
    assert made.sum() < grown_mask(heat, image, warm=0.8, most=4).sum()
    heat, image = np.random.default_rng(0).random((2, 30, 40))
    np.testing.assert_array_equal(
        grown_mask(heat, image), grown_mask(heat, image, warm=GrownRule().warm)
    )
