"""Parts of a mask that go or stay, by hand and against scikit-image."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from skimage import measure

from weakseg.masks.screen import SHARES, best_min_area, keep_large_parts, screen_parts
from weakseg.scores import dice

SHAPES = st.sampled_from([(9, 7), (12, 12), (5, 6, 4)])
MASKS = SHAPES.flatmap(lambda shape: hnp.arrays(bool, shape))


def _drawn(*rows: str) -> np.ndarray:
    return np.array([[c == "#" for c in row] for row in rows])


PARTS = _drawn(
    "####......",
    "####...##.",
    "####......",
    "..........",
    "#.........",
    ".#......##",
    "........##",
)
"""Of 12, 2, 1, 1 and 4 pixels; two touch by a corner only."""


@pytest.mark.parametrize(
    ("share", "sizes"),
    [
        (0.0, [1, 1, 2, 4, 12]),
        (1 / 12, [1, 1, 2, 4, 12]),
        (0.1, [2, 4, 12]),
        (0.3, [4, 12]),
        (0.34, [12]),
        (1.0, [12]),
    ],
)
def test_parts_below_a_share_of_the_largest_go(share, sizes):
    kept = keep_large_parts(PARTS, share)
    labels = measure.label(kept, connectivity=1)
    assert sorted(int(r.area) for r in measure.regionprops(labels)) == sizes
    assert PARTS[kept].all()


def test_all_of_equal_size_stay():
    mask = _drawn("##..##", "......", "##..##")
    np.testing.assert_array_equal(keep_large_parts(mask, 1.0), mask)


def test_holes_are_filled_with_what_lies_in_them():
    ring = _drawn("#####.", "#...#.", "#.#.#.", "#...#.", "#####.")
    filled = ring.copy()
    filled[:, :5] = True
    for share in (0.0, 0.5):
        np.testing.assert_array_equal(keep_large_parts(ring, share), filled)


def test_what_is_open_to_the_border_or_by_a_corner_only():
    bay = _drawn("####", "...#", "####")
    np.testing.assert_array_equal(keep_large_parts(bay, 0), bay)
    # The background too is joined by faces: four corners that touch close a hole.
    diamond = _drawn(".#.", "#.#", ".#.")
    np.testing.assert_array_equal(keep_large_parts(diamond, 0), _drawn(".#.", "###", ".#."))


def test_a_volume_is_one_thing_in_depth():
    mask = np.zeros((6, 5, 5), dtype=bool)
    mask[:5, :3, :3] = True
    mask[2, 1, 1] = False  # a hole on every slice of its own and in depth
    mask[0, 4, 4] = True
    kept = keep_large_parts(mask, 0.1)
    assert kept[2, 1, 1]
    assert not kept[0, 4, 4]
    assert kept.sum() == 45
    tunnel = mask.copy()
    tunnel[:, 1, 1] = False  # a hole on every slice, open at both ends
    assert not keep_large_parts(tunnel, 0.1)[:, 1, 1].any()


@given(MASKS, st.floats(0, 1))
def test_as_scikit_image(mask, share):
    labels = measure.label(mask, connectivity=1)
    regions = measure.regionprops(labels)
    largest = max((r.area for r in regions), default=0)
    large = [r.label for r in regions if r.area >= share * largest]
    expected = np.isin(labels, large)
    # A hole is background that does not reach the border.
    rest = measure.label(~expected, connectivity=1)
    inner = (slice(1, -1),) * mask.ndim
    border = np.ones(mask.shape, dtype=bool)
    border[inner] = False
    outside = np.isin(rest, np.unique(rest[border])) & (rest > 0)
    np.testing.assert_array_equal(keep_large_parts(mask, share), expected | (rest > 0) & ~outside)


@pytest.mark.thorough
@given(MASKS)
def test_at_share_0_and_1_a_second_time_changes_nothing(mask):
    once = keep_large_parts(mask, 0)
    np.testing.assert_array_equal(keep_large_parts(once, 0), once)
    assert once[mask].all()


@given(MASKS, st.floats(0, 1), st.floats(0, 1))
def test_a_larger_share_keeps_no_more(mask, a, b):
    low, high = sorted((a, b))
    assert keep_large_parts(mask, low)[keep_large_parts(mask, high)].all()


@pytest.mark.parametrize("shape", [(4, 5), (3, 4, 5)])
def test_nothing_stays_nothing(shape):
    empty = np.zeros(shape, dtype=bool)
    for kept in (keep_large_parts(empty, 0.5), screen_parts(empty, np.ones(shape), min_area=0.5)):
        assert kept.dtype == bool
        assert kept.shape == shape
        assert not kept.any()


@pytest.mark.parametrize("share", [-0.1, 1.1, float("nan")])
def test_a_share_out_of_range(share):
    with pytest.raises(ValueError, match="share must be in"):
        keep_large_parts(PARTS, share)


def test_parts_of_a_low_peak_go():
    score = np.where(PARTS, 0.4, 0.0)
    score[0, 0] = 0.8  # the large part
    score[1, 7:9] = 0.6
    score[6, 9] = 0.95  # the square of four
    score[3, :] = 1.0  # outside the mask: it counts nothing

    def sizes(**how):
        kept = screen_parts(PARTS, score, **how)
        return sorted(int(r.area) for r in measure.regionprops(measure.label(kept, connectivity=1)))

    assert sizes(min_peak=0.4) == [1, 1, 2, 4, 12]
    assert sizes(min_peak=0.5) == [2, 4, 12]
    assert sizes(min_peak=0.6) == [2, 4, 12]
    assert sizes(min_peak=0.61) == [4, 12]
    assert sizes(min_peak=0.9) == [4]
    assert sizes(min_peak=1.0) == []
    assert sizes(min_peak=0.5, min_area=0.05) == [4, 12]
    assert sizes(min_area=2 / 70) == [2, 4, 12]
    assert sizes(min_area=0.2) == []


def test_holes_stay_open():
    ring = _drawn("###", "#.#", "###")
    np.testing.assert_array_equal(screen_parts(ring, ring, min_peak=0.5), ring)


@given(
    MASKS.flatmap(
        lambda m: st.tuples(st.just(m), hnp.arrays(float, m.shape, elements=st.floats(0, 1)))
    ),
    st.floats(0, 0.5),
    st.floats(0, 1),
)
def test_screened_as_scikit_image_says(case, area, peak):
    mask, score = case
    labels = measure.label(mask, connectivity=1)
    regions = measure.regionprops(labels, intensity_image=score)
    kept = [r.label for r in regions if r.area >= area * mask.size and r.intensity_max >= peak]
    found = screen_parts(mask, score, min_area=area, min_peak=peak)
    np.testing.assert_array_equal(found, np.isin(labels, kept))
    assert mask[found].all()
    again = screen_parts(found, score, min_area=area, min_peak=peak)
    np.testing.assert_array_equal(again, found)


@given(MASKS, st.integers(0, 99))
def test_zeros_screen_nothing(mask, seed):
    score = np.random.default_rng(seed).random(mask.shape)
    np.testing.assert_array_equal(screen_parts(mask, score), mask)


def test_the_arguments_are_left_alone():
    mask, score = PARTS.copy(), 0.5 * PARTS
    screen_parts(mask, score, min_peak=0.9)
    keep_large_parts(mask, 0.9)
    np.testing.assert_array_equal(mask, PARTS)
    np.testing.assert_array_equal(score, 0.5 * PARTS)


@pytest.mark.parametrize("how", ["of the image", "of the largest part"])
def test_a_part_of_exactly_the_share_stays(how):
    mask = np.zeros((10, 10), dtype=bool)
    mask[0, :7] = True
    if how == "of the image":
        kept = screen_parts(mask, mask, min_area=0.07)
    else:
        mask = np.pad(mask, ((0, 12), (0, 2)))
        mask[2:12, 2:12] = True
        kept = keep_large_parts(mask, 0.07)
    assert kept[0, :7].all()


def test_shapes_must_agree():
    with pytest.raises(ValueError, match=r"mask is \(7, 10\), the score \(10, 7\)"):
        screen_parts(PARTS, PARTS.T)


@pytest.mark.parametrize("area", [-0.1, 1.1, float("nan")])
def test_an_area_out_of_range(area):
    with pytest.raises(ValueError, match="min_area must be in"):
        screen_parts(PARTS, PARTS, min_area=area)


@pytest.mark.parametrize("kind", [np.uint8, np.float32, bool])
def test_masks_of_numbers_are_counted_in_pixels(kind):
    mask = (PARTS * 255).astype(kind)
    np.testing.assert_array_equal(keep_large_parts(mask, 0.3), keep_large_parts(PARTS, 0.3))
    found = screen_parts(mask, 1.0 * PARTS, min_area=4 / 70)
    np.testing.assert_array_equal(found, screen_parts(PARTS, 1.0 * PARTS, min_area=4 / 70))
    assert found.sum() == 16
    assert screen_parts(0 * mask, 1.0 * PARTS).dtype == bool


def test_scores_of_few_bits_are_held_against_the_peak_as_they_are():
    """0.6 in half precision is 0.60009766, and 0.6002 the same number."""
    score = np.where(PARTS, 0.6, 0).astype(np.float16)
    assert screen_parts(PARTS, score, min_peak=0.60009).any()
    assert not screen_parts(PARTS, score, min_peak=0.6002).any()


def test_limits_of_a_share_are_shares():
    np.testing.assert_array_equal(screen_parts(np.ones((3, 4)), np.ones((3, 4)), min_area=1), 1)
    np.testing.assert_array_equal(screen_parts(PARTS, PARTS, min_area=0, min_peak=0), PARTS)


def test_the_smallest_part_is_chosen_by_hand():
    """Parts of 12, 4, 2, 1 and 1 of 70 pixels; only the largest is true, another image is healthy.

    Dropping those of 1 gives the first image 24 / 30, those of 2 as well 24 / 28, those of 4 as
    well 1; the healthy one, of a part of 2 pixels, counts 1 as soon as that goes.
    """
    truth = np.zeros_like(PARTS)
    truth[:3, :4] = True
    speck = np.zeros_like(PARTS)
    speck[6, 2:4] = True
    nothing = np.zeros_like(PARTS)
    assert best_min_area([(PARTS, truth), (speck, nothing)]) == pytest.approx(8 / 70)
    # The four pixels are true now: 32 / 34 without the ones and the two.
    truth[5:, 8:] = True
    assert best_min_area([(PARTS, truth), (speck, nothing)]) == pytest.approx(3 / 70)
    # Nothing to gain: everything that was found is true.
    assert best_min_area([(PARTS, PARTS)]) == 0
    # The largest part stays, however wrong it is.
    assert best_min_area([(speck, nothing)]) == 0


@given(st.lists(st.tuples(MASKS, st.integers(0, 3)), min_size=1, max_size=4))
def test_no_smallest_part_that_was_tried_is_better(drawn):
    pairs = [(mask, np.roll(mask, k, axis=0) & (k < 3)) for mask, k in drawn]
    sizes = [r.area / m.size for m, _ in pairs for r in measure.regionprops(_numbered(m))]
    every = np.unique(np.round(sizes, 12))
    cuts = [0.0, *((every[:-1] + every[1:]) / 2)]

    def mean(cut):
        kept = [screen_parts(m, m.astype(float), min_area=cut) for m, _ in pairs]
        return np.mean([dice(k, t) for k, (_, t) in zip(kept, pairs, strict=True)])

    found = best_min_area(iter(pairs))
    assert len(cuts) <= SHARES
    assert mean(found) == pytest.approx(max(map(mean, cuts)))
    assert all(mean(c) < mean(found) - 1e-12 for c in cuts if c < found - 1e-9)


def _numbered(mask):
    return measure.label(mask, connectivity=1)


def test_images_of_the_smallest_part_go_together():
    with pytest.raises(ValueError, match="at least one image"):
        best_min_area([])
    with pytest.raises(ValueError, match=r"the mask is \(7, 10\)"):
        best_min_area([(PARTS, PARTS[1:])])
