"""The layers that heatmaps are made of, by name and by running the network."""

import pytest
import torch
from torch import nn

from tests.marks import thorough_but
from weakseg.errors import ConfigError
from weakseg.models.classifier import Classifier, ClassifierSpec
from weakseg.models.classifiers import build_classifier
from weakseg.models.layers import (
    ARCHITECTURES,
    AUTO,
    DEPTHS,
    FINEST,
    FUSED,
    default_layer,
    depths,
    find_layers,
)

TRACED = ("shufflenet_v2_x0_5", "mobilenet_v3_small", "resnet34", "regnet_y_400mf", "mnasnet0_5")


def network(arch, channels=1):
    torch.manual_seed(0)
    return build_classifier(ClassifierSpec(arch, ("a", "b"), channels)).eval()


def shapes(model, layers, size=128):
    """The shapes of the layers' outputs, in the order of ``layers``."""
    seen = {}

    def note(name):
        def hook(_module, _inputs, out):
            seen[name] = out.shape

        return hook

    handles = [module.register_forward_hook(note(name)) for name, module in layers]
    with torch.no_grad():
        model(torch.rand(1, model.spec.channels, size, size))
    for handle in handles:
        handle.remove()
    return [tuple(seen[name]) for name, _ in layers]


def test_every_tested_network_has_named_depths():
    assert set(DEPTHS) == set(ARCHITECTURES)


@pytest.mark.thorough
@pytest.mark.parametrize("arch", DEPTHS)
def test_named_depths_are_maps_from_a_quarter_of_the_image_down(arch):
    model = network(arch)
    layers = find_layers(model, FUSED)
    assert tuple(name for name, _ in layers) == DEPTHS[arch] == depths(model)
    assert all(model.net.get_submodule(name) is module for name, module in layers)
    found = shapes(model, layers)
    assert all(len(s) == 4 and s[2] == s[3] > 1 for s in found)
    sides = [s[2] for s in found]
    # Squeezenet pads nothing: 128 pixels give 31.
    assert 128 / FINEST - 1 <= sides[0] <= 128 / FINEST
    assert sides == sorted(sides, reverse=True)
    assert len(set(sides)) == len(sides) - (arch == "squeezenet1_1")
    assert sides[-1] == shapes(model, find_layers(model, AUTO))[0][2]
    assert layers[-1][0] == ARCHITECTURES[arch] == default_layer(model)


@pytest.mark.parametrize("arch", ["resnet18", "squeezenet1_1", "mobilenet_v2"])
def test_they_are_the_last_maps_of_their_resolutions(arch):
    """What comes behind each is coarser, but for pooling and the classifier's head."""
    model = network(arch)
    named = dict(zip(DEPTHS[arch], shapes(model, find_layers(model, FUSED)), strict=True))
    top = [n for n in model.net._modules if n not in ("avgpool", "fc", "classifier")]
    blocks = [(n, model.net.get_submodule(n)) for n in top]
    if top == ["features"]:
        blocks = [(f"features.{n}", m) for n, m in model.net.features.named_children()]
    last = {}
    for (name, _), shape in zip(blocks, shapes(model, blocks), strict=True):
        last[shape[2]] = name
    wanted = [name for side, name in last.items() if side * FINEST <= 128]
    if arch == "squeezenet1_1":
        wanted.insert(-1, "features.10")
        # Its pooling layers change the resolution; those between are one more depth.
        assert named["features.10"][2] == named["features.12"][2]
    assert tuple(wanted) == DEPTHS[arch]


@pytest.mark.thorough
@pytest.mark.parametrize("size", thorough_but([64, 128], [64]))
@pytest.mark.parametrize("arch", TRACED)
def test_an_unlisted_network_gets_a_layer_of_every_resolution_by_running_it(arch, size):
    model = network(arch)
    layers = find_layers(model, FUSED, size)
    names = [name for name, _ in layers]
    assert tuple(names) == depths(model, size)
    assert len(set(names)) == len(names) >= 3
    sides = [s[2] for s in shapes(model, layers, size)]
    assert sides == sorted(set(sides), reverse=True)
    assert sides[0] == size // FINEST
    assert sides[-1] > 1
    assert names[-1] == default_layer(model, size)


@pytest.mark.thorough
def test_running_a_resnet_finds_what_is_named_for_the_others():
    assert depths(network("resnet34")) == DEPTHS["resnet18"]


def test_running_finds_them_at_sizes_that_4_does_not_divide():
    assert depths(network("resnet34"), 66) == DEPTHS["resnet18"]


def test_running_it_leaves_the_network_as_it_was():
    model = network("shufflenet_v2_x0_5").train()
    model.net.stage2.eval()
    modes = [m.training for m in model.modules()]
    state = {k: v.clone() for k, v in model.state_dict().items()}
    depths(model)
    assert [m.training for m in model.modules()] == modes
    assert not any(m._forward_hooks for m in model.modules())
    assert all(torch.equal(v, state[k]) for k, v in model.state_dict().items())


def test_a_name_a_list_and_the_two_words():
    model = network("resnet18")
    net = model.net
    assert find_layers(model, "layer2.0") == [("layer2.0", net.layer2[0])]
    several = find_layers(model, ["layer3", "layer1"])
    assert several == [("layer3", net.layer3), ("layer1", net.layer1)]
    assert find_layers(model, AUTO) == [("layer4", net.layer4)]


@pytest.mark.parametrize("wanted", ["layr2", ["layer1", "layr2"]])
def test_an_unknown_name_is_answered_with_the_nearest(wanted):
    with pytest.raises(ConfigError, match=r"no layer 'layr2'(.|\n)*did you mean 'layer2'"):
        find_layers(network("resnet18"), wanted)


@pytest.mark.parametrize("wanted", ["", "net", "no such thing at all"])
def test_no_name_near_it_lists_some(wanted):
    with pytest.raises(ConfigError, match="layer4"):
        find_layers(network("resnet18"), wanted)


def classifier(net, arch="own"):
    return Classifier(net, ClassifierSpec(arch, ("a", "b"), 1), (0.0,) * 3, (1.0,) * 3)


def test_a_network_without_maps_is_refused():
    model = classifier(nn.Sequential(nn.Flatten(), nn.Linear(64 * 64, 2)))
    for wanted in (AUTO, FUSED):
        with pytest.raises(ConfigError, match="no map of its images"):
            find_layers(model, wanted, 64)


def test_maps_of_class_scores_and_single_values_do_not_count():
    net = nn.Sequential(
        nn.Conv2d(1, 3, 4, stride=4), nn.Conv2d(3, 2, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten()
    )
    assert depths(classifier(net), 64) == ("0",)
    assert default_layer(classifier(net), 64) == "0"


def test_a_network_of_fine_maps_only_has_a_layer_all_the_same():
    net = nn.Sequential(
        nn.Conv2d(1, 3, 3, padding=1), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 2)
    )
    assert find_layers(classifier(net), FUSED, 64)


def test_an_image_too_small_for_a_network_is_named():
    with pytest.raises(ConfigError, match="does not take images of 32 pixels"):
        find_layers(network("alexnet"), FUSED, 32)
