"""DeepMedic: counts, geometry, pre-activation, and whole images equal to patches."""

import itertools

import numpy as np
import pytest
import torch
from torch import nn

from weakseg.errors import ConfigError
from weakseg.models.deepmedic import VARIANTS, DeepMedic, _add_earlier, border_intensity


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(0)


def made(*args, **kwargs):
    """A network in evaluation mode whose normalisation and slopes are not those of the start."""
    net = DeepMedic(*args, **kwargs)
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d | nn.BatchNorm3d):
            module.running_mean.uniform_(-0.2, 0.2)
            module.running_var.uniform_(0.5, 1.5)
        if isinstance(module, nn.PReLU):
            nn.init.uniform_(module.weight, 0.0, 0.5)
    nn.init.uniform_(net.bias)
    return net.eval()


@pytest.mark.parametrize(
    ("channels", "classes", "dims", "variant", "weights"),
    [
        (1, 2, 2, "paper", 243_540),
        (4, 5, 3, "paper", 660_330),
        (4, 5, 3, "release", 1_050_330),
        (4, 5, 3, "latest", 2_009_370),
    ],
)
def test_convolution_weights(channels, classes, dims, variant, weights):
    with torch.device("meta"):
        net = DeepMedic(channels, classes, dims, variant)
    kernels = [p for n, p in net.named_parameters() if n.endswith("conv.weight")]
    assert sum(k.numel() for k in kernels) == weights
    assert not [n for n, _ in net.named_parameters() if n.endswith("conv.bias")]


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize(
    ("variant", "output", "inputs"),
    [("paper", 9, [25, 19]), ("release", 7, [25, 19]), ("latest", 21, [37, 23, 21])],
)
def test_training_segment_feeds_each_pathway_its_published_size(dims, variant, output, inputs):
    with torch.device("meta"):
        net = DeepMedic(2, 3, dims, variant)
        seen = []
        for path in net.paths:
            path.blocks[0].register_forward_hook(lambda _m, i, _o: seen.append(i[0].shape[2:]))
        assert net.training_output == output
        logits = net(torch.empty(2, 2, *[net.input_size(output)] * dims))
    assert logits.shape == (2, 3, *[output] * dims)
    assert [tuple(s) for s in seen] == [(n,) * dims for n in inputs]
    assert net.output_size(net.input_size(output)) == output


def patch_by_patch(net, image, side, fill):
    """Logits from segments cut by hand, whose outputs start at multiples of ``side``."""
    sides = image.shape[2:]
    before, after = net.margin
    pads = [(0, 0), (0, 0)] + [(before, after + side)] * net.dims
    around = torch.from_numpy(np.pad(image.numpy(), pads, constant_values=fill))
    out = torch.full((image.shape[0], net.classes, *sides), torch.nan)
    for corner in itertools.product(*[range(0, n, side) for n in sides]):
        cut = [slice(c, c + side + before + after) for c in corner]
        logits = net(around[(slice(None), slice(None), *cut)])
        to = [slice(c, c + side) for c in corner]
        place = out[(slice(None), slice(None), *to)]
        place.copy_(logits[(slice(None), slice(None), *[slice(0, n) for n in place.shape[2:]])])
    return out


@pytest.mark.parametrize("variant", ["paper", "release"])
@pytest.mark.parametrize(("size", "sides"), [((35, 28), (3, 9)), ((7, 10, 6), (3, 6))])
def test_dense_equals_patch_by_patch(variant, size, sides):
    net = made(2, 3, len(size), variant)
    image = torch.randn(1, 2, *size)
    with torch.no_grad():
        patches = [patch_by_patch(net, image, side, -1.5) for side in sides]
    for tile in (12, None):
        dense = net.dense(image, tile, fill=-1.5)
        for expected in patches:
            torch.testing.assert_close(dense, expected, rtol=1e-4, atol=1e-4)


def test_image_cut_elsewhere_is_picked_from_elsewhere_unless_by_a_multiple_of_the_period():
    net = made(1, 2, 2, "paper")
    image = torch.randn(1, 1, 60, 9)
    inside = net.dense(image)[:, :, 30:]
    by_three = net.dense(image[:, :, 3:], fill=border_intensity(image))[:, :, 27:]
    by_one = net.dense(image[:, :, 1:], fill=border_intensity(image))[:, :, 29:]
    torch.testing.assert_close(by_three[:, :, :5], inside[:, :, :5], rtol=1e-4, atol=1e-4)
    assert (by_one - inside)[:, :, :5].abs().max() > 1e-2


