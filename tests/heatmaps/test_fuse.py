"""Heatmaps of several depths and of mirrored images: by hand, and each part by itself."""

from __future__ import annotations

import functools

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from tests.marks import thorough_but
from weakseg.config import HeatmapConfig
from weakseg.data.cases import Labels
from weakseg.errors import ConfigError
from weakseg.heatmaps import explaining
from weakseg.heatmaps import fuse as fusing
from weakseg.heatmaps.cam import METHODS, PERTURBING, cams, raw_cam
from weakseg.heatmaps.compute import heatmap
from weakseg.heatmaps.explaining import explain_by_all
from weakseg.models.classifier import ClassifierSpec
from weakseg.models.classifiers import build_classifier
from weakseg.models.layers import DEPTHS, find_layers

LABELS = Labels(("normal",), ("tumor", "cyst"))
SIZE = 64


@functools.cache
def network(arch="resnet18", channels=3):
    """A network that is left as it is; `fresh` gives one to be changed."""
    return fresh(arch, channels)


def fresh(arch="resnet18", channels=3):
    torch.manual_seed(1)
    return build_classifier(ClassifierSpec(arch, LABELS.names, channels)).eval()


def pictures(n=2, channels=3):
    return torch.rand(n, channels, SIZE, SIZE, generator=torch.Generator().manual_seed(0))


def maps(seed, *sides, n=3):
    rng = np.random.default_rng(seed)
    return [rng.normal(size=(n, s, s)).astype(np.float32) for s in sides]


def as_tensor(array):
    return torch.from_numpy(np.float32(array))


def raw_cams(*args, **kwargs):
    found, logits = cams(*args, **kwargs)
    return [m.numpy() for m in found], logits.numpy()


def fuse(maps):
    return fusing.fuse([as_tensor(m) for m in maps]).numpy()


def average(maps):
    return fusing.average([as_tensor(m) for m in maps]).numpy()


def same_grid_average(maps):
    return fusing.same_grid_average([as_tensor(m) for m in maps]).numpy()


def mirrored(one, other):
    return fusing.mirrored(as_tensor(one), as_tensor(other)).numpy()


def explain(*args):
    name, found, p = explaining.explain(*args)
    return name, found.numpy(), p.numpy()


# fuse and mirrored


def test_a_single_map_comes_back_signed():
    (only,) = maps(0, 5)
    found = fuse([only])
    np.testing.assert_array_equal(found, only)
    assert found.dtype == np.float32
    assert found.min() < 0


def test_two_maps_by_hand():
    shallow = np.array([[[4.0, 2.0], [-1.0, 0.0]]])
    deep = np.array([[[0.0, 10.0], [-30.0, 10.0]]])
    # Over their own maxima: [1, .5, 0, 0] and [0, 1, 0, 1]; their sum peaks at 1.5, the deep at 10.
    expected = np.array([[[1.0, 1.5], [0.0, 1.0]]]) / 1.5 * 10
    np.testing.assert_allclose(fuse([shallow, deep]), expected, rtol=1e-6)


def test_by_entropy_the_surer_map_counts_more():
    shallow = torch.tensor([[[1.0, 0.5], [0.2, 0.0]]])
    deep = torch.tensor([[[2.0, 0.0], [1.0, 2.0]]])

    def weight(c):
        return np.exp(sum(x * np.log(x) for x in (c, 1 - c) if x > 0))

    pairs = [[(1.0, 1.0), (0.5, 0.0)], [(0.2, 0.5), (0.0, 1.0)]]
    mean = [
        [(weight(a) * a + weight(b) * b) / (weight(a) + weight(b)) for a, b in row] for row in pairs
    ]
    found = fusing.fuse([shallow, deep], "entropy")[0].numpy()
    np.testing.assert_allclose(found, np.array(mean) * 2.0, rtol=1e-5)
    assert weight(0.5) == pytest.approx(0.5)
    cold = fusing.fuse([-shallow, shallow, deep], "entropy")[0].numpy()
    np.testing.assert_allclose(cold, found, rtol=1e-5)
    single = torch.tensor([[[-1.0, 3.0]]])
    assert fusing.fuse([single], "entropy") is single


@pytest.mark.parametrize("coarse", [1, 2, 3, 5])
def test_by_entropy_a_map_as_hot_everywhere_has_a_number_everywhere(coarse):
    # Enlarged, shares of 1 pass it in the last bit, where the entropy is no number.
    fine = torch.rand(1, 56, 56, generator=torch.Generator().manual_seed(0))
    found = fusing.fuse([fine, torch.full((1, coarse, coarse), 0.7)], "entropy")
    assert found.isfinite().all()
    assert float(found.max()) == pytest.approx(0.7)


