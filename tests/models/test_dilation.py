"""A finer last map: its side, its values where the coarse map has them, its weights."""

from dataclasses import replace

import pytest
import torch
import torchvision

from weakseg.errors import ConfigError
from weakseg.models.classifier import ClassifierSpec
from weakseg.models.classifiers import build_classifier
from weakseg.models.dilation import DilatedPool
from weakseg.models.layers import find_layers
from weakseg.models.transfer import load_pretrained
from weakseg.models.volume_classifiers import for_volumes

LABELS = ("normal", "tumor")
OWN = {
    "resnet18": 32,
    "resnet50": 32,
    "squeezenet1_1": 16,
    "vgg16": 16,
    "mobilenet_v2": 32,
    "densenet121": 32,
    "efficientnet_b0": 32,
}
REACHED = [(arch, s) for arch, own in OWN.items() for s in (8, 16, 32) if s <= own]
FINER = [(arch, s) for arch, s in REACHED if s < OWN[arch]]


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(0)


def build(arch, stride=None, channels=3):
    return build_classifier(ClassifierSpec(arch, LABELS, channels, stride=stride)).eval()


def last_map(model, images):
    seen = []
    _, layer = find_layers(model, "auto", images.shape[-1])[0]
    handle = layer.register_forward_hook(lambda _m, _i, out: seen.append(out.clone()))
    with torch.no_grad():
        model(images)
    handle.remove()
    return seen[0]


@pytest.mark.thorough
@pytest.mark.parametrize(("arch", "stride"), REACHED)
def test_the_default_layer_has_the_stride_that_was_asked_for(arch, stride):
    model = build(arch, stride, channels=1)
    side = last_map(model, torch.rand(1, 1, 64, 96)).shape[2:]
    off = 1 if arch == "squeezenet1_1" else 0
    assert abs(side[0] - 64 // stride) <= off
    assert abs(side[1] - 96 // stride) <= off


@pytest.mark.thorough
@pytest.mark.parametrize(("arch", "stride"), [r for r in FINER if r[0] != "efficientnet_b0"])
def test_the_fine_map_holds_the_coarse_one(arch, stride):
    """All weights shared; batch statistics are drawn so that no layer is the identity."""
    coarse = build(arch)
    for module in coarse.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 1.5)
            module.bias.data.normal_(0, 0.1)
    fine = build(arch, stride)
    fine.load_state_dict(coarse.state_dict())
    x = torch.rand(2, 3, 64, 64)
    few, many = last_map(coarse, x), last_map(fine, x)
    step = OWN[arch] // stride
    # SqueezeNet's pools see three places from their own on; centred, they stand one further in.
    first = 1 if arch == "squeezenet1_1" else 0
    assert few.std() > 0
    noise = 1e-5 * float(few.abs().max())
    torch.testing.assert_close(many[:, :, first::step, first::step], few, rtol=0, atol=noise)


@pytest.mark.thorough
@pytest.mark.parametrize("arch", OWN)
def test_pretrained_weights_of_torchvision_load(arch):
    source = torchvision.models.get_model(arch, num_classes=5).state_dict()
    model = build(arch, 8)
    assert model.net.state_dict().keys() == source.keys()
    assert len(load_pretrained(model, source, "file")) == 2  # the last layer, of 5 classes


def test_the_networks_own_stride_changes_nothing():
    assert str(build("resnet18", 32)) == str(build("resnet18"))


@pytest.mark.thorough
def test_a_network_outside_the_table_is_dilated_too():
    assert last_map(build("regnet_y_400mf", 8), torch.rand(1, 3, 64, 64)).shape[2:] == (8, 8)


@pytest.mark.thorough
def test_a_timm_network_is_dilated_too():
    pytest.importorskip("timm", reason="timm is an extra")
    assert last_map(build("timm:resnet10t", 8), torch.rand(1, 3, 64, 64)).shape[2:] == (8, 8)


@pytest.mark.thorough
@pytest.mark.parametrize(
    ("arch", "stride", "found"),
    [
        ("squeezenet1_1", 32, "its own stride is 16"),
        ("vgg16", 32, "its own stride is 16"),
        ("convnext_tiny", 8, None),
        ("vit_b_16", 8, None),
    ],
)
def test_what_cannot_be_done_is_refused_by_its_key(arch, stride, found):
    with pytest.raises(ConfigError) as error:
        build(arch, stride)
    assert error.value.where == "classifier.stride"
    assert found is None or error.value.found == found


@pytest.mark.parametrize("training", [True, False])
def test_building_leaves_modes_and_hooks_as_they_were(training):
    from weakseg.models.dilation import dilate

    net = torchvision.models.resnet18().train(training)
    dilate(net, "layer4", 8, 3)
    assert all(m.training is training for m in net.modules())
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in net.modules())


@pytest.mark.parametrize("how", ["max", "mean"])
@pytest.mark.parametrize("apart", [1, 2])
def test_a_dilated_pool_is_pytorchs_at_the_places_that_both_have(how, apart):
    x = torch.randn(1, 3, 12, 12)
    pool = torch.nn.MaxPool2d(2) if how == "max" else torch.nn.AvgPool2d(2)
    ours = DilatedPool(how, 2, apart)(x)
    assert ours.shape == x.shape
    for dy in range(apart):
        for dx in range(apart):
            sub = (slice(None), slice(None), slice(dy, None, apart), slice(dx, None, apart))
            torch.testing.assert_close(ours[sub][:, :, ::2, ::2], pool(x[sub]))


def test_a_dilated_network_of_volumes_has_the_scores_of_the_slice():
    arch = "squeezenet1_1"
    flat, image = build(arch, 8, channels=1), torch.rand(1, 1, 64, 48)
    with torch.no_grad():
        wanted = flat(image)
        spec = replace(flat.spec, arch=f"{arch}-3d", depth=6)
        deep = for_volumes(flat, spec, draw=False).eval()
        found = deep(image[:, :, None].expand(-1, -1, 6, -1, -1))
    assert any(isinstance(m, DilatedPool) for m in deep.modules())
    assert torch.allclose(found, wanted, rtol=1e-3, atol=1e-5)
