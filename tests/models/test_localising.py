"""Class scores of every place, their pools, and exits."""

import copy
import math

import numpy as np
import pytest
import torch
import torchvision

from tests.marks import thorough_but
from weakseg.errors import ConfigError
from weakseg.heatmaps.cam import METHODS, cams, raw_cam
from weakseg.models.classifier import ClassifierSpec
from weakseg.models.classifiers import build_classifier
from weakseg.models.layers import DEPTHS, find_layers
from weakseg.models.localising import (
    OF_SCORES,
    generalised_mean,
    log_sum_exp,
    score_places,
    top_mean,
)
from weakseg.models.transfer import load_pretrained

LABELS = ("normal", "tumor", "cyst")
POOLS = ("avg", "max", "lse", "topk", "gem")
POOLED = (
    "resnet18",
    "resnet50",
    "mobilenet_v2",
    "efficientnet_b0",
    "densenet121",
    "squeezenet1_1",
)


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(0)


def build(arch="resnet18", channels=3, **more):
    return build_classifier(ClassifierSpec(arch, LABELS, channels, **more)).eval()


@pytest.mark.thorough
@pytest.mark.parametrize("arch", [*POOLED, "regnet_y_400mf", "shufflenet_v2_x0_5", "mnasnet0_5"])
def test_the_average_of_scores_is_the_networks_own_output(arch):
    """Batch statistics are drawn, so that the features are no longer near zero."""
    own, places = build(arch), build(arch, pool="avg")
    for module in own.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)
            module.bias.data.normal_(0, 0.5)
    places.load_state_dict(own.state_dict())
    x = torch.rand(2, 3, 64, 96)
    with torch.no_grad():
        expected = own(x)
        assert expected.std(0).max() > 0
        scale = max(1.0, float(expected.abs().max()))
        torch.testing.assert_close(places(x), expected, rtol=0, atol=1e-5 * scale)


@pytest.mark.thorough
@pytest.mark.parametrize("pool", POOLS)
@pytest.mark.parametrize("arch", thorough_but(POOLED, POOLED[:2]))
def test_every_pool_gives_logits_and_a_map_of_class_scores(arch, pool):
    model = build(arch, 1, pool=pool)
    with torch.no_grad():
        said = model(torch.rand(2, 1, 64, 64), parts=True)
    assert said.logits.shape == (2, 3)
    assert said.places.shape[:2] == (2, 3)
    assert min(said.places.shape[2:]) > 1
    if pool in OF_SCORES:
        torch.testing.assert_close(said.logits, OF_SCORES[pool](said.places))


def test_log_sum_exp_is_by_hand_and_lies_between_mean_and_maximum():
    scores = torch.randn(2, 3, 5, 4)
    by_hand = (4 * scores).exp().mean((2, 3)).log() / 4
    found = log_sum_exp(scores)
    torch.testing.assert_close(found, by_hand)
    assert (found > scores.mean((2, 3))).all()
    assert (found < scores.amax((2, 3))).all()
    assert torch.isfinite(log_sum_exp(100 * scores)).all()


@pytest.mark.parametrize(("side", "taken"), [(2, 1), (5, 2), (10, 10)])
def test_the_highest_tenth_is_at_least_one_place(side, taken):
    scores = torch.randn(2, 3, side, side)
    highest = np.sort(scores.flatten(2).numpy(), axis=2)[:, :, -taken:].mean(2)
    np.testing.assert_allclose(top_mean(scores).numpy(), highest, rtol=1e-5, atol=1e-6)


def test_the_generalised_mean_is_of_features_before_the_linear_layer():
    features = torch.rand(2, 4, 3, 3) - 0.3
    linear = torch.nn.Linear(4, 3)
    by_hand = (features.clamp(min=1e-6) ** 3).mean((2, 3)) ** (1 / 3)
    torch.testing.assert_close(generalised_mean(features), by_hand)
    with torch.no_grad():
        torch.testing.assert_close(score_places(features, linear, "gem").logits, linear(by_hand))


