"""At which scale an image is explained."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from weakseg.config import HeatmapConfig, parse_config
from weakseg.data.cases import Case, Labels
from weakseg.errors import ConfigError
from weakseg.heatmaps.scales import (
    at_own_scales,
    good_scales,
    hot_side,
    label_aucs,
    reference_scale,
    scale_for,
)
from weakseg.heatmaps.store import Heatmap, load_heatmap, save_heatmap

SCALES = [0.5, 0.75, 1.0]
LABELS = Labels(("healthy",), ("lesion",))


def heat_of(raw, shape=(64, 64), size=64, probability=0.9, scale=1.0):
    raw = np.asarray(raw, np.float32)
    return Heatmap(raw, shape, size, "layer", "gradcam", "lesion", probability, scale)


def square(side, size=64):
    raw = np.zeros((size, size), np.float32)
    raw[10 : 10 + side, 20 : 20 + side] = 3.0
    return raw


# How large the hot region is


@pytest.mark.parametrize("side", [1, 7, 30])
def test_the_side_of_a_hot_square_is_its_own_whatever_the_image_s_pixels(side):
    assert hot_side(heat_of(square(side))) == pytest.approx(side)
    assert hot_side(heat_of(square(side), shape=(500, 500))) == pytest.approx(side)


def test_what_is_hot_in_the_padding_does_not_count():
    raw = np.ones((64, 64), np.float32)  # of a wide image, 64 x 16 pixels of the square
    assert hot_side(heat_of(raw - 1e-3 * square(4), shape=(100, 400))) == pytest.approx(32)


def test_only_what_is_above_half_the_maximum_is_hot():
    raw = square(20) / 3 * 0.49
    raw[12:16, 22:26] = 1.0
    raw[50:60, 50:60] = -5.0
    assert hot_side(heat_of(raw)) == pytest.approx(4)


@pytest.mark.parametrize("raw", [np.zeros((8, 8)), -np.ones((8, 8)), np.ones((8, 8))])
def test_a_flat_heatmap_has_no_hot_region_and_keeps_the_scale_next_to_one(raw):
    assert hot_side(heat_of(raw)) == 0
    assert scale_for(0.0, SCALES, 35) == 1.0


# Which scale that makes


@pytest.mark.parametrize(
    ("side", "scale"),
    [(1, 1.0), (35, 1.0), (40, 1.0), (41, 0.75), (57, 0.75), (58, 0.5), (250, 0.5)],
)
def test_a_region_is_brought_next_to_the_wanted_side(side, scale):
    """By hand: the bounds lie at 35 / sqrt(0.75 * 1) = 40.4 and 35 / sqrt(0.5 * 0.75) = 57.2."""
    assert scale_for(side, SCALES, 35) == scale


@given(st.floats(0.1, 1e4), st.floats(0.1, 1e4), st.floats(1, 500))
def test_a_larger_region_is_never_seen_in_a_larger_image(a, b, wanted):
    low, high = sorted((a, b))
    assert scale_for(low, SCALES, wanted) >= scale_for(high, SCALES, wanted)


@pytest.mark.parametrize(
    ("scales", "expected"), [([0.5, 0.9, 1.2], 0.9), ([2.0, 0.5], 0.5), ([3.0], 3.0)]
)
def test_the_reference_is_next_to_one_in_proportion(scales, expected):
    assert reference_scale(scales) == expected


# What the validation labels say


def test_scales_far_below_the_best_auc_are_left_out():
    aucs = {0.5: 0.90, 0.75: 0.93, 1.0: 0.97, 1.5: math.nan}
    assert good_scales(aucs, 0.04) == [0.75, 1.0]
    assert good_scales(aucs, 0.0) == [1.0]
    assert good_scales(aucs, 1.0) == [0.5, 0.75, 1.0]
    assert good_scales(dict.fromkeys(SCALES, math.nan), 0.0) == SCALES


class Images:
    """A bright square where there is a lesion, of two pixels' side in an image of 32."""

    def __init__(self, labels):
        self.cases = [Case(str(i), None, label) for i, label in enumerate(labels)]

    def images(self, indices):
        out = torch.full((len(indices), 1, 32, 32), 0.1)
        for k, i in enumerate(indices):
            if self.cases[i].label == "lesion":
                out[k, 0, 8:10, 8:10] = 1.0
        return out


