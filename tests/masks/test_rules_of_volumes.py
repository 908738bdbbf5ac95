"""Rules on the heat of whole volumes: one maximum, one threshold, parts of three dimensions."""

import numpy as np
import pytest

from weakseg.masks.region import body_region
from weakseg.masks.rules import FittedRule, segment
from weakseg.masks.rules.registry import RULES, default_rules

SHAPE = (24, 20, 10)


def ball(centre, radius):
    x, y, z = np.indices(SHAPE)
    at = ((x - centre[0]) ** 2 + (y - centre[1]) ** 2 + (2 * (z - centre[2])) ** 2) ** 0.5
    return at <= radius


LESION = ball((10, 9, 5), 5)


def scene():
    """A bright ball in noise, and heat that is wider than it and lower at its ends."""
    x, y, z = np.indices(SHAPE)
    far = ((x - 10) ** 2 + (y - 9) ** 2 + (2 * (z - 5)) ** 2) / 60
    noise = np.random.default_rng(0).normal(0, 0.02, SHAPE)
    return np.exp(-far), 0.3 + 0.5 * LESION + noise


def fitted(rule, threshold=None, scale="raw"):
    return FittedRule(rule, threshold, scale, "nothing", 0)


def dice(mask):
    return 2 * (mask & LESION).sum() / (mask.sum() + LESION.sum())


@pytest.mark.parametrize("name", ["two-tone", "grown", "geodesic", "region-growing", "watershed"])
def test_the_image_gives_the_outline(name):
    heat, image = scene()
    mask = segment(fitted(RULES[name]()), heat, image)
    assert mask.shape == SHAPE
    assert dice(mask) > 0.9


@pytest.mark.parametrize("name", ["two-tone", "grown", "geodesic", "region-growing", "watershed"])
def test_a_volume_of_like_slices_gets_the_mask_of_the_slice_in_each(name):
    heat, image = (v[:, :, 5] for v in scene())
    wanted = segment(fitted(RULES[name]()), heat, image)
    deep = [np.repeat(v[:, :, None], 6, axis=2) for v in (heat, image)]
    mask = segment(fitted(RULES[name]()), *deep)
    for z in range(6):
        np.testing.assert_array_equal(mask[:, :, z], wanted)


def test_one_threshold_and_one_maximum_a_volume():
    heat, _ = scene()
    mask = segment(fitted(RULES["fixed"](at=0.5), 0.5, "image"), heat)
    np.testing.assert_array_equal(mask, heat > 0.5 * heat.max())
    assert not mask[:, :, 0].any()  # whose own hottest place would be above half of itself
    quantile = segment(fitted(RULES["quantile"](q=0.9)), heat)
    assert quantile.mean() <= 0.1


def test_a_lesions_area_is_a_share_of_the_volumes_body():
    heat, image = scene()
    heat = heat + np.random.default_rng(1).random(SHAPE) * 1e-6  # no two are equally hot
    body = np.stack([body_region(image[:, :, z]) for z in range(SHAPE[2])], axis=2)
    mask = segment(fitted(RULES["area-prior"](area=0.1)), heat, image)
    assert mask.sum() == int(0.1 * body.sum())
    assert heat[mask].min() > heat[body & ~mask].max()
    assert not (mask & ~body).any()


def test_rules_of_images_refuse_volumes():
    heat, image = scene()
    for name in ("random-walker", "superpixel", "crf"):
        with pytest.raises(ValueError, match="heat of 2 axes, got 3"):
            segment(fitted(RULES[name]()), heat, image)


def test_the_default_rules_of_volumes_take_them():
    names = [r.rule for r in default_rules(3)]
    assert {"fixed", "otsu", "two-tone", "oracle-image"} <= set(names)
    assert not {"random-walker", "crf", "superpixel", "affinity"} & set(names)
