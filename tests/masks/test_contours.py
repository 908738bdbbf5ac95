"""Active contours, region growing and the watershed: other loops, cases by hand, what must hold."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage
from skimage.segmentation import flood, morphsnakes

from weakseg.config import parse_config
from weakseg.masks.contours import edge_contour, region_contour
from weakseg.masks.floors import FLOORS
from weakseg.masks.rules import RULES, Evidence, segment
from weakseg.masks.rules.chan_vese import chan_vese_mask
from weakseg.masks.rules.region_growing import region_growing_mask
from weakseg.masks.rules.snake import snake_mask
from weakseg.masks.rules.watershed import watershed_mask

MASKS = {
    "chan-vese": chan_vese_mask,
    "snake": snake_mask,
    "watershed": watershed_mask,
    "region-growing": region_growing_mask,
}
ROWS, COLUMNS = np.mgrid[:40, :44]
FAR = np.hypot(ROWS - 19, COLUMNS - 22)
LESION = FAR < 9
HEAT = np.exp(-((np.hypot(ROWS - 18, COLUMNS - 20) / 10) ** 2))
"""Above 0.7 within 6 pixels of its middle, above 0.3 within 11."""


@pytest.fixture
def fresh(monkeypatch):
    """The library's smoothing, which goes on where the last caller left off, from its beginning."""
    halves = [
        lambda u: morphsnakes.sup_inf(morphsnakes.inf_sup(u)),
        lambda u: morphsnakes.inf_sup(morphsnakes.sup_inf(u)),
    ]
    monkeypatch.setattr(morphsnakes, "_curvop", morphsnakes._fcycle(halves))


@pytest.mark.parametrize("smoothing", [0, 1, 2, 3])
@pytest.mark.parametrize("steps", [1, 7, 40])
def test_contours_without_edges_are_scikit_image_s(fresh, steps, smoothing):
    rng = np.random.default_rng(steps)
    grey = ndimage.gaussian_filter(rng.random((25, 31)), 2)
    start = ndimage.gaussian_filter(rng.random((25, 31)), 3) > 0.5
    wanted = morphsnakes.morphological_chan_vese(grey, steps, start, smoothing)
    made = region_contour(grey, start, grey > -1, steps=steps, smoothing=smoothing)
    np.testing.assert_array_equal(made, wanted > 0)


@pytest.mark.parametrize("smoothing", [0, 1, 2])
@pytest.mark.parametrize("steps", [1, 6, 31])
def test_geodesic_contours_are_scikit_image_s(fresh, steps, smoothing):
    rng = np.random.default_rng(steps)
    grey = ndimage.gaussian_filter(rng.random((25, 31)), 1)
    calm = morphsnakes.inverse_gaussian_gradient(grey, sigma=1)
    start = np.hypot(*(np.indices(grey.shape) - 12)) < 4
    stop = float(np.percentile(calm, 40))
    wanted = morphsnakes.morphological_geodesic_active_contour(
        calm, steps, start, smoothing, balloon=1, threshold=stop
    )
    made = edge_contour(calm, start, calm > -1, steps=steps, smoothing=smoothing, stop=stop)
    np.testing.assert_array_equal(made, wanted > 0)


def test_equal_calls_give_equal_contours_however_many_steps():
    grey = ndimage.gaussian_filter(np.random.default_rng(0).random((20, 20)), 1)
    made = [region_contour(grey, grey > 0.5, grey > 0, steps=5) for _ in range(2)]
    np.testing.assert_array_equal(*made)


@pytest.mark.parametrize("name", MASKS)
@pytest.mark.parametrize("tone", [0.5, -0.5], ids=["bright", "dark"])
def test_a_lesion_is_outlined_by_its_own_edge(name, tone):
    image = 0.5 + tone * LESION + np.random.default_rng(0).normal(0, 0.02, LESION.shape)
    made = MASKS[name](HEAT, image)
    dice = 2 * (made & LESION).sum() / (made.sum() + LESION.sum())
    heated = HEAT > 0.5
    assert dice > 0.86, dice
    assert dice > 2 * (heated & LESION).sum() / (heated.sum() + LESION.sum())


@settings(max_examples=20)
@given(st.integers(0, 50), st.sampled_from(sorted(MASKS)))
def test_sure_pixels_stay_and_far_ones_stay_out_in_any_units(seed, name):
    rng = np.random.default_rng(seed)
    heat = ndimage.gaussian_filter(rng.random((24, 20)), 2)
    heat = (heat - heat.min()) / np.ptp(heat)
    image = rng.random((24, 20))
    made = MASKS[name](heat, image)
    assert made.dtype == bool
    assert made[heat > 0.7].all()
    assert not made[heat < 0.3].any()
    np.testing.assert_array_equal(MASKS[name](heat * 8, image * 64 + 16), made)


