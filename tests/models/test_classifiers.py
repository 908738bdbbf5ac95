"""Every tested network: builds, takes grey and colour, has a default layer, loads weights."""

import pytest
import torch
import torchvision

from weakseg.errors import ConfigError, DataError
from weakseg.models.classifier import ClassifierSpec
from weakseg.models.classifiers import build_classifier, check_arch, imagenet_state
from weakseg.models.layers import ARCHITECTURES, default_layer, find_layers
from weakseg.models.transfer import load_pretrained

LABELS = ("normal", "tumor")


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(0)


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_network_gives_logits_and_its_default_layer_a_map_of_stride_16_or_32(arch):
    model = build_classifier(ClassifierSpec(arch, ("a", "b", "c"), 1)).eval()
    _, layer = find_layers(model, "auto", 64)[0]
    seen = []
    handle = layer.register_forward_hook(lambda _m, _i, out: seen.append(out.shape))
    with torch.no_grad():
        logits = model(torch.rand(2, 1, 64, 96))
    handle.remove()
    assert logits.shape == (2, 3)
    (shape,) = seen
    assert len(shape) == 4
    assert 64 // 32 <= shape[2] <= 64 // 16
    assert 96 // 32 <= shape[3] <= 96 // 16


@pytest.mark.thorough
@pytest.mark.parametrize(
    ("arch", "layer"),
    [
        ("resnet34", "layer4"),
        ("vgg11", "features"),
        ("densenet169", "features"),
        ("squeezenet1_0", "features"),
        ("shufflenet_v2_x0_5", "conv5"),
        ("mobilenet_v3_small", "features"),
        ("efficientnet_b1", "features"),
        ("regnet_y_400mf", "trunk_output"),
    ],
)
def test_default_layer_of_an_unlisted_network_is_its_last_map_before_pooling(arch, layer):
    model = build_classifier(ClassifierSpec(arch, LABELS, 3))
    found = default_layer(model, 64)
    assert found == layer or (found.startswith(f"{layer}.") and arch == "squeezenet1_0")
    assert model.training


