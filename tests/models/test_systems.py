"""Networks of other people, held against libraries, stated figures and cases by hand."""

import math

import pytest
import torch
from torch import nn

from weakseg.errors import ConfigError, UserError
from weakseg.models.attention_unet_small import SmallAttentionUNet
from weakseg.models.blocks import AttentionGate, SqueezeExcite
from weakseg.models.encoder_unetpp import EncoderUNetPlusPlus
from weakseg.models.encoders import BEHIND_16, ENCODERS, OnEncoder
from weakseg.models.fuzzy_neuro import LocalFeatures, Memberships
from weakseg.models.mfr import ChannelAttention, CoordinateAttention, MultiScale
from weakseg.models.pretrained import load_backbone
from weakseg.models.receptive_field import measured_receptive_field, receptive_field
from weakseg.models.render_unet import RenderUNet, drawn_places, rendered, sampled
from weakseg.models.segmenters import build_segmenter
from weakseg.models.sw_unet import ImageFusion
from weakseg.models.transformer import TransformerBlock, windowed
from weakseg.models.transunet import TransUNet
from weakseg.models.two_scale_cnn import Crossed
from weakseg.models.unet import UNet
from weakseg.models.unetpp import UNetPlusPlus, pruned
from weakseg.models.whole_image import Outputs


def copy_in_order(ours, theirs):
    """The weights of one network in another whose tensors have the same order and sizes."""
    source = [t for t in theirs.state_dict().values() if t.ndim]
    wanted = {n: t for n, t in ours.state_dict().items() if t.ndim}
    state = {n: s.reshape(t.shape) for (n, t), s in zip(wanted.items(), source, strict=True)}
    ours.load_state_dict(state, strict=False)


def scramble(net):
    """Random statistics for batch normalisation, so that it is no identity."""
    for m in net.modules():
        if isinstance(m, nn.BatchNorm2d | nn.BatchNorm3d):
            m.running_mean.uniform_(-0.5, 0.5)
            m.running_var.uniform_(0.5, 2)
    return net.eval()


# UNet++


def test_unetpp_has_the_published_number_of_weights():
    """9.04 million by the article, for its widths 32 to 512."""
    with torch.device("meta"):
        net = UNetPlusPlus(1, 2)
    kinds = (nn.Conv2d, nn.ConvTranspose2d)
    weights = sum(m.weight.numel() for m in net.modules() if isinstance(m, kinds))
    assert round(weights / 1e6, 2) == 9.04
    # Node (0, 3) reads three nodes before it and the raised one, of 32 maps each.
    assert net.nested.merge["0_3"][0].in_channels == 4 * 32
    assert net.nested.merge["2_1"][0].in_channels == 2 * 128


@pytest.fixture(scope="module")
def small():
    torch.manual_seed(0)
    return scramble(UNetPlusPlus(1, 2, widths=(4, 6, 8, 10, 12)))


def test_unetpp_gives_the_mean_of_what_its_nested_networks_say(small):
    x = torch.rand(2, 1, 33, 40)
    with torch.no_grad():
        whole = small(x).softmax(1)
        each = []
        for depth in (1, 2, 3, 4):
            with pruned(small, depth):
                each.append(small(x).softmax(1))
    assert whole.shape == (2, 2, 33, 40)
    torch.testing.assert_close(whole, torch.stack(each).mean(0))
    assert not torch.allclose(each[0], each[3])


def test_a_pruned_network_does_not_run_what_only_deeper_ones_have(small):
    used = set()
    names = {m: n for n, m in small.nested.named_modules() if n.startswith(("down.", "merge."))}
    hooks = [m.register_forward_hook(lambda m, *_: used.add(names[m])) for m in names]
    with torch.no_grad(), pruned(small, 2):
        small(torch.rand(1, 1, 32, 32))
    for hook in hooks:
        hook.remove()
    assert {n for n in used if n.count(".") == 1} == {
        *("down.0", "down.1", "down.2"),
        *("merge.0_1", "merge.1_1", "merge.0_2"),
    }


