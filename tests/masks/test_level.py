"""The outline at a grey level: hand-made cases, and what holds of any."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import ndimage

from weakseg.masks import level
from weakseg.masks.level import level_mask
from weakseg.scores import dice


def disc(shape=(60, 70), centre=(30, 35), radius=10):
    y, x = np.indices(shape)
    return (y - centre[0]) ** 2 + (x - centre[1]) ** 2 <= radius**2


def guess(lesion, shift=(2, 1)):
    """A probability that knows about where a lesion lies."""
    return ndimage.gaussian_filter(np.roll(lesion, shift, (0, 1)).astype(float), 4) * 0.9


@pytest.mark.parametrize("tone", [0.4, -0.4])
@pytest.mark.parametrize("colours", [False, True])
def test_an_edge_that_the_image_has_is_followed_to_the_pixel(tone, colours):
    lesion = disc()
    image = 0.5 + tone * lesion
    p = guess(lesion)
    mask = p >= 0.25
    assert (mask != lesion).sum() > 50
    seen = np.stack([image, image, image], axis=2) if colours else image
    np.testing.assert_array_equal(level_mask(p, seen, mask), lesion)
    noisy = seen + np.random.default_rng(0).normal(0, 0.03, seen.shape)
    assert dice(level_mask(p, noisy, mask), lesion) > 0.92 > 0.85 > dice(mask, lesion)


def test_holes_are_filled():
    lesion = disc()
    image = lesion & ~disc(radius=3)
    p = guess(lesion)
    np.testing.assert_array_equal(level_mask(p, image.astype(np.uint8), p >= 0.25), lesion)


def test_noise_has_no_edge():
    lesion = disc()
    image = np.random.default_rng(0).random(lesion.shape)
    p = guess(lesion)
    np.testing.assert_array_equal(level_mask(p, image, p >= 0.25), p >= 0.25)


@pytest.mark.parametrize("radius", [10, 28])
@pytest.mark.parametrize("image", [np.zeros((60, 70)), np.indices((60, 70))[1].astype(float)])
def test_an_even_image_and_one_that_grows_brighter_have_no_edge(image, radius):
    p = guess(disc(radius=radius), (0, 0))
    np.testing.assert_array_equal(level_mask(p, image, p >= 0.25), p >= 0.25)


def test_an_even_image_that_is_marked_almost_everywhere_stays_so():
    mask = np.ones((64, 64), dtype=bool)
    mask[20:30, 20:30] = False
    np.testing.assert_array_equal(level_mask(mask * 0.9, np.zeros((64, 64)), mask), mask)
    box = np.zeros((64, 64), dtype=bool)
    box[4:60, 4:60] = True
    np.testing.assert_array_equal(level_mask(box * 0.9, np.zeros((64, 64)), box), box)


def test_what_joins_the_lesion_with_much_else_has_leaked():
    lesion, image = disc(), disc().astype(float)
    image[28:33, 35:] = 1  # a bright road to the image's border, and all along it
    image[:, 60:] = 1
    p = guess(lesion, (0, 0))
    mask = p >= 0.25
    np.testing.assert_array_equal(level_mask(p, image, mask), mask)


def test_a_part_far_off_that_the_mask_does_not_touch_is_none_of_it():
    lesion, other = disc(), disc(centre=(50, 10), radius=6)
    p = np.maximum(guess(lesion), 0.2 * guess(other))
    found = level_mask(p, (lesion | other).astype(float), p >= 0.25)
    np.testing.assert_array_equal(found, lesion)


def test_of_two_lesions_each_gets_its_edge():
    lesions = disc() | disc(centre=(12, 12), radius=7)
    p = guess(lesions)
    np.testing.assert_array_equal(level_mask(p, lesions * 0.7, p >= 0.25), lesions)


def test_a_lesion_of_the_other_tone_keeps_its_part():
    bright, dark = disc((60, 90), (30, 25), 16), disc((60, 90), (30, 70), 6)
    p = np.maximum(guess(bright, (0, 0)), guess(dark, (0, 0)))
    mask = p >= 0.25
    found = level_mask(p, 0.5 + 0.4 * bright - 0.4 * dark, mask)
    np.testing.assert_array_equal(found[:, :50], bright[:, :50])
    np.testing.assert_array_equal(found[:, 50:], mask[:, 50:])
    assert (found & dark).any()


def test_grains_of_noise_are_no_parts():
    lesion = disc()
    image = 0.6 * lesion + np.random.default_rng(0).normal(0, 0.2, lesion.shape)
    p = guess(lesion)
    for mask in (p >= 0.25, p >= 0.4):
        found = level_mask(p, image, mask)
        sizes = np.bincount(ndimage.label(found)[0].ravel())[1:]
        assert sizes.min() >= level.SMALLEST_PART * sizes.max()


def test_a_large_image_is_looked_at_in_blocks(monkeypatch):
    lesion = disc((180, 220), (90, 100), 30)
    p = ndimage.gaussian_filter(np.roll(lesion, (6, 3), (0, 1)).astype(float), 12) * 0.9
    fine = level_mask(p, lesion * 1.0, p >= 0.25)
    np.testing.assert_array_equal(fine, lesion)
    monkeypatch.setattr(level, "FINE", 40)
    coarse = level_mask(p, lesion * 1.0, p >= 0.25)
    assert 0 < (coarse != fine).sum() < 0.15 * fine.sum()


def test_nothing_stays_nothing_and_shapes_must_agree():
    p, image = guess(disc()), disc() * 1.0
    assert not level_mask(p, image, np.zeros_like(disc())).any()
    with pytest.raises(ValueError, match="must have one shape"):
        level_mask(p, image[1:], p >= 0.25)


@settings(max_examples=60, deadline=None)
@given(
    image=arrays(np.uint8, (9, 12)),
    p=arrays(np.float32, (9, 12), elements=st.floats(0, 1, width=32)),
    at=st.floats(0.1, 0.9),
    swap=st.booleans(),
)
def test_it_is_the_mask_or_overlaps_almost_as_well_whatever_the_scale(image, p, at, swap):
    mask = p >= at
    found = level_mask(p, image, mask)
    assert found.dtype == bool
    assert found.any() == mask.any()
    if (found != mask).any():
        assert (found & mask).any()
        assert overlap(p, found) > level.OVERLAP * overlap(p, mask)
    if not mask.any():
        return
    scaled = (3.0 - 2.0 * image) if swap else (0.5 * image + 7.0)
    again = level_mask(p, scaled, mask)
    if not swap:  # exact halves of whole numbers: the same levels
        np.testing.assert_array_equal(again, found)
    else:  # bright is dark: of equally good levels another may come first
        assert overlap(p, again) == pytest.approx(overlap(p, found)) or (again == mask).all()


def overlap(p, mask):
    return 2 * p[mask].sum(dtype=float) / (p.sum(dtype=float) + mask.sum())
