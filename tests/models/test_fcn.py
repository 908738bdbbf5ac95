"""FCNs: depths found from the network, scores summed as published, output at input size."""

import pytest
import torch
import torch.nn.functional as F
import torchvision
from torch import nn

from tests.marks import thorough_but
from weakseg.errors import ConfigError
from weakseg.models.classifier import ClassifierSpec
from weakseg.models.classifiers import build_classifier
from weakseg.models.fcn import FCN, build_deeplabv3_resnet50, build_fcn, build_fcn_resnet50, taps
from weakseg.models.layers import ARCHITECTURES


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(0)


def randomised(net):
    """Score layers start at zero; a test of what is summed needs them not to."""
    for layer in net.score.values():
        nn.init.normal_(layer.weight, std=0.1)
        nn.init.normal_(layer.bias)
    return net.eval()


@pytest.mark.thorough
@pytest.mark.parametrize(
    ("arch", "expected"),
    [
        ("resnet18", {8: "layer2", 16: "layer3", 32: "layer4"}),
        ("vgg16", {8: "features.16", 16: "features.23", 32: "features.30"}),
        ("densenet121", {8: "features.denseblock2", 16: "features.denseblock3"}),
        ("mobilenet_v2", {8: "features.6", 16: "features.13", 32: "features.18"}),
        ("squeezenet1_1", {4: "features.4", 8: "features.7", 16: "features.12"}),
        ("convnext_tiny", {8: "features.3", 16: "features.5", 32: "features.7"}),
    ],
)
def test_depths_are_the_last_maps_of_each_stride(arch, expected):
    with torch.device("meta"):
        found = taps(build_classifier(ClassifierSpec(arch, ("a", "b"), 3)))
    assert {s: found[s] for s in expected} == expected


@pytest.mark.parametrize("arch", thorough_but(ARCHITECTURES, ["squeezenet1_1", "resnet18"]))
def test_every_backbone_gives_scores_of_the_size_of_the_image(arch):
    net = randomised(build_fcn(1, 3, 8, arch))
    shapes = {}
    net.backbone.register_forward_hook(
        lambda _m, _i, o: shapes.update({k: v.shape[2:] for k, v in o.items()})
    )
    with torch.no_grad():
        logits = net(torch.rand(1, 1, 70, 97))
    assert logits.shape == (1, 3, 70, 97)
    assert logits.std() > 0
    for stride, (height, width) in shapes.items():
        assert abs(height - 70 / int(stride)) <= 1
        assert abs(width - 97 / int(stride)) <= 1
    assert len(shapes) == (2 if arch == "squeezenet1_1" else 3)


@pytest.mark.parametrize("arch", ["vgg16", "squeezenet1_1"])
def test_images_narrower_than_the_deepest_stride_are_scored(arch):
    with torch.device("meta"):
        net = build_fcn(1, 3, 8, arch).eval()
        for size in ((1, 40), (31, 16)):
            assert net(torch.empty(1, 1, *size)).shape == (1, 3, *size)


def test_scores_of_three_depths_are_upsampled_and_summed():
    classifier = build_classifier(ClassifierSpec("resnet18", ("a", "b"), 1)).eval()
    net = randomised(FCN(classifier, 2, 8))
    x = torch.rand(2, 1, 64, 96)
    maps = {}
    for stride, layer in {8: "layer2", 16: "layer3", 32: "layer4"}.items():
        classifier.net.get_submodule(layer).register_forward_hook(
            lambda _m, _i, o, stride=stride: maps.update({stride: o})
        )
    with torch.no_grad():
        classifier(x)
        total = net.score["32"](maps[32])
        for stride in (16, 8):
            wide = F.interpolate(total, scale_factor=2, mode="bilinear")
            total = wide + net.score[str(stride)](maps[stride])
        expected = F.interpolate(total, scale_factor=8, mode="bilinear")
        torch.testing.assert_close(net(x), expected, rtol=1e-4, atol=1e-4)


def test_fcn32s_scores_the_deepest_map_alone():
    assert build_fcn(3, 2, 32, "resnet18").strides == [32]
    assert build_fcn(3, 2, 16, "resnet18").strides == [16, 32]


def test_score_layers_start_at_zero_and_learn_at_once():
    net = build_fcn(1, 2, 8, "resnet18")
    x, truth = torch.rand(2, 1, 64, 64), torch.randint(0, 2, (2, 64, 64))
    logits = net(x)
    assert not logits.any()
    F.cross_entropy(logits, truth).backward()
    assert all(layer.weight.grad.abs().sum() > 0 for layer in net.score.values())


def test_backbone_shares_the_classifiers_weights():
    classifier = build_classifier(ClassifierSpec("vgg16", ("a", "b"), 1))
    net = FCN(classifier, 2, 16)
    own = dict(net.backbone.named_parameters())
    assert own["features.0.weight"] is classifier.net.features[0].weight
    assert not any(name.startswith("classifier") for name in own)


@pytest.mark.thorough
@pytest.mark.parametrize("arch", ["resnet18", "vgg16"])
def test_repeated_grey_is_the_same_function_as_a_summed_first_layer(arch):
    pair = []
    for how in ("repeat", "first-layer"):
        torch.manual_seed(1)
        pair.append(build_classifier(ClassifierSpec(arch, ("a", "b"), 1, how)))
    rgb, grey = (dict(c.net.named_parameters()) for c in pair)
    for name, tensor in grey.items():
        given = rgb[name].data
        tensor.data = given.sum(1, keepdim=True) if tensor.shape != given.shape else given
    a, b = (FCN(c, 2, 8).eval() for c in pair)
    randomised(a)
    b.score.load_state_dict(a.score.state_dict())
    x = torch.rand(1, 1, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(a(x), b(x), rtol=1e-3, atol=1e-4)


def test_stride_that_the_network_lacks_is_refused_with_those_it_has():
    with pytest.raises(ConfigError, match=r"FCN-32s(.|\n)*4, 8, 16(.|\n)*fcn16s:squeezenet1_1"):
        build_fcn(1, 2, 32, "squeezenet1_1")
    with torch.no_grad():
        finest = randomised(build_fcn(1, 2, 4, "squeezenet1_1"))
        assert finest(torch.rand(1, 1, 65, 64)).shape == (1, 2, 65, 64)
    assert finest.strides == [4, 8, 16]


def test_unknown_backbone_and_modalities_are_refused():
    with pytest.raises(ConfigError, match="did you mean 'resnet18'"):
        build_fcn(1, 2, 8, "resnet-18")
    with pytest.raises(ConfigError, match=r"4 channels(.|\n)*deepmedic"):
        build_fcn(4, 2, 8)


@pytest.mark.thorough
@pytest.mark.parametrize(
    ("build", "plain"),
    [(build_fcn_resnet50, "fcn_resnet50"), (build_deeplabv3_resnet50, "deeplabv3_resnet50")],
)
def test_torchvision_networks_take_colour_and_grey(build, plain):
    net = build(3, 2).eval()
    other = torchvision.models.get_model(
        plain, weights=None, weights_backbone=None, num_classes=2
    ).eval()
    other.load_state_dict(net.net.state_dict())
    x = torch.rand(1, 3, 40, 57)
    normalised = torchvision.transforms.functional.normalize(
        x, [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
    )
    grey = build(1, 2).eval()
    with torch.no_grad():
        torch.testing.assert_close(net(x), other(normalised)["out"])
        assert grey(x[:, :1]).shape == (1, 2, 40, 57)
    assert torch.allclose(grey.mean, torch.tensor(0.449), atol=1e-3)
    with pytest.raises(ConfigError, match="1 or 3"):
        build(2, 2)