def test_what_has_no_such_nested_network_cannot_be_pruned(small):
    for net, depth in ((small, 5), (small, 0), (nn.Conv2d(1, 1, 1), 1)):
        with pytest.raises(ConfigError, match=r"segmenter\.prune") as error, pruned(net, depth):
            pass
        assert ("from 1 to 4" in str(error.value)) == ("choose one of these" in str(error.value))


def test_unetpp_teaches_all_its_heads(small):
    small.train()
    given = small(torch.rand(2, 1, 32, 32))
    small.eval()
    assert isinstance(given, Outputs)
    assert len(given.auxiliary) == 3
    assert {tuple(t.shape) for t in (given.logits, *given.auxiliary)} == {(2, 2, 32, 32)}


@pytest.mark.parametrize("encoder", ["resnet18", "mobilenet_v2"])
def test_unetpp_on_an_encoder_is_the_library_s(encoder):
    import segmentation_models_pytorch as smp

    torch.manual_seed(0)
    theirs = scramble(smp.UnetPlusPlus(ENCODERS[encoder], encoder_weights=None, classes=2))
    ours = EncoderUNetPlusPlus(3, 2, encoder).eval()
    state = {k.replace("segmentation_head.0", "head"): v for k, v in theirs.state_dict().items()}
    lacking = ours.load_state_dict(state, strict=False)
    assert not lacking.unexpected_keys
    assert all(k.startswith(("heads.", "mean", "std")) for k in lacking.missing_keys)
    x = torch.rand(2, 3, 64, 96)
    with torch.no_grad(), pruned(ours, ours.depth):
        torch.testing.assert_close(ours(x), theirs((x - ours.mean) / ours.std))


def test_the_nested_networks_on_an_encoder_are_those_that_are_trained():
    torch.manual_seed(0)
    net = scramble(EncoderUNetPlusPlus(1, 2, "squeezenet1_1"))
    x = torch.rand(2, 1, 50, 64)
    with torch.no_grad():
        each = []
        for depth in range(1, net.depth + 1):
            with pruned(net, depth):
                each.append(net(x))
        torch.testing.assert_close(
            net(x).softmax(1), torch.stack([s.softmax(1) for s in each]).mean(0)
        )
        for m in net.modules():  # what is trained, without batch statistics
            m.training = m is net
        given = net(x)
    for told, asked in zip((*given.auxiliary, given.logits), each, strict=True):
        torch.testing.assert_close(told, asked)


# Transformers


def test_transformer_block_is_torchvision_s():
    from torchvision.models.vision_transformer import EncoderBlock

    torch.manual_seed(0)
    theirs = EncoderBlock(4, 32, 64, 0.0, 0.0).eval()
    ours = TransformerBlock(32, 4, 64).eval()
    copy_in_order(ours, theirs)
    x = torch.randn(3, 7, 32)
    torch.testing.assert_close(ours(x), theirs(x))


def test_transunet_of_the_published_sizes_has_vit_base():
    with torch.device("meta"):
        net = TransUNet(3, 9, "resnet50", width=768, layers=12, heads=12, hidden=3072)
        small = build_segmenter("transunet:resnet50", 3, 9)
    layers = sum(p.numel() for p in net.transformer.layers.parameters())
    assert layers == 12 * 7_087_872  # of ViT-B/16
    assert net.transformer.embed.in_channels == 1024  # stage 3 of a ResNet-50
    # Skip connections of strides 8, 4 and 2 enter as published.
    assert [b[0][0].in_channels for b in net.blocks] == [512 + 512, 256 + 256, 128 + 64, 64]
    assert sum(p.numel() for p in small.transformer.layers.parameters()) == 6 * 1_774_464