def test_the_coarse_map_is_laid_over_the_fine_grid():
    fine, coarse = np.zeros((1, 8, 8)), np.zeros((1, 2, 2))
    coarse[0, 1, 0] = 3.0
    found = fuse([fine, coarse])[0]
    assert found.shape == (8, 8)
    assert np.unravel_index(found.argmax(), (8, 8)) == (6, 0)
    assert found.max() == pytest.approx(3.0)
    expected = torch.nn.functional.interpolate(
        torch.from_numpy(coarse)[None], (8, 8), mode="bilinear", align_corners=False
    )
    np.testing.assert_allclose(found, expected[0, 0].numpy(), atol=1e-6)


def test_a_map_without_positive_scores_adds_nothing():
    shallow, deep = maps(1, 6, 3)
    cold = -np.abs(maps(2, 6)[0])
    np.testing.assert_allclose(fuse([shallow, cold, deep]), fuse([shallow, deep]), rtol=1e-6)


def test_where_the_deepest_finds_nothing_the_fused_map_is_empty():
    shallow, deep = maps(1, 6, 3)
    deep[1] = -1
    found = fuse([shallow, deep])
    assert not found[1].any()
    assert found[0].any()


@given(st.integers(0, 99))
def test_its_maximum_is_the_deepest_maps_and_nothing_is_negative(seed):
    shallow, middle, deep = maps(seed, 8, 4, 3)
    found = fuse([shallow, middle, deep])
    assert found.dtype == np.float32
    assert found.shape == shallow.shape
    assert (found >= 0).all()
    np.testing.assert_allclose(
        found.max(axis=(1, 2)), np.maximum(deep, 0).max(axis=(1, 2)), rtol=1e-5
    )