@pytest.mark.parametrize("dims", [2, 3])
def test_each_voxel_sees_its_17_neighbours_and_17_picked_block_centres(dims):
    """Voxel-wise classification written out: no tiles, no upsampling, no cropping."""
    net = made(1, 2, dims, "paper")
    image = torch.randn(1, 1, *(20, 17, 11)[:dims])
    dense = net.dense(image, fill=0.25)

    def patch(centres, step):
        index = [
            [c + step * i if 0 <= c + step * i < n else -1 for i in range(-8, 9)]
            for c, n in zip(centres, image.shape[2:], strict=True)
        ]
        picked = torch.from_numpy(image.numpy()[(0, 0, *np.ix_(*index))])
        outside = np.zeros((17,) * dims, bool)
        for axis, places in enumerate(index):
            where = np.array(places) < 0
            outside |= where.reshape([-1 if a == axis else 1 for a in range(dims)])
        picked[torch.from_numpy(outside)] = 0.25
        return picked[None, None]

    for voxel in [(0,) * dims, (7, 8, 5)[:dims], (19, 16, 10)[:dims]]:
        with torch.no_grad():
            normal, low = patch(voxel, 1), patch([3 * (v // 3) + 1 for v in voxel], 3)
            for number in range(8):
                normal = net.paths[0].blocks[number](normal)
                low = net.paths[1].blocks[number](low)
            x = torch.cat([normal, low], 1)
            for block in net.joined:
                x = block(x)
            expected = (x + net.bias).flatten()
        torch.testing.assert_close(dense[(0, slice(None), *voxel)], expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("variant", "centre"), [("paper", 1), ("release", 0)])
def test_low_resolution_field_is_centred_on_the_published_voxel_of_a_block(variant, centre):
    net = made(1, 2, 2, variant).double()
    segment = torch.randn(1, 1, 63, 63, dtype=torch.float64, requires_grad=True)
    before = net.paths[1].reach[0]
    features = net.paths[1](segment, before, (6, 6))
    fields = []
    for voxel in range(4):
        (g,) = torch.autograd.grad(features[0, :, voxel, 0].sum(), segment, retain_graph=True)
        rows = g[0, 0].abs().sum(1).nonzero().flatten() - before
        fields.append(rows.tolist())
    assert fields[0] == list(range(centre - 24, centre + 25, 3))
    assert fields[0] == fields[1] == fields[2]
    assert fields[3] == [v + 3 for v in fields[0]]


def test_latest_infers_its_tiles_as_segments():
    net = made(1, 2, 2, "latest")
    image = torch.randn(1, 1, 20, 31)
    with torch.no_grad():
        expected = patch_by_patch(net, image, 15, 0.5)
    torch.testing.assert_close(net.dense(image, 15, fill=0.5), expected, rtol=1e-4, atol=1e-4)


def test_latest_mirrors_what_its_first_joined_layer_lacks():
    net = made(1, 2, 2, "latest")
    x = torch.randn(1, 150, 1, 1)
    with torch.no_grad():
        out = net.joined[0](x.expand(1, 150, 4, 4))
    torch.testing.assert_close(out, out[:, :, 1:2, 1:2].expand(1, 250, 4, 4), rtol=1e-4, atol=1e-4)


def test_dense_never_holds_more_than_a_tile():
    net = made(1, 2, 2, "paper")
    sides = []
    net.paths[0].register_forward_hook(lambda _m, i, _o: sides.append(tuple(i[0].shape[2:])))
    net.dense(torch.randn(1, 1, 20, 8), tile=9)
    full, end = net.input_size(9), net.input_size(3)
    assert sides == [(full, full), (full, full), (end, full)]


def test_voxels_outside_the_image_hold_the_border_intensity():
    net = made(2, 2, 2, "paper")
    image = torch.randn(2, 2, 9, 12)
    corners = image[:, :, [0, 0, -1, -1], [0, -1, 0, -1]].mean(-1)
    torch.testing.assert_close(border_intensity(image), corners)
    wide = corners[..., None, None].expand(2, 2, 69, 72).clone()
    wide[:, :, 30:39, 30:42] = image
    inside = net.dense(wide)[:, :, 30:39, 30:42]
    torch.testing.assert_close(net.dense(image), inside, rtol=1e-4, atol=1e-4)


def test_border_intensity_of_volumes_is_the_mean_of_eight_corners():
    volume = torch.zeros(1, 1, 4, 5, 6)
    for corner in itertools.product((0, -1), repeat=3):
        volume[(0, 0, *corner)] = 2.0
    volume[0, 0, -1, -1, -1] = 10.0
    assert border_intensity(volume).tolist() == [[3.0]]


def test_first_layer_of_a_pathway_is_affine_and_later_ones_pre_activate():
    net = made(1, 2, 2, "paper")
    x, y = torch.randn(2, 1, 1, 9, 9)
    first = net.paths[0].blocks[0]
    nn.init.constant_(first.before.bias, 0.3)
    with torch.no_grad():
        torch.testing.assert_close(
            first(x + y), first(x) + first(y) - first(torch.zeros_like(x)), rtol=1e-4, atol=1e-5
        )
        torch.testing.assert_close(first(x), first.conv(x + 0.3))
        block = net.paths[1].blocks[3]
        x = torch.randn(2, 40, 5, 5)
        norm, act = block.before
        normed = (x - norm.running_mean.view(-1, 1, 1)) / (
            norm.running_var.view(-1, 1, 1) + norm.eps
        ).sqrt()
        expected = normed.clamp(min=0) + act.weight.view(-1, 1, 1) * normed.clamp(max=0)
        torch.testing.assert_close(block(x), block.conv(expected), rtol=1e-4, atol=1e-5)


def test_start_of_training_is_as_published():
    net = DeepMedic(4, 5, 2, "paper")
    slopes = [m.weight for m in net.modules() if isinstance(m, nn.PReLU)]
    assert len(slopes) == 17
    assert all((s == 0.01).all() for s in slopes)
    assert slopes[0].shape == (30,)
    assert [b.dropout.p for b in net.joined] == [0.0, 0.5, 0.5]
    assert all(b.dropout.p == 0 for path in net.paths for b in path.blocks)
    kernel = net.paths[0].blocks[5].conv.weight
    assert kernel.std().item() == pytest.approx((2 / (40 * 9)) ** 0.5, rel=0.05)


def test_residual_connection_crops_and_pads_channels_with_zeros():
    earlier, out = torch.arange(25.0).view(1, 1, 5, 5), torch.ones(1, 2, 1, 3)
    expected = torch.tensor([[[[12.0, 13.0, 14.0]], [[1.0, 1.0, 1.0]]]])
    assert _add_earlier(earlier, out).tolist() == expected.tolist()


@pytest.mark.parametrize(("variant", "connected"), [("release", (4, 6, 8)), ("paper", ())])
def test_residual_connections_join_the_published_layers(variant, connected):
    net = made(1, 2, 2, variant)
    path = net.paths[0]
    for number in (4, 6, 8):
        path.blocks[number - 1].conv.weight.data.zero_()
    inputs, output = [], None
    for block in path.blocks:
        block.register_forward_hook(lambda _m, i, _o: inputs.append(i[0]))
    with torch.no_grad():
        output = path(torch.randn(1, 1, 19, 19), 8, (3, 3))
    after = [*inputs[1:], output]
    for number in (4, 6, 8):
        got, source = after[number - 1], inputs[number - 2][:, :, 2:-2, 2:-2]
        wanted = source if number in connected else torch.zeros_like(source)
        assert torch.equal(got[:, : source.shape[1]], wanted)
        assert not got[:, source.shape[1] :].any()


def test_every_parameter_learns():
    net = DeepMedic(2, 3, 3, "release").train()
    net(torch.randn(2, 2, *[net.input_size(4)] * 3)).square().sum().backward()
    still = [n for n, p in net.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert still == []


def test_wrong_use_is_refused():
    net = DeepMedic(1, 2, 2)
    with pytest.raises(ValueError, match="eval"):
        net.dense(torch.zeros(1, 1, 9, 9))
    net.eval()
    with pytest.raises(ConfigError, match="multiple of 3"):
        net.dense(torch.zeros(1, 1, 9, 9), tile=10)
    with pytest.raises(ConfigError, match=r"48 voxels(.|\n)*at least 49"):
        net(torch.zeros(1, 1, 60, 48))
    with pytest.raises(ConfigError, match="did you mean 'release'"):
        DeepMedic(1, 2, 2, "relase")
    with pytest.raises(ConfigError, match="2 or 3"):
        DeepMedic(1, 2, 1)
    assert set(VARIANTS) == {"paper", "release", "latest"}
