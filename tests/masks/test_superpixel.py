"""Masks of whole superpixels."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage
from skimage.segmentation import slic

from weakseg.masks.rules import superpixel
from weakseg.masks.rules.superpixel import SuperpixelRule, superpixel_mask
from weakseg.masks.superpixels import part_means, slic_parts


def _quarters() -> np.ndarray:
    """Four squares of different grey."""
    image = np.zeros((40, 40))
    image[:20, 20:], image[20:, :20], image[20:, 20:] = 80, 160, 240
    return image


def test_heat_in_a_part_of_a_square_marks_the_whole_square():
    heat = np.zeros((40, 40))
    heat[4:14, 24:36] = 1
    mask = superpixel_mask(heat, _quarters(), count=4, compactness=0.001)
    expected = np.zeros((40, 40), dtype=bool)
    expected[:20, 20:] = True
    np.testing.assert_array_equal(mask, expected)


def test_a_square_is_marked_when_its_mean_heat_is_above_the_share_of_the_hottest():
    heat = np.zeros((40, 40))
    heat[:20, :20], heat[20:, 20:] = 1, 0.6
    marked = [
        superpixel_mask(heat, _quarters(), at=at, count=4, compactness=0.001).sum()
        for at in (0.5, 0.7)
    ]
    assert marked == [800, 400]


def test_units_of_heat_and_image_do_not_matter():
    rng = np.random.default_rng(1)
    heat, image = rng.random((32, 24)), rng.random((32, 24))
    mask = superpixel_mask(heat, image)
    np.testing.assert_array_equal(superpixel_mask(heat * 4, image * 128 + 32), mask)
    assert 0 < mask.sum() < mask.size


def test_a_number_that_no_part_has_means_nothing():
    np.testing.assert_array_equal(
        part_means(np.array([[0, 2], [2, 0]]), [[1, 3], [5, 2]]), [1.5, 0, 4]
    )


def test_a_flat_heatmap_gives_an_empty_mask():
    assert not superpixel_mask(np.zeros((9, 9)), np.eye(9)).any()


@pytest.mark.parametrize("change", [{"at": 1.0}, {"count": 1}, {"compactness": 0.0}])
def test_parameters_out_of_range_are_refused(change):
    with pytest.raises(ValueError, match=next(iter(change))):
        superpixel_mask(np.eye(4), np.eye(4), **change)


def test_shapes_must_agree():
    with pytest.raises(ValueError, match="heatmap is"):
        superpixel_mask(np.eye(4), np.eye(5))


@pytest.mark.parametrize(("count", "compactness"), [(12, 0.1), (40, 2.0)])
def test_parts_are_scikit_image_s_and_means_are_plain(count, compactness):
    rng = np.random.default_rng(4)
    image = ndimage.gaussian_filter(rng.random((30, 26)), 1.5)
    heat = np.maximum(ndimage.gaussian_filter(rng.normal(size=(30, 26)), 3), 0)
    grey = (image - image.min()) / np.ptp(image)
    parts = slic(grey, n_segments=count, compactness=compactness, channel_axis=None, start_label=0)
    assert len(np.unique(parts)) > count / 2
    means = {k: (heat / heat.max())[parts == k].mean() for k in np.unique(parts)}
    for at in (0.2, 0.5, 0.8):
        hot = [k for k, mean in means.items() if mean > at * max(means.values())]
        made = superpixel_mask(heat, 255 * image, at=at, count=count, compactness=compactness)
        assert made.dtype == bool
        np.testing.assert_array_equal(made, np.isin(parts, hot))
    found = slic_parts(grey, count=count, compactness=compactness)
    assert found.dtype == np.int64
    np.testing.assert_array_equal(found, parts)


def test_a_square_at_the_very_share_is_not_marked():
    heat = np.zeros((40, 40))
    heat[:20, :20], heat[20:, 20:], heat[:20, 20:] = 1, 0.5, 0.625
    mask = superpixel_mask(heat, _quarters(), at=0.5, count=4, compactness=0.001)
    assert mask[:20].all()
    assert not mask[20:].any()


def test_the_defaults_of_the_function_are_those_of_the_rule(monkeypatch):
    rng, asked = np.random.default_rng(1), []
    heat, image = rng.random((64, 48)), ndimage.gaussian_filter(rng.random((64, 48)), 1)
    make = superpixel.slic_parts
    monkeypatch.setattr(superpixel, "slic_parts", lambda i, **k: asked.append(k) or make(i, **k))
    rule = SuperpixelRule()
    told = {"at": rule.at, "count": rule.count, "compactness": rule.compactness}
    np.testing.assert_array_equal(
        superpixel_mask(heat, image), superpixel_mask(heat, image, **told)
    )
    assert asked == [{"count": rule.count, "compactness": rule.compactness}] * 2


def test_two_superpixels_are_the_fewest():
    heat = np.zeros((20, 20))
    heat[:, 15:] = 1
    assert superpixel_mask(heat, heat, count=2, compactness=0.01).any()
