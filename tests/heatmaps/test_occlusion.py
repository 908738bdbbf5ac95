"""Occlusion of superpixels, on networks whose answer is known."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from tests.heatmaps.test_cam import Bright
from weakseg.config import HeatmapConfig
from weakseg.data.cases import Labels
from weakseg.heatmaps.explaining import explain
from weakseg.heatmaps.occlusion import occlusion_maps
from weakseg.models.classifier import ClassifierSpec
from weakseg.models.classifiers import build_classifier


class Sum(nn.Module):
    """Class 1 is the image's sum: covering a part costs what the part has above the mean."""

    def forward(self, x):
        total = x.sum((1, 2, 3))
        return torch.stack([torch.zeros_like(total), total], 1)


def _spots():
    images = torch.zeros(2, 1, 32, 32)
    images[0, 0, 5:12, 6:13] = 1
    images[1, 0, 20:28, 20:28] = 1
    return images


def test_a_planted_spot_is_the_hottest_place():
    images = _spots()
    maps, logits = occlusion_maps(Bright(), images, (1,))
    for heat, image in zip(maps, images[:, 0].numpy(), strict=True):
        assert image[np.unravel_index(heat.argmax(), heat.shape)] == 1
        assert heat[image == 1].mean() > 5 * abs(heat[image == 0]).mean()
    torch.testing.assert_close(torch.from_numpy(logits), Bright()(images))


def test_of_a_sum_the_fall_is_what_the_superpixel_had_above_the_mean():
    image = torch.zeros(1, 1, 40, 40)
    image[..., 20:] = 1
    (heat,), _ = occlusion_maps(Sum(), image, (1,), counts=(4,))
    np.testing.assert_array_equal(heat > 0, image[0, 0].numpy() == 1)
    falls, pixels = np.unique(heat, return_counts=True)
    # A superpixel of n pixels, all 0.5 from the mean, changes the sum by n / 2.
    assert np.all(pixels % (2 * abs(falls)) == 0), (falls, pixels)
    assert len(falls) > 1


def test_the_falls_do_not_depend_on_the_batch():
    images = _spots()
    one, _ = occlusion_maps(Bright(), images, (1,), batch_size=3)
    other, _ = occlusion_maps(Bright(), images[1:], (1,), batch_size=64)
    np.testing.assert_allclose(one[1], other[0], atol=1e-6)


def test_as_a_method_of_the_experiment_it_needs_no_layer():
    torch.manual_seed(0)
    labels = Labels(("normal",), ("tumor",))
    model = build_classifier(ClassifierSpec("resnet18", labels.names, 1)).eval()
    config = HeatmapConfig(method="occlusion", flips=True)
    name, maps, p = explain(model, labels, torch.rand(1, 1, 32, 32), config)
    assert (name, maps.shape, p.shape) == ("image", (1, 32, 32), (1, 2))
