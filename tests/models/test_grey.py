"""Grey images give what the same images repeated in three channels give, in every network."""

import pytest
import torch
import torchvision

from tests.marks import thorough_but
from weakseg.errors import ConfigError
from weakseg.models.classifier import ClassifierSpec
from weakseg.models.classifiers import build_classifier, torchvision_names
from weakseg.models.encoders import ENCODERS
from weakseg.models.grey import take_grey
from weakseg.models.layers import ARCHITECTURES
from weakseg.models.pretrained import load_backbone
from weakseg.models.segmenters import build_segmenter
from weakseg.models.transfer import load_pretrained

LABELS = ("normal", "tumor")
SUMMED = (  # and what is special about their first layer
    "timm:tf_efficientnet_lite0",  # padding "same": Conv2dSame
    "timm:tf_mobilenetv3_small_minimal_100",
    "timm:mobilenetv4_conv_small",
    "timm:test_convnext",
    "timm:test_vit",  # patch embedding
    "timm:test_efficientnet",
    "timm:test_maxvit",
    "timm:levit_128s",  # four convolutions
    "timm:fastvit_t8",  # two beside each other
)
REPEATED = (
    "timm:test_nfnet",  # ScaledStdConv2d: standardised, with gains
    "timm:vit_tiny_r_s16_p8_224",  # StdConv2dSame, hybrid
)
SLOW = {
    "first-layer": (
        *("vgg16", "resnet50", "convnext_tiny", "inception_v3"),
        *("timm:crossvit_9_240", "timm:swin_tiny_patch4_window7_224"),
    ),
    "repeat": ("timm:resnetv2_50x1_bit", "timm:tresnet_m", "timm:nf_resnet26"),
}


def side_of(model):
    if not model.spec.arch.startswith("timm:"):
        return 75 if model.spec.arch == "inception_v3" else 64
    return model.net.pretrained_cfg["input_size"][-1]


def lively(net):
    """No layer that begins at zero hides what is before it, and nothing saturates."""
    torch.manual_seed(1)
    for name, p in net.named_parameters():
        if p.detach().abs().max() < 1e-3:
            torch.nn.init.normal_(p, std=0.02)
        elif p.ndim == 4 and p.detach().std() < 0.0102:
            torch.nn.init.kaiming_normal_(p)  # GoogLeNet's: some processors take what is left for 0
        elif name.endswith(("gain", "gamma")):
            torch.nn.init.uniform_(p, 0.5, 1.5)


def check_equal(arch, expected):
    """The network changed against itself as it was, on noise."""
    pytest.importorskip("timm", reason="timm is an extra")
    torch.manual_seed(0)
    colour = build_classifier(ClassifierSpec(arch, LABELS, 1, "repeat")).eval()
    lively(colour.net)
    grey = build_classifier(ClassifierSpec(arch, LABELS, 1, "first-layer")).eval()
    assert grey.spec.grey_input == expected
    load_pretrained(grey, colour.net.state_dict(), "test")
    kinds = [[type(m) for m in model.net.modules()] for model in (grey, colour)]
    assert kinds[0] == kinds[1]
    x = torch.rand(1, 1, side_of(grey), side_of(grey), generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        a, b = grey(x), colour(x)
        other = colour(x.flip(3))
    assert (other - b).abs().max() > 0  # it sees the image at all
    torch.testing.assert_close(a.softmax(1), b.softmax(1), rtol=0, atol=1e-5)
    torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5 * float(b.abs().max()))


PLAIN = [a for a in ARCHITECTURES if a not in SLOW["first-layer"]]


@pytest.mark.thorough
@pytest.mark.parametrize("arch", [*PLAIN, "googlenet"])
def test_torchvision_s_networks_take_summed_weights(arch):
    check_equal(arch, "first-layer")


@pytest.mark.thorough
@pytest.mark.parametrize("arch", thorough_but(SUMMED, SUMMED[:3]))
def test_timm_s_networks_take_summed_weights(arch):
    check_equal(arch, "first-layer")


@pytest.mark.thorough
@pytest.mark.parametrize("arch", REPEATED)
def test_where_summed_weights_are_another_function_the_channel_is_repeated(arch):
    check_equal(arch, "repeat")


@pytest.mark.slow
@pytest.mark.parametrize(("arch", "expected"), [(a, e) for e, some in SLOW.items() for a in some])
def test_large_networks(arch, expected):
    check_equal(arch, expected)


def test_a_network_that_is_refused_stays_as_it_was():
    timm = pytest.importorskip("timm", reason="timm is an extra")
    net = timm.create_model("test_nfnet", num_classes=2)
    before = {k: v.clone() for k, v in net.state_dict().items()}
    assert not take_grey(net, 96)
    after = net.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(v, after[k]) for k, v in before.items())
    assert net.stem.conv1.in_channels == 3


