"""Classifiers of volumes: a pool over slices, and kernels of three dimensions."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.special import logsumexp

from weakseg.config import HeatmapConfig
from weakseg.data.cases import Labels
from weakseg.errors import ConfigError
from weakseg.heatmaps.explaining import explain
from weakseg.models import volume_classifiers
from weakseg.models.classifier import ClassifierSpec
from weakseg.models.classifiers import build_classifier
from weakseg.models.layers import find_layers, grids
from weakseg.models.volume_classifiers import present
from weakseg.models.volume_weights import pretrained_classifier

LABELS = Labels(("normal",), ("tumor",))
SPEC = ClassifierSpec("mil:squeezenet1_1", LABELS.names, 1, depth=5)


def made(arch="mil:squeezenet1_1", **more):
    torch.manual_seed(1)
    return build_classifier(replace(SPEC, arch=arch, **more)).eval()


def volumes():
    torch.manual_seed(2)
    x = torch.rand(2, 1, 5, 48, 48)
    x[1, :, 3:] = 0
    return x


def log_odds(model, slices):
    with torch.no_grad():
        said = model.explained(slices)
    return (said[:, 1] - said[:, 0]).numpy()


@pytest.mark.parametrize("pool", ["max", "lse", "attention"])
def test_a_volume_is_as_sick_as_its_slices_are_together(pool):
    model, x = made(instances=pool), volumes()
    with torch.no_grad():
        found = model(x)
    for k, count in enumerate((5, 3)):
        slices = x[k, :, :count].movedim(1, 0)
        odds = log_odds(model, slices)
        weights = model.slices(slices).weights.numpy()
        wanted = {
            "max": odds.max(),
            "lse": (logsumexp(4 * odds) - np.log(count)) / 4,
            "attention": (weights * odds).sum(),
        }[pool]
        assert float(found[k, 1] - found[k, 0]) == pytest.approx(wanted, abs=1e-4)
        assert weights.sum() == pytest.approx(1, abs=1e-5)


def test_empty_slices_are_not_there():
    assert present(volumes()).tolist() == [[True] * 5, [True] * 3 + [False] * 2]
    assert present(torch.zeros(1, 1, 3, 8, 8)).all()
    model, x = made(), volumes()
    with torch.no_grad():
        assert torch.allclose(model(x)[1], model(x[1:, :, :3])[0], atol=1e-5)


def test_in_parts_it_learns_the_same(monkeypatch):
    def gradient(at_once):
        monkeypatch.setattr(volume_classifiers, "AT_ONCE", at_once)
        model = made("mil:resnet18").eval()
        model(volumes())[:, 1].sum().backward()
        return model.net.conv1.weight.grad

    assert torch.allclose(gradient(64), gradient(2), rtol=1e-3, atol=1e-5)


def test_a_second_look_does_not_count_in_the_running_means(monkeypatch):
    monkeypatch.setattr(volume_classifiers, "AT_ONCE", 4)
    model = made("mil:resnet18").train()
    seen = []
    model.net.bn1.register_forward_hook(lambda m, _i, _o: seen.append(m.running_mean.clone()))
    logits = model(volumes())
    before = model.net.bn1.running_mean.clone()
    looks = len(seen)
    logits.sum().backward()
    assert len(seen) == 2 * looks == 4
    assert torch.equal(model.net.bn1.running_mean, before)
    assert model.net.bn1.momentum == 0.1


def test_heat_of_a_volume_is_that_of_its_slices():
    model, x = made(), volumes()
    config = HeatmapConfig(method="gradcam", layer="features.7", batch_size=2)
    _, heat, _ = explain(model, LABELS, x, config)
    assert heat.shape == (2, 5, 5, 5)
    assert not heat[1, 3:].any()
    for k in range(3):
        _, alone, _ = explain(model.explained, LABELS, x[1, :, k][None], config)
        assert torch.allclose(heat[1, k], alone[0], rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("pool", ["lse", "attention"])
def test_probable_slices_are_hot(pool):
    model, x = made(instances=pool), volumes()[:1]
    config = HeatmapConfig(method="layercam", layer="features.7", scale="probability")
    _, heat, _ = explain(model, LABELS, x, config)
    shares = model.slices(x[0].movedim(1, 0)).shares
    tops = heat[0].amax((1, 2))
    assert torch.allclose(tops[tops > 0], shares[tops > 0], rtol=1e-4)
    said = model.slices(x[0].movedim(1, 0))
    sick, part = said.probabilities[:, 1], said.weights / said.weights.max()
    assert torch.allclose(shares, sick * part if pool == "attention" else sick)


def test_heat_of_a_deep_network_has_three_axes():
    model, x = made("squeezenet1_1-3d"), volumes()
    config = HeatmapConfig(method="layercam", layer="fused", flips=True, scales=[1.0, 1.5])
    name, heat, p = explain(model, LABELS, x, config)
    assert name.count("+") == 3
    assert heat.ndim == 4
    assert heat.shape[0] == 2
    assert torch.allclose(p.sum(1), torch.ones(2))
    assert grids(model, "auto", 48)["features.12"] == (5, 2, 2)
    with pytest.raises(ConfigError, match="no layer"):
        find_layers(model, "nowhere", 48)


@pytest.mark.thorough
@pytest.mark.parametrize("arch", ["resnet34-3d", "mil:resnet34"])
def test_layers_of_other_networks_are_found(arch):
    model = made(arch)
    assert list(grids(model, "auto", 64)) == ["layer4"]
    assert len(grids(model, "fused", 64)) == 4


@pytest.mark.parametrize("channels", [1, 3])
def test_weights_of_images_are_inflated(channels):
    spec = replace(SPEC, arch="squeezenet1_1-3d", channels=channels)
    torch.manual_seed(0)
    flat = build_classifier(replace(spec, arch="squeezenet1_1"))
    model, random = pretrained_classifier(spec, flat.net.state_dict(), "w")
    assert random == []
    image = torch.rand(2, channels, 48, 48)
    volume = image[:, :, None].expand(-1, -1, 5, -1, -1)
    with torch.no_grad():
        assert torch.allclose(model.eval()(volume), flat.eval()(image), rtol=1e-3, atol=1e-5)
    again, _ = pretrained_classifier(spec, model.net.state_dict(), "w")
    assert torch.equal(again.net.features[0].weight, model.net.features[0].weight)


def test_attention_starts_anew():
    spec = replace(SPEC, instances="attention")
    flat = build_classifier(replace(spec, arch="squeezenet1_1"))
    _, random = pretrained_classifier(spec, flat.net.state_dict(), "w")
    assert len(random) == 6
    assert all(name.startswith("attention.") for name in random)


@pytest.mark.thorough
@pytest.mark.parametrize("pool", ["avg", "lse", "gem"])
def test_pools_over_places_and_exits_take_volumes(pool):
    model = made("resnet18-3d", pool=pool, exits=True)
    with torch.no_grad():
        said = model(volumes(), parts=True)
    assert said.logits.shape == (2, 2)
    assert said.places.ndim == 5
    assert len(said.exits) == 3