@given(st.integers(0, 99), st.floats(1e-3, 1e3))
def test_only_the_scale_of_the_deepest_counts(seed, factor):
    shallow, deep = maps(seed, 6, 3)
    both = fuse([shallow, deep])
    np.testing.assert_allclose(fuse([factor * shallow, deep]), both, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(fuse([shallow, factor * deep]), factor * both, rtol=1e-4, atol=1e-6)


@given(st.integers(0, 99))
def test_images_of_a_batch_do_not_touch_each_other(seed):
    shallow, deep = maps(seed, 6, 3)
    together = fuse([shallow, deep])
    alone = [fuse([shallow[k : k + 1], deep[k : k + 1]]) for k in range(len(deep))]
    np.testing.assert_allclose(together, np.concatenate(alone), rtol=1e-6)


def test_the_arguments_are_left_alone():
    given_maps = maps(3, 6, 3)
    copies = [m.copy() for m in given_maps]
    fuse(given_maps)
    mirrored(given_maps[0], given_maps[0])
    for found, copy in zip(given_maps, copies, strict=True):
        np.testing.assert_array_equal(found, copy)


def test_mirrored_by_hand():
    one, other = np.array([[[1.0, 2.0, 3.0]]]), np.array([[[5.0, -4.0, 7.0]]])
    np.testing.assert_array_equal(mirrored(one, other), [[[4.0, -1.0, 4.0]]])


# Several layers in one pass


class Small(nn.Module):
    """Two depths of a few channels, for the methods that run the network once a channel."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.first = nn.Sequential(nn.Conv2d(3, 5, 3, padding=1, stride=4), nn.BatchNorm2d(5))
        self.then = nn.Sequential(nn.ReLU(inplace=True), nn.Conv2d(5, 4, 3, stride=2), nn.Tanh())
        self.fc = nn.Linear(4, 3)

    def forward(self, x):
        return self.fc(self.then(self.first(x)).mean((2, 3)))


def check_together(model, layers, method, score="log-odds"):
    images = pictures()
    together, logits = raw_cams(model, layers, images, (1, 2), method=method, score=score)
    assert len(together) == len(layers) > 1
    for layer, found in zip(layers, together, strict=True):
        alone, same = raw_cam(model, layer, images, (1, 2), method=method, score=score)
        np.testing.assert_allclose(found, alone, atol=2e-4 * np.abs(alone).max())
        np.testing.assert_allclose(logits, same, atol=1e-5)
        assert np.isfinite(found).all()
    assert max(np.abs(m).max() for m in together) > 0


@pytest.mark.thorough
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("score", ["logit", "log-odds"])
def test_several_layers_in_one_pass_are_each_layer_alone(method, score):
    model = Small().eval()
    check_together(model, [model.first, model.then], method, score)


@pytest.mark.parametrize("method", [m for m in METHODS if m not in PERTURBING])
@pytest.mark.parametrize(
    "arch",
    thorough_but(["squeezenet1_1", "resnet18", "densenet121", "mobilenet_v2"], ["squeezenet1_1"]),
)
def test_so_are_those_of_known_networks(arch, method):
    """Densenet and Squeezenet have in-place ReLUs behind their layers."""
    model = network(arch)
    check_together(model, [module for _, module in find_layers(model, "fused", SIZE)], method)


@pytest.mark.thorough
@pytest.mark.parametrize("arch", ["vgg16", "efficientnet_b0", "convnext_tiny"])
def test_so_are_those_of_large_networks(arch):
    model = fresh(arch)
    check_together(model, [module for _, module in find_layers(model, "fused", SIZE)], "layercam")


def test_layers_may_stand_in_any_order_and_inside_each_other():
    model, images = network(), pictures()
    net = model.net
    layers = [net.layer4, net.layer2, net.layer4[1], net.layer1[0].conv1]
    together, _ = raw_cams(model, layers, images, (1,), method="layercam")
    for layer, found in zip(layers, together, strict=True):
        alone, _ = raw_cam(model, layer, images, (1,), method="layercam")
        np.testing.assert_allclose(found, alone, atol=2e-4 * np.abs(alone).max())
    assert [m.shape[1] for m in together] == [2, 8, 2, 16]


def hooks(model):
    return sum(
        len(m._forward_hooks) + len(m._backward_hooks) + len(m._forward_pre_hooks)
        for m in model.modules()
    )


@pytest.mark.thorough
@pytest.mark.parametrize("trouble", ["none", "target", "no map", "not run"])
@pytest.mark.parametrize("grad", [True, False])
def test_the_network_is_left_as_it_was_found(trouble, grad):
    model = fresh().train()
    model.net.layer1.eval()
    model.net.fc.weight.grad = torch.full_like(model.net.fc.weight, 7.0)
    modes = [m.training for m in model.modules()]
    state = {k: v.clone() for k, v in model.state_dict().items()}
    layers = [model.net.layer2, model.net.layer4]
    layers += {"no map": [model.net.fc], "not run": [nn.Conv2d(1, 1, 1)]}.get(trouble, [])
    target = (9,) if trouble == "target" else (1,)
    with torch.set_grad_enabled(grad):
        if trouble == "none":
            raw_cams(model, layers, pictures(), target)
        else:
            with pytest.raises((ValueError, ConfigError)):
                raw_cams(model, layers, pictures(), target)
        assert torch.is_grad_enabled() == grad
    assert [m.training for m in model.modules()] == modes
    assert hooks(model) == 0
    assert (model.net.fc.weight.grad == 7.0).all()
    assert all(p.grad is None for p in model.net.layer3.parameters())
    assert all(p.requires_grad for p in model.parameters())
    for k, v in model.state_dict().items():
        assert torch.equal(v, state[k]), k


def test_a_frozen_network_in_inference_mode():
    model = fresh()
    layers = [model.net.layer1, model.net.layer4]
    expected, _ = raw_cams(model, layers, pictures(), (1,))
    model.requires_grad_(False)
    with torch.inference_mode():
        found, _ = raw_cams(model, layers, pictures(), (1,))
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6)


def test_one_bad_layer_of_several_is_refused():
    model = network()
    with pytest.raises(ConfigError, match=r"does not give a map(.|\n)*\(1, 3\)"):
        raw_cams(model, [model.net.layer3, model.net.fc], pictures(), (1,))
    with pytest.raises(ConfigError, match=r"is no part of the network"):
        raw_cams(model, [model.net.layer3, nn.Conv2d(1, 1, 1)], pictures(), (1,))


# As the experiment asks for


@pytest.mark.parametrize("arch", ["resnet18", "squeezenet1_1"])
def test_fused_is_the_fusion_of_the_named_depths(arch):
    model, images = network(arch), pictures()
    name, found, p = explain(model, LABELS, images, HeatmapConfig(layer="fused"))
    assert name == "+".join(DEPTHS[arch])
    layers = [model.net.get_submodule(n) for n in DEPTHS[arch]]
    of_each = [raw_cam(model, layer, images, (1, 2))[0] for layer in layers]
    np.testing.assert_allclose(found, fuse(of_each), rtol=1e-3, atol=1e-4 * found.max())
    assert found.shape == of_each[0].shape
    with torch.no_grad():
        np.testing.assert_allclose(p, model(images).softmax(1).numpy(), atol=1e-5)


def test_a_list_of_layers_is_fused_in_its_order():
    model, images = network(), pictures()
    config = HeatmapConfig(layer=["layer2", "layer4"], method="layercam")
    name, found, _ = explain(model, LABELS, images, config)
    assert name == "layer2+layer4"
    of_each, _ = raw_cams(
        model, [model.net.layer2, model.net.layer4], images, (1, 2), method="layercam"
    )
    np.testing.assert_allclose(found, fuse(of_each), atol=1e-6)


@pytest.mark.parametrize("layer", ["auto", "layer2", "fused"])
@pytest.mark.parametrize("scale", ["raw", "probability"])
@pytest.mark.parametrize("method", ["gradcam", "layercam"])
def test_the_heatmap_of_the_mirrored_image_is_the_mirrored_heatmap(layer, scale, method):
    model, images = network(), pictures()
    config = HeatmapConfig(layer=layer, flips=True, scale=scale, method=method)
    _, one, p = explain(model, LABELS, images, config)
    _, other, q = explain(model, LABELS, images.flip(3), config)
    top = np.abs(one).max()
    np.testing.assert_allclose(other[:, :, ::-1], one, atol=1e-4 * top)
    np.testing.assert_allclose(p, q, atol=1e-6)
    plain = config.model_copy(update={"flips": False})
    _, a, _ = explain(model, LABELS, images, plain)
    _, b, _ = explain(model, LABELS, images.flip(3), plain)
    assert np.abs(b[:, :, ::-1] - a).max() > 0.01 * np.abs(a).max()


def test_mirroring_averages_the_raw_maps_and_the_probabilities():
    model, images = network(), pictures()
    config = HeatmapConfig(flips=True)
    _, found, p = explain(model, LABELS, images, config)
    one, logits = raw_cam(model, model.net.layer4, images, (1, 2))
    other, turned = raw_cam(model, model.net.layer4, images.flip(3), (1, 2))
    np.testing.assert_allclose(found, (one + other[:, :, ::-1]) / 2, atol=1e-6)
    both = [torch.from_numpy(x).softmax(1).numpy() for x in (logits, turned)]
    np.testing.assert_allclose(p, np.mean(both, axis=0), atol=1e-6)


@pytest.mark.parametrize("layer", ["auto", "fused"])
@pytest.mark.parametrize("flips", [False, True])
def test_on_the_scale_of_probability_the_hottest_place_has_the_lesions(layer, flips):
    model, images = network(), pictures(4)
    raw = HeatmapConfig(layer=layer, flips=flips, method="layercam")
    _, found, p = explain(model, LABELS, images, raw.model_copy(update={"scale": "probability"}))
    _, plain, q = explain(model, LABELS, images, raw)
    np.testing.assert_array_equal(p, q)
    lesion = p[:, [1, 2]].sum(1)
    hot = plain.max(axis=(1, 2)) > 0
    assert hot.any()
    np.testing.assert_allclose(found.max(axis=(1, 2))[hot], lesion[hot], rtol=1e-5)
    # The shape is the same.
    factor = lesion / np.where(hot, plain.max(axis=(1, 2)), 1)
    np.testing.assert_allclose(found, plain * factor[:, None, None], rtol=1e-4, atol=1e-7)


def test_without_a_positive_score_there_is_no_heat_on_any_scale():
    model = fresh()
    with torch.no_grad():
        model.net.fc.weight[1:] = -model.net.fc.weight.abs().max()
    config = HeatmapConfig(scale="probability", method="hirescam")
    _, found, p = explain(model, LABELS, pictures(), config)
    assert (p > 0).all()
    assert (found <= 0).all()
    assert found.min() < 0


@pytest.mark.parametrize("channels", [1, 3])
def test_of_a_single_image_the_maximum_is_its_probability(channels):
    model = network(channels=channels)
    rng = np.random.default_rng(0)
    image = rng.random((50, 40) if channels == 1 else (50, 40, 3)).astype(np.float32)
    config = HeatmapConfig(
        layer="fused", flips=True, scale="probability", method="layercam", score="log-odds"
    )
    heat, p = heatmap(model, image, LABELS, image_size=SIZE, config=config)
    assert heat.probability == pytest.approx(p[1] + p[2], rel=1e-5)
    assert heat.raw.max() == pytest.approx(heat.probability, rel=1e-5)
    assert heat.full().max() <= heat.probability * (1 + 1e-5)
    assert heat.layer == "+".join(DEPTHS["resnet18"])
    assert heat.shape == (50, 40)
    assert not heat.flat


@pytest.mark.parametrize("layer", [[], ["layer1", "layer1"]])
def test_layers_are_named_once_each(layer):
    with pytest.raises(ValueError, match="each once"):
        HeatmapConfig(layer=layer)


def test_an_unknown_layer_among_several_names_the_nearest():
    with pytest.raises(ConfigError, match="no layer 'layer5'"):
        explain(network(), LABELS, pictures(), HeatmapConfig(layer=["layer4", "layer5"]))


# Several scales and several classifiers


def test_the_average_of_maps_by_hand():
    one, other = np.array([[[4.0, 2.0, -1.0]]]), np.array([[[0.0, 10.0, 10.0]]])
    # Over their own maxima: [1, .5, 0] and [0, 1, 1]; the sum peaks at 1.5, their maxima mean 7.
    expected = np.array([[[1.0, 1.5, 1.0]]]) / 1.5 * 7
    np.testing.assert_allclose(average([one, other]), expected, rtol=1e-6)
    np.testing.assert_array_equal(average([one]), one)  # signed
    np.testing.assert_array_equal(average([-one.clip(min=0), 0 * one]), 0 * one)


def test_scales_are_averaged_on_the_grid_of_the_first():
    model, images = network(), pictures()
    _, found, p = explain(model, LABELS, images, HeatmapConfig(scales=[1.0, 1.5]))
    one, logits = raw_cam(model, model.net.layer4, images, (1, 2))
    large = torch.nn.functional.interpolate(images, (96, 96), mode="bilinear", antialias=True)
    other, enlarged = raw_cam(model, model.net.layer4, large, (1, 2))
    assert (one.shape[1:], other.shape[1:]) == ((2, 2), (3, 3))
    np.testing.assert_allclose(found, same_grid_average([one, other]), rtol=1e-5, atol=1e-7)
    assert found.shape == one.shape
    both = [torch.from_numpy(x).softmax(1).numpy() for x in (logits, enlarged)]
    np.testing.assert_allclose(p, np.mean(both, axis=0), atol=1e-6)


def test_several_classifiers_are_averaged_each_over_its_own_maximum():
    models = [network("resnet18"), network("resnet18", 3), fresh()]
    torch.manual_seed(7)
    torch.nn.init.normal_(models[2].net.fc.weight)
    config, images = HeatmapConfig(), pictures()
    name, found, p = explain_by_all(models, LABELS, images, config)
    single = [explain(m, LABELS, images, config) for m in models]
    assert name == single[0][0]
    np.testing.assert_allclose(found, average([m for _, m, _ in single]), rtol=1e-6)
    np.testing.assert_allclose(p, np.mean([q for *_, q in single], axis=0), rtol=1e-6)
    _, alone, _ = explain_by_all(models[:1], LABELS, images, config)
    np.testing.assert_array_equal(alone, single[0][1])


@pytest.mark.parametrize("scales", [[], [1.0, 1.0], [0.1], [5.0]])
def test_scales_are_named_once_each_and_have_a_range(scales):
    with pytest.raises(ValueError, match="scales"):
        HeatmapConfig(scales=scales)


def test_the_mean_of_three_grids_is_that_of_all_three_on_the_first():
    """By hand: even maps have no places, and every map counts as a third."""
    maps = [torch.ones(1, 2, 6), torch.full((1, 3, 9), 4.0), torch.ones(1, 2, 6)]
    maps[0][0, 0, 0], maps[1][0] = 5.0, 0.0
    maps[1][0, :, 4:] = 4.0
    found = fusing.same_grid_average(maps)
    enlarged = fusing.on_grid(maps[1], (2, 6))
    assert enlarged.shape == (1, 2, 6)
    mean = maps[0] / 5 + enlarged / 4 + maps[2]
    wanted = mean / mean.max() * (5 + 4 + 1) / 3
    torch.testing.assert_close(found, wanted)
    both = fusing.same_grid_average([torch.cat([m, 3 * m]) for m in maps])
    torch.testing.assert_close(both, torch.cat([wanted, 3 * wanted]))
