"""Receptive fields: known values, and the computed against the measured."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from weakseg.errors import ConfigError
from weakseg.models.classifier import ClassifierSpec
from weakseg.models.classifiers import build_classifier
from weakseg.models.deepmedic import DeepMedic
from weakseg.models.fcn import build_deeplabv3_resnet50, build_fcn, build_fcn_resnet50
from weakseg.models.layers import ARCHITECTURES
from weakseg.models.receptive_field import (
    measured_receptive_field,
    receptive_field,
    receptive_fields,
    strides,
)
from weakseg.models.unet import UNet


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(0)


class Branches(nn.Module):
    """A wide and a narrow branch, one of them cropped by an index to fit."""

    def __init__(self):
        super().__init__()
        self.wide = nn.Sequential(nn.Conv2d(1, 2, 5), nn.ReLU(), nn.Conv2d(2, 2, 3))
        self.narrow = nn.Conv2d(1, 2, 3)

    def forward(self, x):
        return torch.cat([self.wide(x), self.narrow(x)[:, :, 2:-2, 2:-2]], 1)


class Picked(nn.Module):
    """Every fourth voxel, from the second, then a convolution."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 1, 3)

    def forward(self, x):
        return self.conv(x[..., 1::4, 1::4])


class Raised(nn.Module):
    def __init__(self, mode):
        super().__init__()
        self.mode, self.conv = mode, nn.Conv2d(1, 1, 3, padding=1)

    def forward(self, x):
        x = F.avg_pool2d(self.conv(x), 4)
        return F.interpolate(x, scale_factor=4, mode=self.mode)


def stack(*layers):
    return nn.Sequential(*layers)


# Each: network, receptive field, stride of the output, largest stride inside.
KNOWN = {
    "one pixel": (nn.Conv2d(1, 3, 1), 1, 1, 1),
    "two 3-convolutions see 5": (stack(nn.Conv2d(1, 2, 3), nn.Conv2d(2, 2, 3)), 5, 1, 1),
    "dilation 2, 4": (
        stack(nn.Conv2d(1, 1, 3, dilation=2), nn.Conv2d(1, 1, 3, dilation=4)),
        13,
        1,
        1,
    ),
    "7 at stride 2, max-pool 3 at stride 2, 3": (
        stack(
            nn.Conv2d(1, 4, 7, 2, 3),
            nn.BatchNorm2d(4),
            nn.ReLU(),
            nn.MaxPool2d(3, 2, 1),
            nn.Conv2d(4, 4, 3, padding=1),
        ),
        7 + 2 * 2 + 2 * 4,
        4,
        4,
    ),
    "average pool": (stack(nn.Conv2d(1, 1, 3), nn.AvgPool2d(2), nn.Conv2d(1, 1, 3)), 8, 2, 2),
    "same by name": (nn.Conv2d(1, 1, 5, padding="same"), 5, 1, 1),
    "branches": (Branches(), 7, 1, 1),
    "picking": (Picked(), 9, 4, 4),
    # Four neighbours share one mean of 4 convolved voxels (6), each differently placed: 6 + 3.
    "nearest": (Raised("nearest"), 9, 1, 4),
    # A mean sees 6 voxels. Between two means, 4 apart, the earlier one's place lies up to 5 voxels
    # before the output (in the middle of its block), the later one's up to 2 after.
    "bilinear": (Raised("bilinear"), 13, 1, 4),
    "transposed, kernel 2": (stack(nn.MaxPool2d(2), nn.ConvTranspose2d(1, 1, 2, 2)), 3, 1, 2),
    "transposed, kernel 4": (stack(nn.AvgPool2d(2), nn.ConvTranspose2d(1, 1, 4, 2, 1)), 5, 1, 2),
}


@pytest.mark.parametrize("name", KNOWN)
def test_known_values_computed_and_measured(name):
    net, side, stride, deepest = KNOWN[name]
    field = receptive_field(net, (1, 1, 64, 64))
    assert field.size == (side, side)
    assert field.stride == (stride, stride)
    assert field.deepest_stride == deepest
    assert not field.whole_image
    outputs = deepest if stride == 1 else 1
    assert measured_receptive_field(net, (64, 64), outputs=outputs, stride=stride) == field.size


def test_axes_are_separate():
    net = stack(nn.Conv2d(1, 1, (3, 1)), nn.MaxPool2d((2, 1)), nn.Conv2d(1, 1, (3, 5)))
    field = receptive_field(net, (1, 1, 40, 30))
    assert (field.size, field.stride) == ((8, 5), (2, 1))
    assert measured_receptive_field(net, (40, 30)) == (8, 5)
    volume = stack(nn.Conv3d(1, 1, (1, 3, 5)), nn.MaxPool3d((1, 2, 2)))
    assert receptive_field(volume, (1, 1, 9, 20, 20)).size == (1, 4, 6)
    assert measured_receptive_field(volume, (9, 20, 20)) == (1, 4, 6)


