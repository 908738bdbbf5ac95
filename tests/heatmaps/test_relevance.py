"""Learnt shares of superpixels, on networks whose answer is known."""

import numpy as np
import pytest
import torch

from tests.heatmaps.test_cam import Bright
from tests.heatmaps.test_occlusion import Sum, _spots
from weakseg.config import HeatmapConfig, RelevanceConfig, parse_config
from weakseg.errors import ConfigError
from weakseg.heatmaps.relevance import relevance_maps


def test_a_planted_spot_is_what_counts_and_a_second_run_finds_the_same():
    images, how = _spots(), RelevanceConfig(superpixels=40, steps=30)
    maps, logits = relevance_maps(Bright(), images, (1,), settings=how)
    for heat, image in zip(maps, images[:, 0].numpy(), strict=True):
        assert image[np.unravel_index(heat.argmax(), heat.shape)] == 1
        assert heat[image == 1].mean() > 3 * heat[image == 0].mean()
    torch.testing.assert_close(torch.from_numpy(logits), Bright()(images))
    again, _ = relevance_maps(Bright(), images[1:], (1,), settings=how)
    np.testing.assert_array_equal(again[0], maps[1])  # whatever stands beside it


def halves():
    """An image whose right half is bright: of a sum it is worth 800 x 1/2 above the mean."""
    image = torch.zeros(1, 1, 40, 40)
    image[..., 20:] = 1
    return image, image[0, 0].numpy() == 1


def test_of_a_sum_a_share_goes_where_its_price_says():
    """Of a sum the loss is linear in each share: -2 c + small a, c being what a superpixel has
    above the mean and a its area. The unit is 1, as the image adds nothing to its mean."""
    image, bright = halves()
    for small, kept in ((0.0, True), (2.1 * 0.5 * 1600, False)):
        # A pixel is worth 2 x 1/2 and costs small / 1600.
        how = RelevanceConfig(superpixels=6, steps=80, small=small, smooth=0)
        (heat,), _ = relevance_maps(Sum(), image, (1,), settings=how)
        assert (heat[bright].min() > 100 * heat[~bright].max()) == kept
        if not kept:
            assert heat.max() < 100  # of some 790 where it is kept


def test_smoothness_brings_neighbours_together():
    image, bright = halves()
    found = []
    for smooth in (0.0, 5000.0):
        how = RelevanceConfig(superpixels=6, steps=40, small=0, smooth=smooth)
        (heat,), _ = relevance_maps(Sum(), image, (1,), settings=how)
        found.append(heat[bright].mean() / max(heat[~bright].mean(), 1e-9))
    assert found[1] < 3 < 10 < found[0]


def test_volumes_are_taken_as_images_are():
    class Brightest(torch.nn.Module):
        def forward(self, x):
            total = x.flatten(1).sum(1)
            return torch.stack([torch.zeros_like(total), total / 10], 1)

    volume = torch.zeros(1, 1, 6, 16, 16)
    volume[0, 0, 2:5, 3:9, 4:10] = 1
    how = RelevanceConfig(superpixels=30, steps=20)
    maps, _ = relevance_maps(Brightest(), volume, (1,), settings=how)
    inside = volume[0, 0].numpy() == 1
    assert maps.shape == (1, 6, 16, 16)
    assert maps[0][inside].mean() > 3 * maps[0][~inside].mean()


def test_no_gradient_stays_and_frozen_networks_are_explained():
    net = Bright()
    for p in net.parameters():
        p.requires_grad_(False)
    with torch.no_grad():
        relevance_maps(net, _spots(), (1,), settings=RelevanceConfig(superpixels=4, steps=1))
        assert not torch.is_grad_enabled()
    assert all(p.grad is None for p in net.parameters())


def test_its_settings_count_for_it_alone():
    plain, other = HeatmapConfig(), HeatmapConfig(relevance=RelevanceConfig(steps=9))
    assert plain.fingerprint_settings() == other.fingerprint_settings()
    mine = [HeatmapConfig(method="relevance", relevance=RelevanceConfig(steps=s)) for s in (9, 60)]
    assert mine[0].fingerprint_settings() != mine[1].fingerprint_settings()
    with pytest.raises(ConfigError, match=r"heatmap\.relevance\.steps"):
        parse_config({"heatmap": {"method": "relevance", "relevance": {"steps": 0}}})
