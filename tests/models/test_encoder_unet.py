"""U-Nets on classifiers: sizes, normalisation, and the SqueezeNet that the library lacks."""

import pytest
import torch

from tests.marks import thorough_but
from weakseg.errors import ConfigError
from weakseg.models.classifiers import RGB_MEAN, RGB_STD
from weakseg.models.encoder_unet import EncoderUNet
from weakseg.models.encoders import ENCODERS, HALF, SqueezeNetEncoder

QUICK = ("squeezenet1_1", "mobilenet_v2", "tf_efficientnet_lite0")


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(0)


@pytest.mark.thorough
@pytest.mark.parametrize("channels", thorough_but([1, 3], [1]))
@pytest.mark.parametrize("encoder", ENCODERS)
def test_output_has_the_size_of_the_input_odd_ones_too(encoder, channels):
    with torch.device("meta"):
        net = EncoderUNet(channels, 2, encoder).eval()
        for size in ((64, 64), (65, 47), (33, 100)):
            assert net(torch.empty(2, channels, *size)).shape == (2, 2, *size)
    assert net.margin == (0, 0)
    assert net.input_size(33) == net.output_size(33) == 33


@pytest.mark.parametrize("encoder", ["vgg16", "squeezenet1_1"])
def test_images_narrower_than_the_deepest_stride_are_scored(encoder):
    with torch.device("meta"):
        net = EncoderUNet(1, 2, encoder).eval()
        for size in ((1, 40), (31, 9)):
            assert net(torch.empty(1, 1, *size)).shape == (1, 2, *size)


@pytest.mark.thorough
@pytest.mark.parametrize("encoder", QUICK)
def test_every_parameter_learns(encoder):
    net = EncoderUNet(1, 2, encoder)
    net(torch.rand(2, 1, 64, 64)).square().sum().backward()
    without = [n for n, p in net.named_parameters() if p.grad is None or not p.grad.any()]
    # The library's classifiers keep layers behind the last map that is used.
    assert not [n for n in without if not n.startswith("encoder.")]
    assert len(without) < 5


@pytest.mark.parametrize("encoder", ["squeezenet1_1", "tf_efficientnet_lite0"])
def test_intensities_are_normalised_as_the_weights_expect(encoder):
    mean, std = ([0.5] * 3, [0.5] * 3) if encoder in HALF else (RGB_MEAN, RGB_STD)
    seen = []
    for channels in (3, 1):
        net = EncoderUNet(channels, 2, encoder).eval()
        net.encoder.register_forward_pre_hook(lambda _m, args: seen.append(args[0]))
        with torch.no_grad():
            net(torch.full((1, channels, 32, 32), 0.6))
    expected = torch.tensor([(0.6 - m) / s for m, s in zip(mean, std, strict=True)])
    torch.testing.assert_close(seen[0][0, :, 0, 0], expected)
    grey = (0.6 - sum(mean) / 3) / (sum(std) / 3)
    assert float(seen[1][0, 0, 0, 0]) == pytest.approx(grey, rel=1e-5)


def test_maps_of_the_squeezenet_have_its_strides_and_widths():
    encoder = SqueezeNetEncoder(3)
    maps = encoder(torch.rand(1, 3, 64, 48))
    assert [m.shape[2:] for m in maps] == [(64 // s, 48 // s) for s in (1, 2, 4, 8, 16)]
    assert tuple(m.shape[1] for m in maps[1:]) == encoder.out_channels[1:]


def test_maps_of_the_squeezenet_are_torchvision_s_but_for_its_border():
    from torchvision.models import squeezenet1_1

    theirs = squeezenet1_1(weights=None).features.eval()
    ours = SqueezeNetEncoder(3).eval()
    ours.features.load_state_dict(theirs.state_dict())
    x = torch.rand(1, 3, 65, 65)
    with torch.no_grad():
        # Ours begins one pixel further out: of an image cut by one it gives the same inside.
        a, b = ours.features[0](x[:, :, 1:, 1:]), theirs[0](x)
    assert (a.shape[2], b.shape[2]) == (32, 32)
    torch.testing.assert_close(a[:, :, 1:, 1:], b[:, :, 1:, 1:])


@pytest.mark.parametrize("channels", [2, 4])
def test_images_of_several_modalities_are_refused_with_a_way_out(channels):
    with pytest.raises(ConfigError, match=r"grey or colour(.|\n)*choose unet or deepmedic"):
        EncoderUNet(channels, 2, "resnet18")
