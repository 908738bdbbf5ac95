"""FullGrad: beside pytorch-grad-cam's, and by the paper's own property."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from pytorch_grad_cam import FullGrad
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
from torch import nn
from torchvision import models

from tests.heatmaps.test_cam import Bright, hooks
from weakseg.config import HeatmapConfig
from weakseg.data.cases import Labels
from weakseg.errors import ConfigError
from weakseg.heatmaps import fullgrad
from weakseg.heatmaps.cam import check_method
from weakseg.heatmaps.explaining import explain
from weakseg.heatmaps.fullgrad import contributions, effective_bias
from weakseg.models.classifier import ClassifierSpec
from weakseg.models.classifiers import build_classifier

LABELS = Labels(("normal",), ("tumor",))


def lively(net):
    """Biases and running statistics that are not those of a new network."""
    for module in net.modules():
        if isinstance(module, nn.Conv2d | nn.BatchNorm2d | nn.Linear) and module.bias is not None:
            nn.init.normal_(module.bias, std=0.1)
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.running_mean, std=0.2)
            nn.init.uniform_(module.running_var, 0.5, 2.0)
    return net.eval()


@pytest.fixture(scope="module", params=["resnet18", "squeezenet1_1", "vgg11_bn"])
def net(request):
    torch.manual_seed(2)
    net = models.get_model(request.param, weights=None, num_classes=3)
    if request.param == "squeezenet1_1":  # as weakseg builds it; else a class may have no gradient
        net.classifier[2] = nn.Identity()
    return lively(net)


def fullgrad_maps(*args, **kwargs):
    maps, logits = fullgrad.fullgrad_maps(*args, **kwargs)
    return maps.numpy(), logits.numpy()


def to_one(maps):
    low = maps.min(axis=(1, 2), keepdims=True)
    return (maps - low) / (maps.max(axis=(1, 2), keepdims=True) - low)


@pytest.mark.thorough
def test_each_map_over_its_own_range_is_the_librarys(net):
    images = torch.randn(2, 3, 64, 64)
    ours, logits = fullgrad_maps(net, images, (1,))
    cam = FullGrad(net, [])
    theirs = cam(images, [ClassifierOutputTarget(1)] * 2)
    cam.activations_and_grads.release()
    np.testing.assert_allclose(to_one(ours), theirs, atol=1e-4)
    with torch.no_grad():
        torch.testing.assert_close(torch.from_numpy(logits), net(images))


def test_its_heat_adds_up_to_the_magnitudes_of_all_contributions(net):
    images = torch.randn(2, 3, 64, 64)
    maps, _ = fullgrad_maps(net, images, (1,))
    parts, _ = contributions(net, images, (1,))
    total = sum(p.abs().sum((1, 2, 3)) for p in parts)
    np.testing.assert_allclose(maps.sum((1, 2)), total.numpy(), rtol=1e-4)
    assert (maps >= 0).all()


def test_the_contributions_add_up_to_the_logit(net):
    """The paper's property. Linear layers have no place: their part is taken by hand."""
    images = torch.randn(2, 3, 64, 64, requires_grad=True)
    net.zero_grad()
    logits = net(images)
    logits[:, 1].sum().backward()
    linear = [m.bias for m in net.modules() if isinstance(m, nn.Linear)]
    without_place = sum(float((b.grad * b.detach()).sum()) for b in linear)
    net.zero_grad()
    parts, _ = contributions(net, images, (1,))
    found = sum(float(p.sum()) for p in parts) + without_place
    assert found == pytest.approx(float(logits[:, 1].detach().sum()), rel=1e-3, abs=1e-3)


def test_of_a_classifier_that_normalises_its_images_the_zero_is_their_mean():
    torch.manual_seed(0)
    model = build_classifier(ClassifierSpec("squeezenet1_1", LABELS.names, 3)).eval()
    images = torch.rand(2, 3, 48, 48)
    ours, _ = fullgrad_maps(model, images, (1,), zero=model.mean)
    of_net, _ = fullgrad_maps(model.net, (images - model.mean) / model.std, (1,))
    np.testing.assert_allclose(ours, of_net, rtol=1e-3, atol=1e-5 * of_net.max())


@pytest.mark.parametrize("affine", [True, False])
def test_the_bias_of_a_batch_norm_is_its_answer_to_nothing(affine):
    torch.manual_seed(0)
    norm = lively(nn.BatchNorm2d(4, affine=affine))
    expected = norm(torch.zeros(1, 4, 1, 1))[0, :, 0, 0]
    torch.testing.assert_close(effective_bias(norm), expected.detach())
    assert effective_bias(nn.Conv2d(1, 2, 1, bias=False)) is None


