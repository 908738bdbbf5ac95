"""Class activation maps of volumes, by the same code as those of images."""

import numpy as np
import pytest
import torch
from torch import nn

from weakseg.errors import ConfigError
from weakseg.heatmaps import METHODS, raw_cam
from weakseg.heatmaps.cam import PERTURBING, cams
from weakseg.heatmaps.fullgrad import contributions, fullgrad_maps
from weakseg.heatmaps.fuse import average, fuse, mirrored
from weakseg.models.inflated import DepthPlan, inflate

DIRECT = [m for m in METHODS if m not in PERTURBING]


def flat_net():
    torch.manual_seed(4)
    net = nn.Sequential(
        nn.Conv2d(1, 6, 3, padding=1),
        nn.BatchNorm2d(6),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(6, 8, 3, padding=1),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(8, 3),
    )
    # Beside such gradients the small number that keeps Grad-CAM++ from dividing by 0 is nothing.
    nn.init.normal_(net[8].weight, std=100.0)
    return net.eval()


def deep_net():
    return inflate(flat_net(), DepthPlan(), channels=1, check=False)


@pytest.mark.parametrize("method", DIRECT)
def test_a_volume_of_like_slices_has_the_maps_of_the_slice(method):
    images = torch.rand(2, 1, 16, 12)
    flat, logits = raw_cam(flat_net(), "4", images, 1, method=method)
    volumes = images[:, :, None].expand(-1, -1, 8, -1, -1)
    deep, same = raw_cam(deep_net(), "4", volumes, 1, method=method)
    assert deep.shape == (2, 4, 8, 6)
    np.testing.assert_allclose(same, logits, rtol=1e-4, atol=1e-3)
    for place in deep.transpose(1, 0, 2, 3):  # up to a factor: the gradient spreads over depth
        for found, wanted in zip(_shares(place), _shares(flat), strict=True):
            np.testing.assert_allclose(found, wanted, atol=2e-3)


def _shares(maps):
    return maps / np.abs(maps).max((1, 2), keepdims=True)


def by_hand(net, volume, target):
    """Grad-CAM as the paper has it, weights averaged over three axes."""
    held = []

    def keep(_module, _inputs, output):
        output.retain_grad()
        held.append(output)

    handle = net[4].register_forward_hook(keep)
    net(volume)[0, target].backward()
    handle.remove()
    (a,) = held
    weights = a.grad[0].mean((1, 2, 3))
    return sum(w * plane for w, plane in zip(weights, a[0].detach(), strict=True))


def test_gradcam_is_the_one_written_by_hand():
    net, volume = deep_net(), torch.rand(1, 1, 8, 16, 12)
    maps, _ = raw_cam(net, "4", volume, 2)
    np.testing.assert_allclose(maps[0], by_hand(net, volume, 2).numpy(), rtol=1e-4, atol=1e-7)


NAMED = ["gradcam", "gradcam++", "xgradcam", "layercam", "hirescam", "gradcam-elementwise"]


@pytest.mark.parametrize("method", NAMED)
def test_the_formulas_are_pytorch_grad_cams(method):
    import pytorch_grad_cam

    net, volumes = deep_net(), torch.rand(2, 1, 8, 16, 12)
    held = {}

    def keep(_module, _inputs, output):
        output.retain_grad()
        held["a"] = output

    handle = net[4].register_forward_hook(keep)
    net(volumes)[:, 1].sum().backward()
    handle.remove()
    a, g = held["a"].detach().numpy(), held["a"].grad.numpy()
    cam = getattr(pytorch_grad_cam, METHODS[method])(net, [])
    wanted = cam.get_cam_image(volumes, net[4], None, a, g, False)
    net.zero_grad()
    found, _ = raw_cam(net, "4", volumes, 1, method=method)
    np.testing.assert_allclose(found, wanted, rtol=1e-3, atol=1e-7)


def test_the_planted_place_is_the_hottest():
    net = nn.Sequential(nn.Conv3d(1, 2, 1, bias=False), nn.AdaptiveAvgPool3d(1), nn.Flatten())
    nn.init.constant_(net[0].weight, 1.0)
    volume = torch.zeros(1, 1, 5, 7, 9)
    volume[0, 0, 3, 1, 6] = 1.0
    for method in ("gradcam", "hirescam", "layercam"):
        maps, _ = raw_cam(net, "0", volume, 0, method=method)
        assert np.unravel_index(maps[0].argmax(), maps[0].shape) == (3, 1, 6)


def test_the_last_map_is_found():
    maps, _ = raw_cam(deep_net(), "auto", torch.rand(1, 1, 8, 16, 12), 0)
    assert maps.shape == (1, 4, 8, 6)


@pytest.mark.parametrize("method", sorted(PERTURBING))
def test_methods_of_images_alone_are_refused(method):
    with pytest.raises(ConfigError, match="does not take volumes"):
        cams(deep_net(), ["4"], torch.rand(1, 1, 8, 16, 12), 0, method=method)


def test_fullgrad_takes_a_score_apart():
    net = deep_net()
    volume = torch.rand(1, 1, 8, 16, 12)
    parts, logits = contributions(net, volume, (1,))
    total = sum(float(p.sum()) for p in parts) + float(net[8].bias[1].detach())
    assert total == pytest.approx(float(logits[0, 1]), rel=1e-3)
    maps, _ = fullgrad_maps(net, volume, (1,))
    assert maps.shape == (1, 8, 16, 12)
    assert float(maps.min()) >= 0


@pytest.mark.parametrize("depth", [3, 5])
def test_fullgrad_of_volumes_of_three_modalities_takes_each_one_s_mean(depth):
    """As a classifier holds it, an axis short of a volume's."""
    net = nn.Sequential(nn.Conv3d(3, 2, 3, padding=1), nn.AdaptiveAvgPool3d(1), nn.Flatten())
    volumes, mean = torch.rand(2, 3, depth, 8, 8), torch.tensor([0.2, 0.5, 0.9])
    found, _ = fullgrad_maps(net, volumes, (1,), zero=mean.view(1, 3, 1, 1))
    wanted, _ = fullgrad_maps(net, volumes - mean.view(1, 3, 1, 1, 1), (1,))
    torch.testing.assert_close(found, wanted)


def test_depths_flips_and_networks_are_fused_over_all_axes():
    coarse, fine = torch.rand(1, 2, 2, 2), torch.rand(1, 2, 4, 4)
    fine[0, 1, 3, 0] = 9.0
    both = fuse([fine, coarse])
    assert both.shape == fine.shape
    assert float(both.max()) == pytest.approx(float(coarse.max()))
    turned = mirrored(fine, fine.flip(3))
    assert torch.equal(turned, fine)
    mean = average([fine, 2 * fine])
    assert float(mean.max()) == pytest.approx(1.5 * 9.0)
    assert torch.allclose(mean / mean.max(), fine / fine.max())