def test_input_size_holds_the_windows_of_neighbours():
    field = receptive_field(nn.Sequential(nn.Conv2d(1, 1, 5), nn.MaxPool2d(2)), (1, 1, 40, 40))
    assert [field.input_size(n) for n in (1, 2, 10)] == [6, 8, 24]
    valid = receptive_field(DeepMedic(1, 2), (1, 1, 59, 59))
    assert valid.input_size(9) == 51 - 1 + 9


@pytest.mark.parametrize(
    ("dims", "variant", "paths"),
    [
        (2, "paper", [17, 51]),
        (3, "paper", [17, 51]),
        (2, "release", [17, 51]),
        (2, "latest", [17, 51, 85]),
    ],
)
def test_deepmedic_pathways(dims, variant, paths):
    net = DeepMedic(1, 2, dims, variant)
    layers = [f"paths.{i}" for i in range(len(paths))]
    size = [net.input_size(4 * net.period)] * dims
    fields = receptive_fields(net, (1, 1, *size), ("", *layers))
    assert [fields[layer].size for layer in layers] == [(n,) * dims for n in paths]
    joined = max(paths) + 2 * (variant != "paper")
    assert fields[""].size == (joined,) * dims
    assert fields[""].deepest_stride == {"paper": 3, "release": 3, "latest": 5}[variant]
    for layer in ("", *layers):
        measured = measured_receptive_field(net, size, layer=layer, outputs=net.period)
        assert measured == fields[layer].size


def test_one_voxel_of_the_low_resolution_pathway_spans_49():
    net = DeepMedic(1, 2)
    size = [net.input_size(9)] * 2
    assert measured_receptive_field(net, size, layer="paths.1", outputs=1) == (49, 49)


def test_deepmedic_as_it_is_sees_no_more_and_no_less():
    """Real weights and activations, double precision: nothing cancels exactly."""
    net = DeepMedic(1, 2).double().eval()
    segment = torch.randn(1, 1, *[net.input_size(3)] * 2, dtype=torch.float64, requires_grad=True)
    low, high = [], []
    for voxel in range(3):
        (g,) = torch.autograd.grad(net(segment)[0, 1, voxel, voxel], segment)
        rows = g[0, 0].abs().sum(1).nonzero().flatten()
        low.append(int(rows.min()) - voxel)
        high.append(int(rows.max()) - voxel)
    assert max(high) - min(low) + 1 == 51


@pytest.mark.parametrize("padding", ["valid", "same"])
@pytest.mark.parametrize("depth", [1, 2, 4])
def test_unet(padding, depth):
    net = UNet(1, 2, depth=depth, base=2, padding=padding, batch_norm=padding == "same")
    # Down: two 3-convolutions and a pool a level; up: the place within a 2-block, two more.
    side = 1 + sum(5 * 2**i for i in range(depth)) + 4 * 2**depth
    side += sum(2**i + 4 * 2**i for i in range(depth))
    size = net.input_size(side + 2**depth + 90)
    size += -size % 16 if padding == "same" else 0
    field = receptive_field(net, (1, 1, size, size))
    assert field.size == (side, side)
    assert field.deepest_stride == 2**depth
    assert measured_receptive_field(net, (size, size), outputs=2**depth) == field.size