@pytest.mark.thorough
@pytest.mark.parametrize("arch", ["resnet18", "squeezenet1_1", "efficientnet_b0", "convnext_tiny"])
def test_first_layer_and_repeat_are_the_same_function_of_a_grey_image(arch):
    rgb = build_classifier(ClassifierSpec(arch, LABELS, 1, "repeat")).eval()
    grey = build_classifier(ClassifierSpec(arch, LABELS, 1, "first-layer")).eval()
    load_pretrained(grey, rgb.net.state_dict(), "test")
    x = torch.rand(2, 1, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(grey(x), rgb(x), rtol=1e-4, atol=1e-5)


def test_rgb_classifier_equals_torchvision_on_normalised_input():
    model = build_classifier(ClassifierSpec("resnet18", LABELS, 3)).eval()
    plain = torchvision.models.resnet18(num_classes=2).eval()
    plain.load_state_dict(model.net.state_dict())
    x = torch.rand(2, 3, 64, 64)
    normalised = torchvision.transforms.functional.normalize(
        x, [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
    )
    with torch.no_grad():
        torch.testing.assert_close(model(x), plain(normalised))


def test_squeezenet_scores_can_be_negative():
    """torchvision's head ends in a ReLU, which kills the gradient of a negative class score."""
    model = build_classifier(ClassifierSpec("squeezenet1_1", LABELS, 3)).eval()
    with torch.no_grad():
        model.net.classifier[1].bias.fill_(-5.0)
        logits = model(torch.rand(1, 3, 64, 64))
    assert (logits < 0).all()


def test_pretrained_weights_fill_everything_but_the_head():
    source = torchvision.models.resnet18(num_classes=1000)
    model = build_classifier(ClassifierSpec("resnet18", LABELS, 1))
    random = load_pretrained(model, source.state_dict(), "file")
    assert sorted(random) == ["fc.bias", "fc.weight"]
    torch.testing.assert_close(
        model.net.conv1.weight, source.conv1.weight.sum(1, keepdim=True), rtol=0, atol=0
    )
    torch.testing.assert_close(model.net.layer4[1].conv2.weight, source.layer4[1].conv2.weight)


def test_half_precision_weights_become_single():
    source = {k: v.half() for k, v in torchvision.models.resnet18().state_dict().items()}
    model = build_classifier(ClassifierSpec("resnet18", LABELS, 3))
    load_pretrained(model, source, "file")
    assert model.net.conv1.weight.dtype == torch.float32


def test_weights_of_our_own_classifier_load_with_their_head():
    source = build_classifier(ClassifierSpec("resnet18", LABELS, 1))
    model = build_classifier(ClassifierSpec("resnet18", LABELS, 1))
    assert load_pretrained(model, source.state_dict(), "file") == []
    torch.testing.assert_close(model.net.fc.weight, source.net.fc.weight)


@pytest.mark.parametrize("other", ["resnet50", "squeezenet1_1", "mobilenet_v2"])
def test_weights_of_another_network_are_refused_by_name(other):
    state = torchvision.models.get_model(other).state_dict()
    model = build_classifier(ClassifierSpec("resnet18", LABELS, 3))
    with pytest.raises(DataError, match=r"do not belong to resnet18(.|\n)*weights\.safetensors"):
        load_pretrained(model, state, "weights.safetensors")


def test_unknown_network_names_the_nearest():
    with pytest.raises(ConfigError, match="did you mean 'resnet18'"):
        build_classifier(ClassifierSpec("resnet-18", LABELS, 3))


def test_unknown_timm_network_is_refused():
    pytest.importorskip("timm", reason="timm is an extra")
    with pytest.raises(ConfigError, match="timm has no network"):
        build_classifier(ClassifierSpec("timm:resnet_eighteen_x", LABELS, 3))


def test_unknown_weights_behind_the_dot_of_a_timm_network_are_refused_with_those_there_are():
    pytest.importorskip("timm", reason="timm is an extra")
    with pytest.raises(ConfigError, match=r"no weights 'nonsense' of resnet18(.|\n)*tv_in1k"):
        check_arch("timm:resnet18.nonsense")
    for name in ("resnet18.tv_in1k", "resnet18"):
        check_arch(f"timm:{name}")


@pytest.mark.thorough
def test_timm_network_takes_grey_and_uses_its_own_normalisation():
    pytest.importorskip("timm", reason="timm is an extra")
    model = build_classifier(ClassifierSpec("timm:tf_efficientnet_lite0", LABELS, 1)).eval()
    assert float(model.mean) == pytest.approx(0.5)
    name, _ = find_layers(model, "auto", 64)[0]
    with torch.no_grad():
        assert model(torch.rand(1, 1, 64, 64)).shape == (1, 2)
    assert name


def test_missing_timm_prints_the_install_command(monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(ConfigError, match="pip install"):
        build_classifier(ClassifierSpec("timm:resnet18", LABELS, 3))


def test_unknown_layer_names_the_nearest():
    model = build_classifier(ClassifierSpec("resnet18", LABELS, 3))
    with pytest.raises(ConfigError, match="did you mean 'layer4'"):
        find_layers(model, "layer44")


def test_the_default_layer_of_a_token_transformer_is_the_last_whose_places_count():
    model = build_classifier(ClassifierSpec("timm:test_vit", LABELS, 3))
    # Of the last block only the class token is read: its places count as what attention reads.
    assert default_layer(model, 160) == f"blocks.{len(model.net.blocks) - 1}.norm1"


def test_imagenet_weights_without_a_network_name_the_alternatives(monkeypatch):
    import urllib.error

    def no_network(*_a, **_k):
        raise urllib.error.URLError("no route to host")

    monkeypatch.setattr("torch.hub.load_state_dict_from_url", no_network)
    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", no_network)
    with pytest.raises(ConfigError, match=r"could not be fetched(.|\n)*safetensors(.|\n)*none"):
        imagenet_state("resnet18")


@pytest.mark.thorough
@pytest.mark.parametrize(("arch", "size"), [("inception_v3", 64), ("vit_b_16", 64)])
def test_an_image_size_that_a_network_does_not_take_is_told(arch, size):
    model = build_classifier(ClassifierSpec(arch, LABELS, 3))
    with pytest.raises(ConfigError, match=r"does not take images of 64 pixels(.|\n)*image_size"):
        default_layer(model, size)