@pytest.mark.parametrize("name", MASKS)
def test_where_one_kind_has_no_seed_the_threshold_is_halfway(name):
    heat = np.array([[1.0, 0.6, 0.45, 0.4], [1.0, 0.51, 0.5, 0.4]])
    wanted = [[True, True, False, False], [True, True, False, False]]
    np.testing.assert_array_equal(MASKS[name](heat, heat), wanted)
    assert not MASKS[name](np.zeros((5, 5)), np.eye(5)).any()
    even = MASKS[name](HEAT, np.full(HEAT.shape, 7.0))  # no edge, no tone
    assert even[HEAT > 0.7].all()
    assert not even[HEAT < 0.3].any()
    line = MASKS[name](np.array([[1.0, 0.5, 0.1]]), np.array([[3.0, 3.0, 1.0]]))
    assert line[0, 0]
    assert not line[0, 2]


def test_growth_from_one_seed_is_the_library_s_flood():
    rng = np.random.default_rng(3)
    image = ndimage.gaussian_filter(rng.random((30, 34)), 2)
    image = (image - image.min()) / np.ptp(image)
    heat = np.full(image.shape, 0.5)
    heat[12, 15], heat[0, 0] = 1.0, 0.1
    for tolerance in (0.02, 0.1, 0.3):
        wanted = flood(image, (12, 15), connectivity=1, tolerance=tolerance)
        wanted[0, 0] = False
        made = region_growing_mask(heat, image, tolerance=tolerance, blur=0)
        np.testing.assert_array_equal(made, wanted)


def test_each_seed_grows_to_greys_like_its_own_and_not_across_the_cold():
    """By hand: from two seeds of other greys, with a tolerance of a tenth of the range."""
    image = np.array([[0.0, 0.1, 0.2, 1.0, 0.95, 0.0, 0.05, 1.0]])
    heat = np.array([[1.0, 0.5, 0.5, 0.8, 0.5, 0.2, 0.5, 0.5]])
    made = region_growing_mask(heat, image, tolerance=0.1, blur=0)
    assert made.astype(int).tolist() == [[1, 1, 0, 1, 1, 0, 0, 0]]


def test_floods_meet_on_the_highest_edge():
    """By hand: steps of 1 and 3 between the seeds; the higher one parts them."""
    image = np.array([[0, 0, 0, 1, 1, 1, 4, 4, 4, 4.0]] * 3)
    heat = np.array([[1, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 0.1]] * 3)
    made = watershed_mask(heat, image, blur=0)
    assert made[:, :5].all()
    assert not made[:, 7:].any()


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        ("chan-vese", {"steps": 0}),
        ("chan-vese", {"smoothing": -1}),
        ("snake", {"steps": 0}),
        ("snake", {"blur": -1}),
        ("watershed", {"blur": float("nan")}),
        ("region-growing", {"tolerance": -0.1}),
        *((name, {"low": 0.7}) for name in MASKS),
    ],
)
def test_parameters_out_of_range_are_refused(name, wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        MASKS[name](HEAT, HEAT, **wrong)


@pytest.mark.parametrize("name", MASKS)
def test_they_are_rules_of_the_experiment_and_their_defaults_those_of_the_functions(name):
    (rule,) = parse_config({"masks": {"rules": [name]}}).masks.rules
    fitted = rule.fit(Evidence(train=list, val=list, test=list))
    assert (fitted.masks_seen, fitted.needs_image, rule.by_default) == (0, True, False)
    image = ndimage.gaussian_filter(np.random.default_rng(0).random(HEAT.shape), 1)
    np.testing.assert_array_equal(segment(fitted, HEAT, image), MASKS[name](HEAT, image))
    assert type(RULES[name](search={"low": [0.2, 0.3]})) is type(rule)


@pytest.mark.parametrize("name", MASKS)
def test_floors_take_the_image_s_own_brightness_for_heat(name):
    floor = FLOORS[f"floor-{name}"]
    image = np.uint8(200 * LESION + 20)
    made = floor(image)
    assert 2 * (made & LESION).sum() / (made.sum() + LESION.sum()) > 0.9
    np.testing.assert_array_equal(made, floor(np.stack([image] * 3, axis=2)))
    assert not floor(np.full((9, 12), 7)).any()
    broken = image.astype(float)
    broken[0, 0], broken[0, 1] = np.nan, np.inf
    assert floor(broken).shape == made.shape
    assert floor(np.random.default_rng(0).random((150, 300))).shape == (150, 300)