def test_a_gradient_of_the_generalised_mean_of_nothing_is_finite():
    features = torch.zeros(1, 4, 3, 3, requires_grad=True)
    generalised_mean(features).sum().backward()
    assert torch.isfinite(features.grad).all()


@pytest.mark.thorough
@pytest.mark.parametrize(
    "arch", ["vgg16", "alexnet", "convnext_tiny", "mobilenet_v3_small", "vit_b_16", "swin_t"]
)
def test_a_network_without_such_an_end_is_refused_by_the_key(arch):
    with pytest.raises(ConfigError, match="does not score places") as error:
        build(arch, pool="lse")
    assert error.value.where == "classifier.pool"


def test_timm_networks_that_end_so_are_pooled_and_others_refused():
    pytest.importorskip("timm", reason="timm is an extra")
    own, places = build("timm:resnet10t"), build("timm:resnet10t", pool="avg")
    places.load_state_dict(own.state_dict())
    x = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(places(x), own(x), rtol=1e-4, atol=1e-5)
    with pytest.raises(ConfigError, match="does not score places"):
        build("timm:mobilenetv3_small_050", pool="avg")


@pytest.mark.thorough
@pytest.mark.parametrize("arch", DEPTHS)
def test_exits_are_averaged_with_the_networks_own_logits(arch):
    model = build(arch, exits=True)
    x = torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        said = model(x, parts=True)
        heads = [said.logits, *said.exits]
        torch.testing.assert_close(model(x), sum(heads) / len(heads))
    assert model.exit_layers == DEPTHS[arch][:-1]
    assert [e.shape for e in said.exits] == [(2, 3)] * (len(DEPTHS[arch]) - 1)
    plain = build(arch)
    plain.net.load_state_dict(model.net.state_dict())
    with torch.no_grad():
        torch.testing.assert_close(said.logits, plain(x))


@pytest.mark.parametrize("layer", range(3))
def test_an_exit_scores_the_map_of_its_own_layer(layer):
    """Its score, by hand, of the map that the layer gives; and no other exit's weights count."""
    model = build(exits=True, pool="max")
    seen = []
    module = model.net.get_submodule(model.exit_layers[layer])
    handle = module.register_forward_hook(lambda _m, _i, out: seen.append(out.clone()))
    with torch.no_grad():
        said = model(torch.rand(1, 3, 64, 64), parts=True)
        handle.remove()
        by_hand = model.exits[layer](seen[0]).amax((2, 3))
    torch.testing.assert_close(said.exits[layer], by_hand)


@pytest.mark.thorough
@pytest.mark.parametrize(
    ("arch", "side", "more"),
    [
        ("resnet18", 8, {"pool": "lse", "stride": 8, "exits": True}),
        ("densenet121", 4, {"pool": "gem", "stride": 16, "exits": True}),
        ("squeezenet1_1", 7, {"pool": "topk", "stride": 8}),
        ("vgg16", 8, {"stride": 8, "exits": True}),
    ],
)
def test_heatmaps_of_one_layer_and_of_all_depths(arch, side, more):
    model = build(arch, 1, **more)
    for module in model.modules():  # so that the map differs from place to place
        if isinstance(module, torch.nn.BatchNorm2d):
            module.bias.data.normal_(0, 0.3)
    x = torch.rand(2, 1, 64, 64)
    _, last = find_layers(model, "auto", 64)[0]
    heat, logits = raw_cam(model, last, x, (1,))
    maps, _ = cams(model, [m for _, m in find_layers(model, "fused", 64)], x, (1,))
    assert heat.shape == (2, side, side)
    assert np.isfinite(heat).all()
    assert len(maps) == len(DEPTHS[arch])
    assert all(m.abs().max() > 0 for m in maps)
    with torch.no_grad():
        np.testing.assert_allclose(logits, model(x).numpy(), rtol=1e-4, atol=1e-5)
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())


@pytest.mark.thorough
@pytest.mark.parametrize("method", METHODS)
def test_every_method_makes_heatmaps_of_it(method):
    model = build("squeezenet1_1", 1, pool="lse", exits=True)
    _, layer = find_layers(model, "auto", 64)[0]
    heat, _ = raw_cam(model, layer, torch.rand(1, 1, 64, 64), (1,), method=method)
    assert np.isfinite(heat).all()