class Brightest(torch.nn.Module):
    """Says lesion by the brightest pixel; in images of less than 20 pixels it sees the opposite."""

    def __init__(self, sign=1.0):
        super().__init__()
        self.register_buffer("mean", torch.zeros(1))
        self.sign = sign

    def forward(self, images):
        top = images.amax((1, 2, 3)) * (1 if images.shape[-1] >= 20 else -1) * self.sign
        return torch.stack([torch.zeros_like(top), top], 1)


def test_the_auc_of_each_scale_is_of_its_own_images():
    images = Images(["lesion", "healthy"] * 5)
    config = HeatmapConfig(scales=[0.5, 1.0, 2.0], batch_size=3)
    told = dict(label_aucs([Brightest()], LABELS, images, range(10), config))
    assert told == {0.5: 0.0, 1.0: 1.0, 2.0: 1.0}
    # Of several classifiers the mean: the second takes back what the first says, or more.
    told = dict(label_aucs([Brightest(), Brightest(-2.0)], LABELS, images, range(10), config))
    assert told == {0.5: 1.0, 1.0: 0.0, 2.0: 0.0}


def test_labels_that_are_all_alike_tell_nothing():
    told = dict(
        label_aucs([Brightest()], LABELS, Images(["lesion"] * 3), range(3), HeatmapConfig())
    )
    assert math.isnan(told[1.0])


# A scale for each image


def looker(sides, seen):
    def look(indices, config):
        (scale,) = config.scales
        assert config.choose == "mean"
        seen.append((scale, list(indices)))
        for i in indices:
            p = 0.9 if scale == 1 else 0.3
            yield (
                i,
                heat_of(
                    square(sides[i]) * (p if config.scale == "probability" else 1),
                    probability=p,
                    scale=scale,
                ),
            )

    return look


def test_each_image_is_seen_again_at_its_own_scale_and_keeps_its_probability():
    seen = []
    config = HeatmapConfig(scales=SCALES, choose="area", hot_side=16)
    sides = {3: 10, 4: 50, 5: 20, 6: 45}
    found = list(at_own_scales(looker(sides, seen), [3, 4, 5, 6], config))
    assert seen == [(1.0, [3, 4, 5, 6]), (0.5, [4, 6]), (0.75, [5])]
    assert [i for i, _ in found] == [3, 4, 6, 5]
    assert {i: h.input_scale for i, h in found} == {3: 1.0, 4: 0.5, 5: 0.75, 6: 0.5}
    assert {h.probability for _, h in found} == {0.9}


def test_on_the_scale_of_probability_the_hottest_place_has_that_of_the_first_look():
    config = HeatmapConfig(scales=SCALES, choose="area", hot_side=16, scale="probability")
    found = dict(at_own_scales(looker({0: 50, 1: 10}, []), [0, 1], config))
    assert found[0].raw.max() == pytest.approx(3 * 0.9)
    assert found[1].raw.max() == pytest.approx(3 * 0.9)


def test_a_mean_of_scales_is_one_look():
    seen = []

    def look(indices, config):
        seen.append(config.scales)
        return ((i, heat_of(square(50))) for i in indices)

    assert len(list(at_own_scales(look, [1, 2], HeatmapConfig(scales=SCALES)))) == 2
    assert seen == [SCALES]


def test_the_scale_of_a_heatmap_is_kept_in_its_file(tmp_path):
    save_heatmap(tmp_path / "a.npz", heat_of(square(5), scale=0.625))
    assert load_heatmap(tmp_path / "a.npz").input_scale == 0.625


# Settings


def test_settings_of_scales_that_do_nothing_leave_earlier_heatmaps_up_to_date():
    plain = HeatmapConfig().fingerprint_settings()
    assert not {"choose", "hot_side", "auc_drop"} & set(plain)
    assert HeatmapConfig(hot_side=20).fingerprint_settings() == plain
    area = HeatmapConfig(choose="area", auc_drop=0.1).fingerprint_settings()
    assert {k: area[k] for k in ("choose", "hot_side", "auc_drop")} == {
        "choose": "area",
        "hot_side": 35.0,
        "auc_drop": 0.1,
    }


@pytest.mark.parametrize(
    ("key", "value"),
    [("choose", "best"), ("hot_side", 0), ("hot_side", True), ("auc_drop", 1.5), ("auc_drop", -1)],
)
def test_settings_out_of_range_are_refused(key, value):
    with pytest.raises(ConfigError, match=rf"heatmap\.{key}"):
        parse_config({"heatmap": {key: value}})
