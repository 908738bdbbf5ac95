"""Rules that look at a box or at planes of a large volume: the mask is that of the whole."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from weakseg.masks.region import body_region
from weakseg.masks.rules import Evidence, segment
from weakseg.masks.rules.arguments import heat_and_grey
from weakseg.masks.rules.geodesic import GeodesicRule
from weakseg.masks.rules.grown import GrownRule, grown_mask
from weakseg.masks.rules.hot_box import in_hot_box, smoothing
from weakseg.masks.rules.region_growing import RegionGrowingRule
from weakseg.masks.rules.seeded import from_seeds, slope
from weakseg.masks.rules.two_tone import TwoToneRule, two_tone_mask, warm_tone
from weakseg.masks.rules.watershed import WatershedRule
from weakseg.masks.screen import keep_large_parts

MODULES = ("thresholds", "checks", "screen", "rules.hot_box", "rules.grown", "rules.seeded")


def blob(shape: tuple[int, ...], seed: int, at: float) -> np.ndarray:
    """Smooth heat with a peak in a part of the volume, of singles."""
    rng = np.random.default_rng(seed)
    heat = ndimage.gaussian_filter(rng.random(shape), 2.0)
    places = np.indices(shape)
    far = sum(((p - at * n) / n) ** 2 for p, n in zip(places, shape, strict=True))
    return (heat * np.exp(-12 * far)).astype(np.float32)


@pytest.fixture
def in_parts(monkeypatch):
    def begin() -> None:
        for module in MODULES:
            monkeypatch.setattr(f"weakseg.masks.{module}.AT_ONCE", 10)

    return begin


@pytest.mark.parametrize("at", [0.1, 0.5, 0.9])
@pytest.mark.parametrize("shape", [(24, 17, 9), (30, 26)])
@pytest.mark.parametrize(
    "rule",
    [TwoToneRule(warm=0.5, blur=0.05), TwoToneRule(blur=0.0), GrownRule(), GrownRule(rare=0.4)],
)
def test_the_box_gives_the_mask_of_the_whole(rule, shape, at, in_parts):
    heat = blob(shape, 1, at)
    image = np.random.default_rng(2).integers(0, 900, shape, dtype=np.int16)
    fitted = rule.fit(Evidence(train=list, val=list, test=list))
    whole = segment(fitted, heat, image)
    assert 0 < whole.sum() < heat.size
    in_parts()
    np.testing.assert_array_equal(segment(fitted, heat, image), whole)
    # A plateau at the peak is not taken for heat that is even everywhere.
    flat_top = np.where(heat > 0.6 * heat.max(), np.float32(1), np.float32(0))
    with pytest.MonkeyPatch.context() as patch:
        for module in MODULES:
            patch.setattr(f"weakseg.masks.{module}.AT_ONCE", 2**24)
        whole = segment(fitted, flat_top, image)
    assert whole.any()
    np.testing.assert_array_equal(segment(fitted, flat_top, image), whole)


def plainly(heat, image, *, warm, reach, most, rare, blur):
    """`grown_mask` as it is told: the whole in doubles, one level of heat after another."""
    heat, grey = heat_and_grey(heat, image)
    inside, tone = warm_tone(heat, grey, warm=warm, sd=smoothing(heat.shape, blur))
    part = keep_large_parts(inside, 0.1)
    cold = body_region(image, heat.ndim) & (heat <= reach)
    if cold.any() and tone[cold].mean() > rare:
        return part
    for level in np.linspace(reach, warm, 16, endpoint=False):
        labels, _ = ndimage.label(part | tone & (heat > level))
        grown = np.isin(labels, labels[part])
        if grown.sum() <= most * part.sum():
            return keep_large_parts(grown, 0.0)
    return part


@pytest.mark.thorough
@pytest.mark.parametrize("parted", [False, True])
@pytest.mark.parametrize("dims", [2, 3])
def test_growing_is_as_told_wherever_the_heat_is_scattered(dims, parted, in_parts):
    rng = np.random.default_rng(dims)
    if parted:
        in_parts()
    grew = set()
    for k in range(40):
        shape = rng.integers(6, 34 if dims == 2 else 19, dims)
        heat = ndimage.gaussian_filter(rng.normal(size=shape), rng.choice([0.7, 1.5, 3]))
        heat = np.float32(heat + max(0, 0.01 - heat.max()))
        noise = ndimage.gaussian_filter(rng.normal(size=shape), rng.choice([0.4, 1, 2]))
        image = (1000 * noise * (k > 0)).astype(np.int16)  # the first is even
        warm, most = rng.uniform(0.25, 0.8), rng.choice([1, 1.2, 1.5, 2, 3, 8])
        told = {"warm": warm, "reach": warm * rng.uniform(0.05, 0.9), "most": most}
        told |= {"rare": rng.choice([1, 1, 0.1, 0.4]), "blur": rng.choice([0, 0.008, 0.05])}
        wanted = plainly(heat, image, **told)
        np.testing.assert_array_equal(grown_mask(heat, image, **told), wanted)
        part = two_tone_mask(heat, image, warm=warm, blur=told["blur"])
        grew.add(bool((wanted & ~part).any()))
    assert grew == {False, True}


@pytest.mark.parametrize(
    "rule", [GeodesicRule(), RegionGrowingRule(tolerance=0.2, blur=0.02), WatershedRule(blur=0.02)]
)
def test_what_is_surely_background_need_not_be_looked_at(rule, monkeypatch):
    """On images without plateaus, on which floods meet as it happens."""
    rng = np.random.default_rng(3)
    fitted = rule.fit(Evidence(train=list, val=list, test=list))
    open_voxels = 0
    for k in range(12):
        heat = blob(tuple(rng.integers(6, 22, 3)), k, rng.uniform(0.1, 0.9))
        image = 900 * ndimage.gaussian_filter(rng.normal(size=heat.shape), 1)
        whole = segment(fitted, heat, image)
        with monkeypatch.context() as patch:
            patch.setattr("weakseg.masks.rules.seeded.AT_ONCE", 10)
            np.testing.assert_array_equal(segment(fitted, heat, image), whole)
            assert not segment(fitted, 0 * heat, image).any()
        open_voxels += (whole & (heat < 0.7 * heat.max())).sum()
    assert open_voxels > 100


def test_seeds_of_a_box_see_the_whole_volume(monkeypatch):
    """Its shares of the range of grey and of the longer side are those of all voxels."""
    heat = np.zeros((30, 20, 9), np.float32)
    heat[14:17, 9:12, 4:6], heat[15, 10, 4] = 1, 2
    image = np.full(heat.shape, 5, np.int16)
    image[0, 0, 0], image[-1, -1, -1] = 0, 20
    looked = []

    def grow(seeds):
        looked.append((seeds.grey.shape, seeds.longer, set(np.unique(seeds.grey))))
        return seeds.halfway

    monkeypatch.setattr("weakseg.masks.rules.seeded.AT_ONCE", 10)
    # sd is 0.6 of 30 voxels: 2 beside have a part in the smoothing, and 2 are background.
    mask = from_seeds(grow, heat, image, low=0.3, high=0.7, blur=0.02)
    assert looked == [((11, 11, 6), 30, {0.25})]
    assert np.argwhere(mask).tolist() == [[15, 10, 4]]
    warm = np.maximum(heat, 1)  # nothing is below 0.3 of 2
    np.testing.assert_array_equal(from_seeds(grow, warm, image, low=0.3, high=0.7), mask)
    assert len(looked) == 1
    with pytest.raises(ValueError, match=r"the heatmap is \(30, 20, 9\), the image \(30, 20, 8\)"):
        from_seeds(grow, heat, image[..., 1:], low=0.3, high=0.7)


@pytest.mark.parametrize("depth", [1, 2, 8, 9, 17])
def test_slopes_of_slabs_are_those_of_the_whole(depth):
    grey = np.random.default_rng(depth).random((5, 6, depth))
    whole = [np.gradient(grey, axis=k) for k in range(3 if depth > 1 else 2)]
    np.testing.assert_array_equal(slope(grey), np.sqrt(sum(s**2 for s in whole)))


def test_only_the_box_is_looked_at(in_parts):
    in_parts()
    heat = np.zeros((20, 30, 6), np.float32)
    heat[8:10, 20, 2:4] = [[2, 1], [1, 2]]
    looked = []

    def mark(hot, grey, sd):
        looked.append((hot.shape, grey.shape, sd, hot.max()))
        return hot > 0.9

    def mark_planes(planes):
        hot = np.stack([planes.hot(z) for z in range(planes.count)], axis=2)
        assert planes.smooth(0).shape == hot.shape[:2]
        return mark(hot, planes.image, planes.sd)

    told = {"above": 0.3, "blur": 0.02}
    mask = in_hot_box(heat, np.zeros(heat.shape, np.int16), mark, mark_planes, **told)
    # sd is 0.6 of 30 voxels: what lies 2 beside has a part in the smoothing, not across slices.
    assert looked == [((6, 5, 2), (6, 5, 2), pytest.approx((0.6, 0.6)), 1.0)]
    assert np.argwhere(mask).tolist() == [[8, 20, 2], [9, 20, 3]]
    flat = in_hot_box(heat[..., 2], np.zeros((20, 30)), mark, mark_planes, **told)
    assert looked[1:] == [((6, 5), (6, 5), pytest.approx([0.6, 0.6]), 1.0)]
    assert np.argwhere(flat).tolist() == [[8, 20]]
    with pytest.raises(ValueError, match=r"the heatmap is \(20, 30, 6\), the image \(20, 30, 5\)"):
        in_hot_box(heat, np.zeros((20, 30, 5)), mark, mark_planes, above=0.3, blur=0)


@pytest.mark.parametrize("share", [0.0, 0.2])
@pytest.mark.parametrize("seed", range(4))
def test_large_parts_without_holes_are_those_of_the_whole(seed, share, in_parts):
    rng = np.random.default_rng(seed)
    mask = ndimage.gaussian_filter(rng.random((14, 13, 19)), 0.8 + seed / 4) > 0.49
    mask[3:9, 3:9, 2:17] = True
    mask[5, 5, 6:12] = False  # a hole that several slabs see
    whole = keep_large_parts(mask, share)
    assert whole[5, 5, 8]
    in_parts()
    np.testing.assert_array_equal(keep_large_parts(mask, share), whole)
    nothing = np.zeros((4, 4, 9), bool)
    assert not keep_large_parts(nothing, share).any()


def test_an_even_volume_is_warm_throughout_in_planes_too(in_parts):
    heat = blob((12, 10, 9), 1, 0.5)
    rule = TwoToneRule(warm=0.5)
    fitted = rule.fit(Evidence(train=list, val=list, test=list))
    whole = segment(fitted, heat, np.full(heat.shape, 7, np.int16))
    in_parts()
    np.testing.assert_array_equal(segment(fitted, heat, np.full(heat.shape, 7, np.int16)), whole)
