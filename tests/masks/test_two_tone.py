"""The two-tone split against lesions whose outline is known."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage
from skimage.filters import threshold_otsu

from weakseg.masks.rules import Evidence, segment
from weakseg.masks.rules.hot_box import smoothing
from weakseg.masks.rules.two_tone import TwoToneRule, two_tone_mask, warm_tone

SHAPE = (48, 40)


def _far(y: float = 22, x: float = 19) -> np.ndarray:
    """Distance from a point, in pixels."""
    rows, columns = np.mgrid[: SHAPE[0], : SHAPE[1]]
    return np.hypot(rows - y, columns - x)


LESION = _far() < 7
HEAT = np.exp(-((_far(24, 20) / 16) ** 2))  # broad, and a little beside the lesion
WARM = HEAT > 0.35


def _noisy(seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    heat = ndimage.gaussian_filter(rng.normal(size=SHAPE), 4)
    return heat / heat.max(), ndimage.gaussian_filter(rng.normal(size=SHAPE), 1.5)


def test_the_case_is_a_lesion_well_inside_the_warm_region():
    assert WARM[LESION].all()
    assert WARM.sum() > 3 * LESION.sum()


@pytest.mark.parametrize("tone", [60.0, -60.0], ids=["bright", "dark"])
def test_a_lesion_is_found_exactly_whatever_its_tone(tone):
    image = 100 + tone * LESION
    np.testing.assert_array_equal(two_tone_mask(HEAT, image, blur=0), LESION)


@pytest.mark.parametrize("tone", [60.0, -60.0], ids=["bright", "dark"])
def test_what_is_cold_is_no_lesion_though_it_has_the_lesions_tone(tone):
    elsewhere = _far(42, 34) < 4
    assert not (elsewhere & WARM).any()
    image = 100 + tone * (LESION | elsewhere)
    np.testing.assert_array_equal(two_tone_mask(HEAT, image, blur=0), LESION)


def test_smoothing_finds_a_lesion_under_noise():
    image = 100 + 60 * LESION + np.random.default_rng(0).normal(0, 25, SHAPE)
    sharp, smooth = (two_tone_mask(HEAT, image, blur=b) for b in (0.0, 0.03))

    def dice(mask):
        return 2 * (mask & LESION).sum() / (mask.sum() + LESION.sum())

    assert dice(smooth) > 0.93
    assert dice(smooth) > dice(sharp)


def test_the_hotter_tone_is_taken_and_not_the_larger():
    """The middle is 1 hot and 9 pixels, the rim 0.5 hot and 40."""
    heat, image = np.zeros((9, 9)), np.zeros((9, 9))
    heat[1:8, 1:8], heat[3:6, 3:6] = 0.5, 1.0
    image[3:6, 3:6] = 1
    middle = heat == 1
    np.testing.assert_array_equal(two_tone_mask(heat, image, blur=0), middle)
    np.testing.assert_array_equal(two_tone_mask(heat, -image, blur=0), middle)
    np.testing.assert_array_equal(two_tone_mask(heat, image, blur=0, warm=0.6), middle)


@pytest.mark.parametrize("factor", [1e-3, 1.0, 300.0, -1e-3, -1.0, -300.0])
@pytest.mark.parametrize("shift", [-50.0, 0.0, 500.0])
@pytest.mark.parametrize("blur", [0.0, 0.02])
def test_an_affine_change_of_the_image_does_not_matter(factor, shift, blur):
    """A negative factor makes of the bright lesion a dark one."""
    image = 1.0 * LESION
    expected = two_tone_mask(HEAT, image, blur=blur)
    assert 0.8 * LESION.sum() < expected.sum() < 1.25 * LESION.sum()
    np.testing.assert_array_equal(two_tone_mask(HEAT, factor * image + shift, blur=blur), expected)


@given(st.integers(0, 50), st.floats(1e-3, 1e3))
def test_the_scale_of_the_heat_does_not_matter(seed, factor):
    heat, image = _noisy(seed)
    expected = two_tone_mask(heat, image)
    np.testing.assert_array_equal(two_tone_mask(factor * heat, image), expected)


@given(st.integers(0, 50), st.sampled_from([0.2, 0.35, 0.6]))
def test_nothing_outside_the_warm_region_but_its_filled_holes(seed, warm):
    heat, image = _noisy(seed)
    mask = two_tone_mask(heat, image, warm=warm)
    assert mask.any()
    assert not mask[~ndimage.binary_fill_holes(heat > warm)].any()


def test_what_a_warm_ring_encloses_belongs_to_it():
    heat = ((_far() > 8) & (_far() < 14)).astype(float)
    np.testing.assert_array_equal(two_tone_mask(heat, np.ones(SHAPE)), _far() < 14)


@given(st.integers(0, 50))
def test_a_mask_has_no_holes(seed):
    mask = two_tone_mask(*_noisy(seed))
    np.testing.assert_array_equal(ndimage.binary_fill_holes(mask), mask)


@pytest.mark.parametrize("value", [0.0, 1e-9, 7.0, -3.0])
def test_an_even_image_gives_the_warm_region(value, recwarn):
    np.testing.assert_array_equal(two_tone_mask(HEAT, np.full(SHAPE, value)), WARM)
    assert not recwarn.list


def test_rounding_errors_are_no_tones():
    image = 0.1 + 1e-9 * np.random.default_rng(0).random(SHAPE)
    np.testing.assert_array_equal(two_tone_mask(HEAT, image), WARM)


@pytest.mark.parametrize("heat", [np.zeros(SHAPE), np.ones(SHAPE), -HEAT])
def test_a_flat_heatmap_gives_nothing(heat):
    mask = two_tone_mask(heat, 1.0 * LESION)
    assert mask.dtype == bool
    assert mask.shape == SHAPE
    assert not mask.any()


def test_negative_heat_is_cold():
    signed = HEAT - 0.3
    np.testing.assert_array_equal(
        two_tone_mask(signed, 1.0 * LESION, blur=0),
        two_tone_mask(np.maximum(signed, 0), 1.0 * LESION, blur=0),
    )


def test_a_speck_is_dropped_and_a_hole_filled():
    speck, hole = _far(24, 33) < 1.5, _far() < 2
    assert WARM[speck].all()
    assert speck.sum() < 0.1 * LESION.sum() < 2 * speck.sum()
    image = 1.0 * ((LESION & ~hole) | speck)
    np.testing.assert_array_equal(two_tone_mask(HEAT, image, blur=0), LESION)


def test_a_second_part_that_is_large_enough_stays():
    second = _far(24, 33) < 3
    assert WARM[second].all()
    assert second.sum() > 0.1 * LESION.sum()
    found = two_tone_mask(HEAT, 1.0 * (LESION | second), blur=0)
    np.testing.assert_array_equal(found, LESION | second)


def test_of_a_colour_image_the_mean_of_its_colours_counts():
    colours = np.stack([1.0 * LESION, np.zeros(SHAPE), 0.5 * LESION], axis=2)
    np.testing.assert_array_equal(two_tone_mask(HEAT, colours, blur=0), LESION)
    # Where red falls as green rises the brightness is even.
    even = np.stack([1.0 * LESION, 1.0 - LESION, np.zeros(SHAPE)], axis=2)
    np.testing.assert_array_equal(two_tone_mask(HEAT, even, blur=0), WARM)


def test_bytes_are_read_as_numbers():
    image = np.where(LESION, 10, 250).astype(np.uint8)
    np.testing.assert_array_equal(two_tone_mask(HEAT, image, blur=0), LESION)


def test_the_arguments_are_left_alone():
    heat, image = HEAT.copy(), 1.0 * LESION
    two_tone_mask(heat, image)
    np.testing.assert_array_equal(heat, HEAT)
    np.testing.assert_array_equal(image, LESION)


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        ({"warm": 0.0}, "warm"),
        ({"warm": 1.0}, "warm"),
        ({"warm": -0.1}, "warm"),
        ({"warm": float("nan")}, "warm"),
        ({"blur": -0.01}, "blur"),
    ],
)
def test_parameters_out_of_range(bad, words):
    with pytest.raises(ValueError, match=f"^{words} must"):
        two_tone_mask(HEAT, HEAT, **bad)


@pytest.mark.parametrize("shape", [(48, 41), (40, 48), (47, 40, 3)])
def test_shapes_must_agree(shape):
    with pytest.raises(ValueError, match=r"heatmap is \(48, 40\)"):
        two_tone_mask(HEAT, np.zeros(shape))


@pytest.mark.parametrize("shape", [(48,), (0, 0), (2, 48, 40, 3)])
def test_what_is_no_image_is_refused(shape):
    with pytest.raises(ValueError):
        two_tone_mask(HEAT, np.zeros(shape))


def test_the_rule_two_tone_is_this_function():
    image = 100 - 60.0 * LESION + 20 * (_far(10, 20) < 9)
    rule = TwoToneRule(warm=0.5, blur=0.01).fit(Evidence(train=list, val=list, test=list))
    assert rule.needs_image
    assert not rule.oracle
    assert rule.masks_seen == 0
    expected = two_tone_mask(HEAT, image, warm=0.5, blur=0.01)
    np.testing.assert_array_equal(segment(rule, HEAT, image), expected)
    with pytest.raises(ValueError, match="needs the image"):
        segment(rule, HEAT)


# By hand: what is warm, what is bright, and which of the two is taken


def tones(heat, image, **settings):
    grey = np.asarray(image, dtype=float)
    inside, tone = warm_tone(np.array(heat, float), grey, **{"warm": 0.5, "sd": [0, 0]} | settings)
    return inside.astype(int).tolist(), tone.astype(int).tolist()


def test_the_tone_of_the_whole_image_comes_with_its_part_in_the_warm_region():
    heat = [[0.1, 0.5, 0.6, 0.9, 0.7, 1.0, 0.2, 0.1]]
    # Warm are the third to the sixth; bright ones are hotter there: 1.6 against 1.6 / 2.
    bright = [[9, 0, 0, 9, 0, 9, 9, 0]]
    assert tones(heat, bright) == ([[0, 0, 0, 1, 0, 1, 0, 0]], [[1, 0, 0, 1, 0, 1, 1, 0]])
    dark = [[0, 9, 9, 0, 9, 0, 0, 9]]
    assert tones(heat, dark) == ([[0, 0, 0, 1, 0, 1, 0, 0]], [[1, 0, 0, 1, 0, 1, 1, 0]])
    even = np.full((1, 8), 3)
    assert tones(heat, even) == ([[0, 0, 1, 1, 1, 1, 0, 0]],) * 2
    assert tones(heat, even, warm=0.6) == ([[0, 0, 0, 1, 1, 1, 0, 0]],) * 2


def test_of_equally_hot_tones_the_bright_one_is_taken():
    assert tones([[0, 1, 1, 1, 1]], [[0, 5, 5, 2, 2]])[0] == [[0, 1, 1, 0, 0]]
    assert tones([[0, 1, 1, 1, 1]], [[0, 2, 5, 5, 2]])[0] == [[0, 0, 1, 1, 0]]


def test_the_mean_counts_and_not_the_sum():
    """Three dark pixels have more heat than the bright one, and less each."""
    assert tones([[0.7, 0.7, 0.7, 1.0]], [[0, 0, 0, 9]])[0] == [[0, 0, 0, 1]]
    assert tones([[0.7, 0.7, 0.7, 1.0]], [[9, 9, 9, 0]])[0] == [[0, 0, 0, 1]]


def test_a_value_on_otsu_s_threshold_is_dark():
    """256 bins from 0 to 256: the middle of the first is a half."""
    image = np.array([[0.0] * 6 + [0.5] + [256.0] * 6])
    assert threshold_otsu(image) == 0.5
    assert tones(np.ones((1, 13)), image)[1] == [[0] * 7 + [1] * 6]


@pytest.mark.parametrize(("shape", "sd"), [((40, 20), 1.2), ((10, 50), 1.5)])
def test_the_smoothing_is_a_share_of_the_longer_side(shape, sd):
    rng = np.random.default_rng(0)
    image, heat = rng.random(shape), np.ones(shape)
    heat[0] = 0
    smooth = ndimage.gaussian_filter(image, sd)
    bright = smooth > threshold_otsu(smooth[1:])
    _, tone = warm_tone(heat, image, warm=0.5, sd=smoothing(shape, 0.03))
    np.testing.assert_array_equal(tone, bright)


@pytest.mark.parametrize("level", [1.0, 1e6, 1e-15])
def test_an_image_is_even_where_its_range_is_a_millionth_of_it(level):
    heat = [[0.0, 1.0, 1.0, 1.0]]
    parted = level * np.array([[0, 1, 1, 1 + 1.1e-6]])
    assert tones(heat, parted)[0] == [[0, 0, 0, 1]]
    even = level * np.array([[0, 1, 1, 1 + 0.9e-6]])
    assert tones(heat, even)[0] == [[0, 1, 1, 1]]
    # Its own magnitude counts, and not that of what is cold.
    assert tones(heat, parted + level * np.array([[1e9, 0, 0, 0]]))[0] == [[0, 0, 0, 1]]
    # Below zero as well.
    assert tones(heat, -parted)[0] == [[0, 1, 1, 0]]
    assert tones(heat, -even)[0] == [[0, 1, 1, 1]]


def test_the_defaults_are_those_of_the_rule():
    heat, image = _noisy(3)
    rule = TwoToneRule()
    made = two_tone_mask(heat, image, warm=rule.warm, blur=rule.blur)
    np.testing.assert_array_equal(two_tone_mask(heat, image), made)