@pytest.mark.thorough
@pytest.mark.parametrize("encoder", BEHIND_16)
def test_the_maps_of_a_shorter_encoder_are_the_library_s(encoder):
    from segmentation_models_pytorch.encoders import get_encoder

    torch.manual_seed(0)
    theirs = scramble(get_encoder(ENCODERS[encoder], in_channels=3, weights=None, depth=5))
    ours = OnEncoder(3, encoder, 4).eval()
    given = {f"encoder.{k}": v for k, v in theirs.state_dict().items()}
    lacking = ours.load_state_dict(given, strict=False)
    assert lacking.unexpected_keys == []  # what it has no layers for is overlooked by name
    assert lacking.missing_keys == ["mean", "std"]
    assert len(ours.state_dict()) < len(given)
    x = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        for a, b in zip(ours.maps(x)[1:], theirs((x - ours.mean) / ours.std)[1:5], strict=True):
            torch.testing.assert_close(a, b)


@pytest.mark.parametrize("kept", [True, False])
def test_a_file_with_the_layers_that_transunet_leaves_out_is_read(kept):
    """As versions before this one wrote them, and as every classifier's file has them."""
    net = build_segmenter("transunet:mobilenet_v2", 3, 2)
    whole = OnEncoder(3, "mobilenet_v2")
    given = {n: t + 1 for n, t in net.state_dict().items()} if kept else {}
    given |= {n: t + 1 for n, t in whole.state_dict().items() if n.startswith("encoder.")}
    assert ("encoder.features.18.0.weight" in given, len(net.left_out)) == (True, 4 * 18 + 6)
    if not kept:
        given = {n.removeprefix("encoder."): t for n, t in given.items()}
    random = load_backbone(net, given, "file")
    assert random == ([] if kept else ["blocks", "bottom", "head", "transformer"])
    name = "features.13.conv.0.0.weight"
    ours = net.encoder.state_dict()[name]
    torch.testing.assert_close(ours, given["encoder." * kept + name])
    if kept:
        net.load_state_dict(given)
    else:
        with pytest.raises(UserError, match=r"features\.19"):
            load_backbone(net, given | {"features.19.weight": torch.zeros(1)}, "file")