@pytest.mark.thorough
@pytest.mark.parametrize(
    ("arch", "side", "stride"),
    # Published: Araujo et al. (Distill 2019) for VGG, MobileNet and EfficientNet; ResNets and
    # DenseNet differ there (pre-activation, strides elsewhere) and are held by the gradient.
    [
        ("resnet18", 435, 32),
        ("resnet50", 427, 32),
        ("vgg16", 196, 16),
        ("densenet121", 2071, 32),
        ("mobilenet_v2", 491, 32),
        ("squeezenet1_1", 207, 16),
        ("efficientnet_b0", 851, 32),
        ("convnext_tiny", 1688, 32),
    ],
)
def test_classifiers_heatmap_layer(arch, side, stride):
    layer = ARCHITECTURES[arch]
    with torch.device("meta"):
        model = build_classifier(ClassifierSpec(arch, ("a", "b"), 1))
    field = receptive_field(model, (1, 1, 256, 256), f"net.{layer}")
    assert (field.size, field.stride) == ((side, side), (stride, stride))
    assert field.deepest_stride == stride
    assert field.whole_image == (arch == "efficientnet_b0")
    if arch == "convnext_tiny":
        return  # its linear layers and scales make the measurement slow
    net = build_classifier(ClassifierSpec(arch, ("a", "b"), 1)).net if arch != "vgg16" else None
    if net is None:
        from torchvision.models import vgg16

        with torch.device("meta"):
            net = vgg16()
    tall = -(-side // 64) * 64 + 128
    expected = None if field.whole_image else side
    assert measured_receptive_field(net, (tall, 64), layer=layer) == (expected, None)


@pytest.mark.thorough
@pytest.mark.parametrize("stride", [8, 16, 32])
@pytest.mark.parametrize("arch", ["vgg16", "resnet18"])
def test_fcn(arch, stride):
    net = build_fcn(1, 2, stride, arch)
    field = receptive_field(net, (1, 1, 256, 256))
    assert field.stride == (1, 1)
    assert field.deepest_stride == 32
    tall = 512 if arch == "vgg16" else 704
    (side, _) = measured_receptive_field(net, (tall, 64), outputs=32)
    assert (side, side) == field.size
    if arch == "vgg16" and stride == 32:
        # pool5 sees 212; the two maps' voxels that a score is interpolated from add 47 + 16.
        assert field.size == (212 + 63, 212 + 63)


def test_torchvision_segmenters():
    with torch.device("meta"):
        fcn, deeplab = build_fcn_resnet50(1, 2), build_deeplabv3_resnet50(1, 2)
    a = receptive_field(fcn, (1, 1, 256, 256))
    b = receptive_field(deeplab, (1, 1, 256, 256))
    assert (a.whole_image, b.whole_image) == (False, True)
    assert a.deepest_stride == b.deepest_stride == 8
    assert b.size[0] > a.size[0]
    (side, _) = measured_receptive_field(build_fcn_resnet50(1, 2), (640, 64), outputs=8)
    assert side == a.size[0]


def test_global_pooling_counts_beside_the_window_and_alone_gives_no_map():
    class Gate(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(1, 4, 3, padding=1)
            self.pool = nn.AdaptiveAvgPool2d(1)

        def forward(self, x):
            x = self.conv(x)
            return x * self.pool(x).sigmoid()

    field = receptive_field(Gate(), (1, 1, 32, 32))
    assert (field.size, field.whole_image) == ((3, 3), True)
    assert measured_receptive_field(Gate(), (32, 32)) == (None, None)
    with pytest.raises(ConfigError, match="no map"):
        receptive_field(Gate(), (1, 1, 32, 32), "pool")


def test_an_operation_that_moves_voxels_is_an_error_not_a_guess():
    with pytest.raises(ConfigError, match="pixel_shuffle"):
        receptive_field(stack(nn.Conv2d(1, 4, 3), nn.PixelShuffle(2)), (1, 1, 32, 32))
    with pytest.raises(ConfigError, match="no layer 'x'"):
        receptive_field(nn.Conv2d(1, 4, 3), (1, 1, 32, 32), "x")


class Then(nn.Module):
    """A function behind a convolution."""

    def __init__(self, function):
        super().__init__()
        self.conv, self.function = nn.Conv2d(1, 1, 3, padding=1), function

    def forward(self, x):
        return self.function(self.conv(x))


@pytest.mark.parametrize(
    ("name", "function"),
    [
        ("roll", lambda x: x.roll(5, 2)),
        ("flip", lambda x: x.flip(3)),
        ("cumsum", lambda x: x.cumsum(2)),
        ("softmax", lambda x: F.softmax(x, 2)),
        ("matmul", lambda x: x @ x),
        ("linear", lambda x: F.linear(x, x.new_ones(32, 32))),
        (
            "interpolate",
            lambda x: F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=True),
        ),
    ],
)
def test_what_moves_voxels_and_keeps_the_shape_is_an_error_too(name, function):
    with pytest.raises(ConfigError, match=f"followed through '{name}"):
        receptive_field(Then(function), (1, 1, 32, 32))


def test_what_works_along_channels_or_swaps_axes_is_followed():
    for function in (
        lambda x: x.softmax(1),
        lambda x: F.linear(x.movedim(1, -1), x.new_ones(1, 1)).movedim(-1, 1),
        lambda x: F.layer_norm(x.permute(0, 2, 3, 1), (1,)).permute(0, 3, 1, 2),
    ):
        field = receptive_field(Then(function), (1, 1, 32, 32))
        assert field.size == (3, 3)
        assert not field.whole_image
    whole = receptive_field(Then(lambda x: F.layer_norm(x, x.shape[1:])), (1, 1, 32, 32))
    assert whole.whole_image
    swapped = nn.Sequential(nn.Conv2d(1, 1, (5, 3)), Then(lambda x: x.transpose(2, 3)))
    assert receptive_field(swapped, (1, 1, 32, 34)).size == (5, 7)


def test_a_layer_that_is_not_there_leaves_no_hook_on_those_that_are():
    net = stack(nn.Conv2d(1, 1, 3), nn.Conv2d(1, 1, 3))
    with pytest.raises(ConfigError, match="no layer 'x'"):
        receptive_fields(net, (1, 1, 32, 32), ("0", "x"))
    assert not any(m._forward_hooks for m in net.modules())


def test_strides_in_order_of_execution_and_the_network_stays_as_it_was():
    net = build_classifier(ClassifierSpec("resnet18", ("a", "b"), 3))
    before = {n: t.clone() for n, t in net.state_dict().items()}
    found = strides(net.net, (1, 3, 64, 64))
    stages = [n for n in found if n.startswith("layer") and "." not in n]
    assert [(n, found[n]) for n in stages] == [
        ("layer1", 4),
        ("layer2", 8),
        ("layer3", 16),
        ("layer4", 32),
    ]
    assert "fc" not in found
    assert "avgpool" not in found
    measured_receptive_field(net.net, (64, 64), layer="layer1")
    assert all(m.training for m in net.modules())
    assert all(torch.equal(t, before[n]) for n, t in net.state_dict().items())
    assert not any(m._forward_hooks for m in net.modules())
