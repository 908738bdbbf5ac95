"""Filtered images against hand-computed ones."""

from __future__ import annotations

import numpy as np
import pytest

from weakseg.config import parse_condition
from weakseg.filtering.filters import channel_means, filtered_image

MEANS = np.array([0.25, 0.5], dtype=np.float32)


def _scene():
    rng = np.random.default_rng(0)
    image = rng.random((2, 8, 8)).astype(np.float32)
    valid = np.zeros((8, 8), dtype=bool)
    valid[1:7] = True
    image[:, ~valid] = 0
    mark = np.zeros((8, 8), dtype=np.float32)
    mark[2:5, 2:6] = 1
    return image, mark, valid


def _filter(name: str, mark=None):
    image, default, valid = _scene()
    mark = default if mark is None else mark
    return filtered_image(
        image, mark, parse_condition(name), MEANS, valid, np.random.default_rng(1)
    )


def test_keeping_and_removing_with_zeros_add_up_to_the_image():
    image, _, _ = _scene()
    kept, area = _filter("heat-hard-keep-zero")
    removed, rest = _filter("heat-hard-remove-zero")
    np.testing.assert_allclose(kept + removed, image)  # padding is 0 in both
    assert area == pytest.approx(12 / 48)
    assert rest == pytest.approx(36 / 48)


def test_the_mean_fills_what_is_taken_away():
    image, mark, valid = _scene()
    kept, _ = _filter("truth-keep-mean")
    on, off = mark > 0, (mark == 0) & valid
    np.testing.assert_allclose(kept[:, on], image[:, on])
    np.testing.assert_allclose(kept[0, off], 0.25)
    np.testing.assert_allclose(kept[1, off], 0.5)
    assert not kept[:, ~valid].any()


def test_a_soft_mark_blends():
    image, mark, _ = _scene()
    kept, area = _filter("heat-soft-keep-mean", mark * 0.25)
    np.testing.assert_allclose(kept[0, 3, 3], 0.25 * image[0, 3, 3] + 0.75 * 0.25, rtol=1e-6)
    assert area == pytest.approx(0.25 * 12 / 48)


@pytest.mark.parametrize("side", ["keep", "remove"])
def test_linear_imputation_changes_only_what_is_taken_away(side):
    image, mark, valid = _scene()
    filled, _ = _filter(f"heat-hard-{side}-linear")
    stays = (mark > 0) == (side == "keep")
    np.testing.assert_allclose(filled[:, stays & valid], image[:, stays & valid], rtol=1e-6)
    np.testing.assert_array_equal(filled[:, ~valid], image[:, ~valid])
    gone = valid & ~stays
    assert (np.abs(filled[:, gone] - image[:, gone]) > 1e-3).any()
    known = image[:, stays & valid]
    assert filled[:, gone].min() > known.min() - 0.06  # noise of sd 0.01 on weighted means
    assert filled[:, gone].max() < known.max() + 0.06


def test_a_soft_mark_with_linear_imputation_leaves_the_hot_half_whole():
    image, mark, _ = _scene()
    filled, _ = _filter("heat-soft-keep-linear", mark * 0.75)
    np.testing.assert_allclose(filled[:, 3, 3], image[:, 3, 3], rtol=1e-5)


def test_shape_shows_the_mark_and_nothing_of_the_image():
    _, mark, _ = _scene()
    shown, area = _filter("heat-hard-shape")
    np.testing.assert_array_equal(shown, np.stack([mark, mark]))
    assert area == 0


def test_raw_is_the_image():
    image, _, valid = _scene()
    same, area = filtered_image(
        image, None, parse_condition("raw"), MEANS, valid, np.random.default_rng(0)
    )
    np.testing.assert_array_equal(same, image)
    assert area == 1


def test_means_leave_the_padding_out():
    image, _, valid = _scene()
    total = channel_means(image, valid)
    np.testing.assert_allclose(total[:2] / total[2], image[:, valid].mean(1), rtol=1e-6)
