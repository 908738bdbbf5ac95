"""Rules that look at a box or at planes of a large volume: the mask is that of the whole."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from weakseg.masks.rules import Evidence, segment
from weakseg.masks.rules.grown import GrownRule
from weakseg.masks.rules.hot_box import in_hot_box
from weakseg.masks.rules.two_tone import TwoToneRule
from weakseg.masks.screen import keep_large_parts

MODULES = ("thresholds", "checks", "screen", "rules.hot_box", "rules.two_tone")


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


def test_only_the_box_is_looked_at(in_parts):
    in_parts()
    heat = np.zeros((20, 30, 6), np.float32)
    heat[8:10, 20, 2:4] = [[2, 1], [1, 2]]
    looked = []

    def mark(hot, grey, sd):
        looked.append((hot.shape, grey.shape, sd, hot.max()))
        return hot > 0.9

    mask = in_hot_box(heat, np.zeros(heat.shape, np.int16), mark, above=0.3, blur=0.02)
    # sd is 0.6 of 30 voxels: what lies 2 beside has a part in the smoothing, not across slices.
    assert looked == [((6, 5, 2), (6, 5, 2), pytest.approx([0.6, 0.6, 0.0]), 1.0)]
    assert np.argwhere(mask).tolist() == [[8, 20, 2], [9, 20, 3]]
    with pytest.raises(ValueError, match=r"the heatmap is \(20, 30, 6\), the image \(20, 30, 5\)"):
        in_hot_box(heat, np.zeros((20, 30, 5)), mark, above=0.3, blur=0)


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