def test_an_exit_drives_the_gradient_of_its_own_layer():
    model, x = build(exits=True), torch.rand(1, 3, 64, 64)
    layer = model.net.layer1
    before, _ = raw_cam(model, layer, x, (1,))
    with torch.no_grad():
        model.exits[0].weight.mul_(-50)
    after, _ = raw_cam(model, layer, x, (1,))
    assert np.corrcoef(before.ravel(), after.ravel())[0, 1] < 0.999


@pytest.mark.thorough
@pytest.mark.parametrize("pool", ["default", *POOLS])
def test_training_reaches_every_parameter(pool):
    model = build(pool=pool, stride=16, exits=True).train()
    said = model(torch.rand(4, 3, 64, 64), parts=True)
    torch.stack([said.logits, *said.exits]).sum().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name


@pytest.mark.thorough
@pytest.mark.parametrize("pool", ["default", *POOLS])
def test_half_precision_gives_the_same_class_scores_nearly(pool):
    model, x = build(pool=pool, stride=16, exits=True), torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        expected = model(x)
        with torch.autocast("cpu", torch.bfloat16):
            found = model(x)
    scale = float(expected.abs().max())
    torch.testing.assert_close(found.float(), expected, rtol=0, atol=0.05 * scale)


def test_weights_of_torchvision_load_and_the_new_heads_are_reported():
    source = torchvision.models.resnet18(num_classes=1000)
    model = build(channels=1, pool="lse", stride=8, exits=True)
    random = load_pretrained(model, source.state_dict(), "file")
    heads = [f"exits.{k}.{part}" for k in range(3) for part in ("bias", "weight")]
    assert sorted(random) == [*heads, "fc.bias", "fc.weight"]
    torch.testing.assert_close(model.net.layer4[1].conv2.weight, source.layer4[1].conv2.weight)


def test_our_own_weights_load_with_their_exits_and_into_networks_without():
    source = build(exits=True)
    same = build(exits=True)
    assert load_pretrained(same, source.state_dict(), "file") == []
    torch.testing.assert_close(same.exits[1].weight, source.exits[1].weight)
    assert load_pretrained(build(), source.state_dict(), "file") == []
    assert len(load_pretrained(build(exits=True), build().state_dict(), "file")) == 6


def test_a_plain_classifier_has_the_tensors_and_the_weights_that_it_had():
    plain = build()
    net = torchvision.models.resnet18(num_classes=3)
    assert set(plain.state_dict()) == {"mean", "std", *(f"net.{k}" for k in net.state_dict())}
    torch.manual_seed(0)
    a = build(stride=8, pool="gem", exits=True)
    torch.manual_seed(0)
    b = build()
    torch.testing.assert_close(a.net.fc.weight, b.net.fc.weight)


def test_a_copy_listens_to_its_own_layers():
    """The training's average of weights is a copy."""
    model, x = build(exits=True, pool="lse"), torch.rand(1, 3, 64, 64)
    other = copy.deepcopy(model)
    with torch.no_grad():
        before = model(x)
        for parameter in other.parameters():
            parameter.zero_()
        assert other(x).abs().max() == 0
        torch.testing.assert_close(model(x), before)


@pytest.mark.thorough
def test_dropout_takes_whole_channels_as_the_network_itself_does():
    """In training, the average of a pooled efficientnet varies as the network's own output."""
    spread = {}
    for pool in ("default", "avg"):
        torch.manual_seed(1)
        model = build("efficientnet_b0", pool=pool)
        model.net.classifier[0].train()
        model.net.training = True
        torch.manual_seed(2)
        with torch.no_grad():
            logits = torch.stack([model(torch.ones(1, 3, 64, 64))[0] for _ in range(60)])
        spread[pool] = float(logits.std(0).mean())
    assert spread["avg"] > 0
    assert math.isclose(spread["avg"], spread["default"], rel_tol=0.3)