@pytest.mark.parametrize(("size", "shift"), [((8, 8), 0), ((8, 8), 2), ((9, 6), 2), ((5, 7, 4), 2)])
def test_attention_stays_within_its_window(size, shift):
    torch.manual_seed(0)
    block = TransformerBlock(4, 2, 8).double()
    x = torch.randn(1, 4, *size, dtype=torch.float64, requires_grad=True)
    out = windowed(x, block, 4, shift)
    assert out.shape == x.shape
    at = tuple(n // 2 for n in size)
    (gradient,) = torch.autograd.grad(out[(0, slice(None), *at)].square().sum(), x)
    seen = gradient[0].abs().sum(0) > 0
    wanted = torch.ones(size, dtype=torch.bool)
    for axis, (n, a) in enumerate(zip(size, at, strict=True)):
        same = (torch.arange(n) + shift) // 4 == (a + shift) // 4
        wanted &= same.view([-1 if i == axis else 1 for i in range(len(size))])
    assert torch.equal(seen, wanted)
    # Every window by itself says the same: what lies outside the map is not looked at.
    own = x[0].flatten(1)[:, wanted.flatten()].T[None]
    told = out[0].flatten(1)[:, wanted.flatten()].T[None]
    torch.testing.assert_close(block(own), told)


def test_sw_unet_fuses_images_that_are_weighed_place_by_place():
    torch.manual_seed(0)
    fusion = scramble(ImageFusion(3, 6, 2))
    x = torch.rand(2, 3, 10, 12)
    assert fusion(x).shape == (2, 6, 10, 12)
    with torch.no_grad():  # without say of any map, each image counts half of half
        for layer in (fusion.channel[2], fusion.space):
            layer.weight.zero_()
            layer.bias.zero_()
    torch.testing.assert_close(fusion(x), fusion.join(fusion.stem(x) / 4))


# Attention modules


def test_coordinate_attention_is_timm_s():
    from timm.layers.coord_attn import CoordAttn

    torch.manual_seed(0)
    theirs = scramble(CoordAttn(16, rd_channels=8, bias=True, act_layer=nn.Hardswish))
    ours = CoordinateAttention(16, 2).eval()
    copy_in_order(ours, theirs)
    x = torch.randn(2, 16, 5, 7)
    torch.testing.assert_close(ours(x), theirs(x))


def test_coordinate_attention_by_hand():
    """One map, weights 1: rows and columns are weighed by the sigmoid of their mean's h-swish."""
    module = CoordinateAttention(1, 2, reduction=1).eval()
    with torch.no_grad():
        for layer in (module.squeeze, *module.weights):
            layer.weight.fill_(1.0)
            layer.bias.zero_()
    x = torch.tensor([[[[0.0, 3.0], [1.0, 6.0]]]])

    def weight(mean):  # eight maps between, all alike
        swish = mean / math.sqrt(1 + 1e-5)
        return 1 / (1 + math.exp(-8 * swish * min(max(swish + 3, 0), 6) / 6))

    rows, columns = [1.5, 3.5], [0.5, 4.5]
    factors = [[weight(r) * weight(c) for c in columns] for r in rows]
    torch.testing.assert_close(module(x)[0, 0], x[0, 0] * torch.tensor(factors))


def test_coordinate_attention_in_three_dimensions_has_a_line_an_axis():
    module = CoordinateAttention(2, 3).eval()
    with torch.no_grad():
        for layer in module.weights:
            layer.weight.zero_()
            layer.bias.zero_()
        module.weights[1].bias.fill_(50.0)
    x = torch.rand(1, 2, 3, 4, 5)
    torch.testing.assert_close(module(x), x / 4)


def test_one_branch_of_channel_attention_is_eca():
    from timm.layers import EcaModule

    theirs, ours = EcaModule(kernel_size=3), ChannelAttention((3,), maximum=False)
    copy_in_order(ours, theirs)
    x = torch.randn(2, 6, 5, 7)
    torch.testing.assert_close(ours(x), theirs(x))


def test_branches_of_channel_attention_by_hand():
    """Kernels that only look at their own map add its mean and maximum, weighed by their mean."""
    module = ChannelAttention((1, 3))
    with torch.no_grad():
        module.branches[0].weight.fill_(1.0)
        module.branches[1].weight.copy_(torch.tensor([[[0.0, 2.0, 0.0]]]))
    x = torch.tensor([[[[1.0, 3.0]], [[0.0, -2.0]]]])
    weights = torch.sigmoid(torch.tensor([1.5 * (2 + 3), 1.5 * (-1 + 0)]))
    torch.testing.assert_close(module(x), x * weights.view(1, 2, 1, 1))


def test_retained_scales_leave_what_was_and_look_as_far_as_their_dilation():
    module = scramble(MultiScale(8, 2))
    x = torch.rand(1, 8, 9, 9)
    with torch.no_grad():
        module.join[1].weight.zero_()
        module.join[1].bias.zero_()
    torch.testing.assert_close(module(x), x)
    assert [b[0].dilation for b in module.branches] == [(1, 1), (2, 2), (4, 4)]


def test_modules_of_a_unet_are_where_they_are_said_to_be():
    with torch.device("meta"):
        plain, full = build_segmenter("unet", 1, 2), build_segmenter("unet:mfr+mca+ca", 1, 2)
        published = build_segmenter("mfr-unet", 1, 2)
    names = {n.split(".")[0] for n in full.state_dict()} - {
        n.split(".")[0] for n in plain.state_dict()
    }
    assert names == {"bottom", "gates", "refine"}
    assert len(published.fuse) == len(published.gates) == len(published.refine) == 4
    with pytest.raises(ConfigError, match="keep the size"):
        UNet(1, 2, modules=("ca",))


def test_attention_gate_is_monai_s():
    from monai.networks.nets.attentionunet import AttentionBlock

    torch.manual_seed(0)
    theirs = scramble(AttentionBlock(3, f_int=4, f_g=5, f_l=6, dropout=0.0))
    ours = AttentionGate(6, 5, 4, 3).eval()
    parts = ((ours.signal, theirs.W_g), (ours.skip, theirs.W_x), (ours.weight, theirs.psi))
    for mine, other in parts:
        copy_in_order(mine, other)
    x, g = torch.rand(2, 6, 4, 5, 6), torch.rand(2, 5, 4, 5, 6)
    torch.testing.assert_close(ours(x, g), theirs(g, x))


def test_squeeze_and_excitation_is_torchvision_s():
    from torchvision.ops import SqueezeExcitation

    theirs, ours = SqueezeExcitation(16, 2), SqueezeExcite(16, 2)
    copy_in_order(ours, theirs)
    x = torch.rand(2, 16, 5, 6)
    torch.testing.assert_close(ours(x), theirs(x))


@pytest.mark.parametrize("dims", [2, 3])
def test_the_small_network_has_no_million_parameters(dims):
    with torch.device("meta"):
        net = SmallAttentionUNet(4, 5, dims)
    assert sum(p.numel() for p in net.parameters()) <= 1_000_000


def test_layers_read_all_before_them():
    crossed = Crossed(3, 2, 4, 2)
    assert [layer[0].in_channels for layer in crossed.layers] == [3, 5, 7, 9]
    x = torch.rand(1, 3, 6, 6)
    out = crossed.eval()(x)
    assert out.shape[1] == 3 + 4 * 2
    assert torch.equal(out[:, :3], x)


# Fuzzy sets


def test_features_are_mean_and_deviation_of_windows_cut_at_the_border():
    x = torch.tensor([[[[0.0, 3.0, 0.0], [0.0, 0.0, 0.0], [0.0, 0.0, 9.0]]]])
    grey, mean, deviation = LocalFeatures((3,))(x)[0]
    torch.testing.assert_close(grey, x[0, 0])
    torch.testing.assert_close(mean[0], torch.tensor([3 / 4, 3 / 6, 3 / 4]))
    torch.testing.assert_close(mean[1, 1], torch.tensor(12 / 9))
    seen = torch.tensor([0.0, 0.0, 0.0, 9.0])
    torch.testing.assert_close(deviation[2, 2], seen.std(correction=0), atol=1e-4, rtol=1e-4)


def test_degrees_of_fuzzy_sets_by_hand():
    """Middles -2 to 2 a step apart, half a step wide: on a middle exp(0) over all five."""
    sets = Memberships(2)
    x = torch.zeros(1, 2, 1, 2)
    x[0, 1, 0, 1] = 0.5
    found = sets(x).view(2, 5, 2)
    raw = torch.exp(-0.5 * (torch.arange(-2.0, 3) / 0.5) ** 2)
    torch.testing.assert_close(found[0, :, 0], raw / raw.sum())
    torch.testing.assert_close(found[1, 2, 1], found[1, 3, 1])  # halfway between two
    torch.testing.assert_close(found.sum(1), torch.ones(2, 2))


def test_the_fuzzy_network_sees_its_largest_window():
    field = receptive_field(build_segmenter("fuzzy-neuro", 2, 2), (1, 2, 32, 32))
    assert (field.size, field.stride, field.whole_image) == ((9, 9), (1.0, 1.0), False)
    net = build_segmenter("fuzzy-neuro", 1, 2).eval()
    x = torch.rand(1, 1, 24, 24, requires_grad=True)
    (slope,) = torch.autograd.grad(net(x)[0, 1, 12, 12], x)
    seen = slope[0, 0].nonzero()
    assert seen.amin(0).tolist() == [8, 8]
    assert seen.amax(0).tolist() == [16, 16]


@pytest.mark.parametrize("name", ["two-scale-cnn", "unetpp"])
def test_receptive_field_is_the_measured_one(name):
    net = build_segmenter(name, 1, 2)
    field = receptive_field(net, (1, 1, 64, 64))
    size = field.size[0] + 2 * field.deepest_stride + 9
    size += -size % field.deepest_stride
    many = field.deepest_stride
    # The mean of several heads is no linear network; the deepest one sees all that the others do.
    with pruned(net, 4 if name == "unetpp" else None):
        found = measured_receptive_field(net, (size, many), outputs=many)
    assert found[0] == field.size[0]


# Rendering


def test_values_are_taken_between_voxels_by_interpolation():
    maps = torch.arange(24.0).view(1, 1, 4, 6)
    places = torch.tensor([[[0.5 / 4, 0.5 / 6], [3.5 / 4, 1.5 / 6], [1 / 4, 1 / 6]]])
    wanted = [0.0, 19.0, (0 + 1 + 6 + 7) / 4]
    torch.testing.assert_close(sampled(maps, places), torch.tensor([[wanted]]))
    volume = torch.arange(24.0).view(1, 1, 2, 3, 4)
    at = torch.tensor([[[1.5 / 2, 0.5 / 3, 2.5 / 4]]])
    torch.testing.assert_close(sampled(volume, at), torch.tensor([[[14.0]]]))


def test_only_the_least_certain_places_are_classified_anew():
    torch.manual_seed(0)
    scores, fine = torch.randn(2, 3, 4, 4), torch.randn(2, 5, 4, 4)

    def head(coarse, features):
        return 100 + coarse + features[:, :1]

    out = rendered(scores, fine, head, 3 / 16)
    changed = (out != scores).all(1)
    assert changed.flatten(1).sum(1).tolist() == [3, 3]
    best = scores.topk(2, dim=1).values
    ahead = best[:, 0] - best[:, 1]
    assert ahead[changed].max() < ahead[~changed].view(2, -1).min(1).values.max()
    torch.testing.assert_close(
        out[0][:, changed[0]], (100 + scores + fine[:, :1])[0][:, changed[0]]
    )
    torch.testing.assert_close(rendered(scores, fine, head, 1.0), 100 + scores + fine[:, :1])


def test_points_are_drawn_where_the_scores_are_uncertain():
    torch.manual_seed(0)
    scores = torch.zeros(1, 2, 8, 8)
    scores[:, 0, :, 4:] = 9.0  # sure on the right
    places = drawn_places(scores, 400, torch.tensor([1.0, 1.0]))
    assert places.shape == (1, 400, 2)
    assert (places[..., 1] < 0.57).float().mean() > 0.8
    cut = drawn_places(scores, 400, torch.tensor([0.5, 1.0]))
    assert cut[..., 0].max() <= 0.5


@pytest.mark.parametrize("dims", [2, 3])
def test_render_unet_screens_by_the_presence_of_a_lesion(dims):
    torch.manual_seed(0)
    net = scramble(RenderUNet(1, 2, dims))
    x = torch.rand(1, 1, *(20, 17, 16)[:dims])
    with torch.no_grad():
        before = net(x)
        net.screen.weight.zero_()
        net.screen.bias.fill_(50.0)
        free = net(x)
        net.screen.bias.fill_(-3.0)
        screened = net(x)
    assert before.shape == free.shape == (1, 2, *x.shape[2:])
    torch.testing.assert_close(screened[:, 0], free[:, 0])
    lowered = math.log1p(math.exp(3.0))
    torch.testing.assert_close(screened[:, 1], free[:, 1] - lowered)
    given = net.train()(torch.rand(2, 1, *(20, 17, 16)[:dims]))
    assert given.presence.shape == (2,)
    assert len(given.auxiliary) == 2
    assert given.points.places.shape == (2, given.points.logits.shape[2], dims)
    assert 0 <= given.points.places.min() <= given.points.places.max() <= 1