class Twice(nn.Module):
    """Layers that are named in another order than they run, one of them twice, one never."""

    def __init__(self):
        super().__init__()
        self.last = nn.Conv2d(3, 3, 1)
        self.never = nn.Conv2d(3, 3, 1)
        self.first = nn.Conv2d(1, 3, 3, padding=1)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x):
        x = self.relu(self.first(x))
        x = self.relu(self.last(x))
        return self.last(x).mean((2, 3))


def test_a_layer_counts_as_often_as_it_runs_in_whatever_order():
    torch.manual_seed(1)
    model, images = Twice(), torch.randn(2, 1, 9, 9)
    parts, logits = contributions(model, images, (2,))
    assert len(parts) == 4
    torch.testing.assert_close(sum(p.sum((1, 2, 3)) for p in parts), logits[:, 2])


def test_without_biases_it_is_the_gradient_times_the_image():
    images = torch.zeros(1, 1, 16, 16)
    images[..., 3:6, 8:11] = 1
    (heat,), logits = fullgrad_maps(Bright(), images, (1,))
    assert (heat[3:6, 8:11] > 0).all()
    assert heat.sum() == pytest.approx(logits[0, 1], rel=1e-5)
    assert heat[images[0, 0].numpy() == 0].max() == 0


def test_an_empty_image_without_biases_is_flat_and_no_number_is_missing():
    maps, _ = fullgrad_maps(Bright(), torch.zeros(2, 1, 8, 8), (1,))
    assert (maps == 0).all()


def test_a_batch_gives_what_each_image_gives_alone(net):
    images = torch.randn(3, 3, 64, 64)
    together, _ = fullgrad_maps(net, images, (0, 2), score="log-odds")
    alone = [fullgrad_maps(net, i[None], (0, 2), score="log-odds")[0][0] for i in images]
    # Rounding shows where a channel that hardly differs between places is scaled to 0..1.
    np.testing.assert_allclose(together, alone, rtol=1e-3, atol=2e-3 * together.max())


@pytest.mark.parametrize("fails", [False, True])
def test_the_network_is_left_as_it_was_found_frozen_or_not(fails):
    torch.manual_seed(0)
    model = build_classifier(ClassifierSpec("resnet18", ("a", "b"), 3)).train()
    model.net.layer1.eval()
    model.net.fc.weight.grad = torch.full_like(model.net.fc.weight, 7.0)
    modes = [m.training for m in model.modules()]
    state = {k: v.clone() for k, v in model.state_dict().items()}
    images = torch.rand(2, 3, 64, 64)
    if fails:
        with pytest.raises(ConfigError, match="target must name"):
            fullgrad_maps(model, images, (5,))
    else:
        free, _ = fullgrad_maps(model, images, (1,))
        needs = [p.requires_grad for p in model.parameters()]
        model.requires_grad_(False)
        with torch.no_grad():
            frozen, _ = fullgrad_maps(model, images, (1,))
            assert not torch.is_grad_enabled()
        with torch.inference_mode():
            inferred, _ = fullgrad_maps(model, images * 1, (1,))
        for other in (frozen, inferred):
            np.testing.assert_allclose(other, free, rtol=1e-3, atol=2e-3 * free.max())
        assert not any(p.requires_grad for p in model.parameters())
        assert all(needs)
    assert [m.training for m in model.modules()] == modes
    assert hooks(model) == 0
    assert (model.net.fc.weight.grad == 7.0).all()
    assert model.net.conv1.weight.grad is None
    assert not images.requires_grad
    for k, v in model.state_dict().items():
        assert torch.equal(v, state[k]), k


@pytest.mark.parametrize("more", [{}, {"pool": "lse", "exits": True}, {"grey_input": "repeat"}])
def test_as_a_method_of_the_experiment_it_needs_no_layer(more):
    torch.manual_seed(0)
    model = build_classifier(ClassifierSpec("resnet18", LABELS.names, 1, **more)).eval()
    config = HeatmapConfig(method="fullgrad", flips=True, layer="no such layer")
    name, maps, p = explain(model, LABELS, torch.rand(1, 1, 32, 32), config)
    assert (name, maps.shape, p.shape) == ("image", (1, 32, 32), (1, 2))
    assert maps.max() > 0


def test_its_name_is_known_and_a_slip_is_mended():
    check_method("fullgrad")
    with pytest.raises(ConfigError, match="fullgrad"):
        check_method("fulgrad")