class TwoWays(torch.nn.Module):
    """The image goes another way beside the first convolution, which takes three colours too."""

    def __init__(self):
        super().__init__()
        self.conv = torch.nn.Conv2d(3, 4, 3)
        self.register_buffer("weights", torch.tensor([1.0, 2.0, 3.0]).view(1, 3, 1, 1))

    def forward(self, x):
        return self.conv(x).mean((2, 3)) + torch.nn.functional.conv2d(x, self.weights).mean((2, 3))


def test_a_network_whose_image_goes_other_ways_is_refused():
    net = TwoWays()
    assert not take_grey(net, 16)
    assert net.conv.weight.shape == (4, 3, 3, 3)


def test_a_network_without_a_first_convolution_is_refused():
    assert not take_grey(torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(48, 2)), 4)


def test_building_a_grey_network_draws_no_numbers():
    """What is drawn next, the heads of exits say, is the same for both."""
    drawn = []
    for grey_input in ("repeat", "first-layer"):
        torch.manual_seed(0)
        build_classifier(ClassifierSpec("squeezenet1_1", LABELS, 1, grey_input))
        drawn.append(torch.rand(3))
    assert torch.equal(*drawn)


@pytest.mark.parametrize("channels", [0, 2, 4])
def test_other_numbers_of_channels_are_refused(channels):
    with pytest.raises(ConfigError, match=rf"grey or colour(.|\n)*{channels} channels"):
        build_classifier(ClassifierSpec("resnet18", LABELS, channels))


@pytest.mark.thorough
@pytest.mark.parametrize("encoder", [e for e in ENCODERS if e not in ("vgg16", "resnet50")])
def test_encoders_of_segmenters_give_what_they_give_of_colours(encoder):
    if encoder.startswith("tf_"):
        timm = pytest.importorskip("timm", reason="timm is an extra")
        state = timm.create_model(encoder).state_dict()
    else:
        state = build_classifier(ClassifierSpec(encoder, LABELS, 3)).net.state_dict()
    nets = [build_segmenter(f"encoder-unet:{encoder}", c, 2).eval() for c in (1, 3)]
    for net in nets:
        load_backbone(net, state, "file")
    x = torch.rand(1, 1, 32, 32)
    with torch.no_grad():
        grey, colour = (
            net.encoder(x.expand(-1, c, -1, -1))[1:] for net, c in zip(nets, (1, 3), strict=True)
        )
    assert len(grey) >= 4
    for a, b in zip(grey, colour, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5 * float(b.abs().max()))


@pytest.mark.thorough
@pytest.mark.parametrize(
    "arch", ["inception_v3", pytest.param("googlenet", marks=pytest.mark.slow)]
)
def test_what_torchvision_transforms_inside_is_the_normalisation_here(arch):
    """Their weights expect [-1, 1]; torchvision says so by a flag that no file of weights holds."""
    ours = build_classifier(ClassifierSpec(arch, LABELS, 3)).eval()
    theirs = torchvision.models.get_model(
        arch, num_classes=2, aux_logits=False, init_weights=False, transform_input=True
    ).eval()
    load_pretrained(ours, theirs.state_dict(), "file")
    weights = torchvision.models.get_model_weights(arch).DEFAULT.transforms()
    x = torch.rand(2, 3, 80, 80)
    normalised = torchvision.transforms.functional.normalize(x, weights.mean, weights.std)
    seen = []
    for net in (ours.net, theirs):
        first = next(m for m in net.modules() if isinstance(m, torch.nn.Conv2d))
        first.register_forward_pre_hook(lambda _m, i: seen.append(i[0]))
    with torch.no_grad():
        torch.testing.assert_close(ours(x), theirs(normalised))
    torch.testing.assert_close(*seen, rtol=0, atol=1e-5)


def test_every_network_of_torchvision_is_normalised_as_its_weights_expect(monkeypatch):
    """EfficientNetV2-L's images have mean and standard deviation 0.5. No network is built."""
    from weakseg.models import classifiers

    monkeypatch.setattr(torchvision.models, "get_model", lambda *_a, **_k: torch.nn.Sequential())
    for arch in torchvision_names():
        if arch.startswith("squeezenet"):
            continue  # its last layer would be looked for
        _, (mean, std), _ = classifiers._torchvision_net(arch, 2)
        wanted = torchvision.models.get_model_weights(arch).DEFAULT.transforms()
        if arch in ("inception_v3", "googlenet"):
            assert mean == std == (0.5, 0.5, 0.5)
        else:
            assert (list(mean), list(std)) == (list(wanted.mean), list(wanted.std)), arch
    _, (mean, std), _ = classifiers._torchvision_net("efficientnet_v2_l", 2)
    assert mean == std == (0.5, 0.5, 0.5)
