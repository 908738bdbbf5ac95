"""The U-Net: the original's counts and sizes, and what its convolutions compute."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from weakseg.errors import ConfigError
from weakseg.models.unet import UNet


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(0)


def test_original_has_31_030_658_parameters_counted_by_hand():
    widths = (64, 128, 256, 512, 1024)
    down = sum(9 * a * b + b + 9 * b * b + b for a, b in zip((1, *widths), widths, strict=False))
    up = sum(4 * b * a + a for a, b in zip(widths, widths[1:], strict=False))
    merge = sum(9 * b * a + a + 9 * a * a + a for a, b in zip(widths, widths[1:], strict=False))
    with torch.device("meta"):
        net = UNet(1, 2)
    assert down + up + merge + 64 * 2 + 2 == 31_030_658
    assert sum(p.numel() for p in net.parameters()) == 31_030_658


def test_original_gives_388_for_572():
    with torch.device("meta"):
        net = UNet(1, 2)
        deepest = []
        net.down[-1].register_forward_hook(lambda _m, i, o: deepest.append((i[0], o)))
        assert net(torch.empty(1, 1, 572, 572)).shape == (1, 2, 388, 388)
    ((into, out),) = deepest
    assert (into.shape[-1], out.shape[-1]) == (32, 28)
    assert (net.input_size(388), net.output_size(572), net.margin) == (572, 388, (92, 92))


@pytest.mark.parametrize("depth", [1, 2, 3])
@pytest.mark.parametrize("wanted", [1, 2, 7, 30])
def test_input_size_is_the_smallest_that_serves(depth, wanted):
    net = UNet(1, 2, depth=depth, base=1)
    size = net.input_size(wanted)
    assert net(torch.zeros(1, 1, size, size)).shape[-1] == net.output_size(size) >= wanted
    for smaller in range(size):
        try:
            assert net.output_size(smaller) < wanted
        except ConfigError:
            continue


def test_size_that_does_not_pool_is_refused_with_the_next_that_does():
    net = UNet(1, 2, base=1)
    with pytest.raises(ConfigError, match=r"570(.|\n)*572"):
        net(torch.zeros(1, 1, 572, 570))
    with pytest.raises(ConfigError, match="188"):
        net.output_size(44)


@pytest.mark.parametrize(("dims", "padding"), [(2, "valid"), (2, "same"), (3, "valid")])
def test_one_level_equals_the_operations_written_out(dims, padding):
    net = UNet(2, 3, dims, padding=padding, depth=1, base=4, dropout=0.0).eval()
    conv, up, pool = (
        (F.conv2d, F.conv_transpose2d, F.max_pool2d)
        if dims == 2
        else (F.conv3d, F.conv_transpose3d, F.max_pool3d)
    )
    w = net.state_dict()
    pad = 0 if padding == "valid" else 1

    def double(x, name):
        for i in (0, 2):
            x = conv(x, w[f"{name}.{i}.weight"], w[f"{name}.{i}.bias"], padding=pad).clamp(min=0)
        return x

    x = torch.randn(1, 2, *[20] * dims)
    skip = double(x, "down.0")
    low = double(pool(skip, 2), "down.1")
    raised = up(low, w["up.0.weight"], w["up.0.bias"], stride=2)
    cut = (skip.shape[-1] - raised.shape[-1]) // 2
    middle = slice(cut, skip.shape[-1] - cut)
    joined = torch.cat([skip[(slice(None), slice(None), *[middle] * dims)], raised], 1)
    expected = conv(double(joined, "merge.0"), w["head.weight"], w["head.bias"])
    with torch.no_grad():
        torch.testing.assert_close(net(x), expected, rtol=1e-4, atol=1e-5)


def test_valid_scores_do_not_depend_on_where_the_image_was_cut():
    net = UNet(1, 2, depth=2, base=4).eval()
    x = torch.randn(1, 1, 92, 92)
    with torch.no_grad():
        torch.testing.assert_close(
            net(x[:, :, 8:, 16:]), net(x)[:, :, 8:, 16:], rtol=1e-4, atol=1e-5
        )


@pytest.mark.parametrize("size", [(33, 16), (5, 70), (17, 9, 20)])
def test_same_convolutions_take_any_size(size):
    net = UNet(1, 2, len(size), padding="same", depth=3, base=2, batch_norm=True).eval()
    x = torch.randn(1, 1, *size)
    with torch.no_grad():
        out = net(x)
        pads = [n for s in reversed(size) for n in (0, -s % 8)]
        wider = net(F.pad(x, pads, mode="replicate"))
    assert out.shape == (1, 2, *size)
    torch.testing.assert_close(out, wider[(slice(None), slice(None), *map(slice, size))])


def test_dropout_sits_at_the_end_of_the_contracting_path():
    net = UNet(1, 2, depth=3, base=2, padding="same")
    shapes = []
    net.dropout.register_forward_hook(lambda _m, i, _o: shapes.append(i[0].shape[1]))
    net(torch.zeros(1, 1, 16, 16))
    assert shapes == [8, 16]
    assert net.dropout.p == 0.5


def test_batch_normalisation_replaces_the_biases():
    net = UNet(1, 2, base=2, batch_norm=True)
    convolutions = [m for m in net.modules() if isinstance(m, nn.Conv2d) and m.kernel_size[0] == 3]
    assert len(convolutions) == 18 == sum(isinstance(m, nn.BatchNorm2d) for m in net.modules())
    assert all(c.bias is None for c in convolutions)


def test_unknown_padding_names_the_nearest():
    with pytest.raises(ConfigError, match="did you mean 'valid'"):
        UNet(1, 2, padding="valdi")
    with pytest.raises(ConfigError, match="2 or 3"):
        UNet(1, 2, 4)
