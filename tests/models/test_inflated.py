"""Networks of volumes made of networks of images."""

import pytest
import torch
from torch import nn
from torchvision import models

from tests.marks import thorough_but
from weakseg.errors import ConfigError
from weakseg.models.depth_layers import DepthConv, deep_functions
from weakseg.models.inflated import DepthPlan, inflate, inflated_state

PLANS = [DepthPlan(), DepthPlan(5.0), DepthPlan(depth=8), DepthPlan(3.0, depth=5)]


def flat(arch, classes=2):
    torch.manual_seed(0)
    return models.get_model(arch, weights=None, num_classes=classes).eval()


def scores(net, x):
    with torch.no_grad(), deep_functions():
        return net(x)


@pytest.mark.thorough
@pytest.mark.parametrize("plan", PLANS, ids=str)
@pytest.mark.parametrize(
    "arch",
    thorough_but(
        ["resnet18", "mobilenet_v2", "squeezenet1_1", "efficientnet_b0", "densenet121"],
        ["resnet18", "squeezenet1_1"],
    ),
)
def test_a_volume_of_like_slices_has_the_scores_of_the_slice(arch, plan):
    net, image = flat(arch), torch.rand(2, 3, 70, 64)
    wanted = scores(net, image)
    deep = inflate(net, plan, channels=3, check=False)
    for depth in (1, 7):
        volume = image[:, :, None].expand(-1, -1, depth, -1, -1)
        assert torch.allclose(scores(deep, volume), wanted, rtol=1e-3, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("arch", ["resnet34", "resnet50", "vgg16", "convnext_tiny"])
def test_larger_networks_as_well(arch):
    net, image = flat(arch), torch.rand(1, 3, 64, 64)
    wanted = scores(net, image)
    deep = inflate(net, DepthPlan(2.5), channels=3)
    volume = image[:, :, None].expand(-1, -1, 6, -1, -1)
    assert torch.allclose(scores(deep, volume), wanted, rtol=1e-3, atol=1e-5)


def test_a_volume_is_more_than_its_mean_slice():
    deep = inflate(flat("resnet18"), DepthPlan(), channels=3, check=False)
    volume = torch.rand(1, 3, 8, 64, 64)
    assert not torch.allclose(scores(deep, volume), scores(deep, volume.flip(2).roll(1, 2)))


def monai_resnet(name):
    from monai.networks import nets

    return getattr(nets, name)(
        spatial_dims=3, n_input_channels=3, num_classes=2, bias_downsample=False, shortcut_type="B"
    )


@pytest.mark.thorough
@pytest.mark.parametrize("arch", ["resnet18", "resnet34", "resnet50"])
def test_as_many_parameters_as_monais_resnet(arch):
    deep = inflate(flat(arch), DepthPlan(), channels=3, check=False)
    assert _count(deep) == _count(monai_resnet(arch))


def test_as_many_parameters_as_monais_densenet():
    from monai.networks.nets import DenseNet121

    deep = inflate(flat("densenet121"), DepthPlan(), channels=3, check=False)
    assert _count(deep) == _count(DenseNet121(spatial_dims=3, in_channels=3, out_channels=2))


def _count(net):
    return sum(p.numel() for p in net.parameters())


def shapes_of(net, volume, *names):
    found = {}
    handles = [
        net.get_submodule(n).register_forward_hook(
            lambda _m, _i, out, n=n: found.update({n: tuple(out.shape[2:])})
        )
        for n in names
    ]
    scores(net, volume)
    for handle in handles:
        handle.remove()
    return [found[n] for n in names]


LAYERS = ("conv1", "maxpool", "layer2", "layer3", "layer4")


@pytest.mark.thorough
@pytest.mark.parametrize(
    ("plan", "depths"),
    [
        (DepthPlan(), [16, 8, 4, 2, 1]),
        # Voxels four times as deep as wide: two halvings of rows and columns, then depth as well.
        (DepthPlan(4.0), [32, 32, 16, 8, 4]),
        (DepthPlan(3.9), [32, 16, 8, 4, 2]),
        (DepthPlan(100.0), [32, 32, 32, 32, 32]),
        # At least four places of depth are left.
        (DepthPlan(1.0, depth=32), [16, 8, 4, 4, 4]),
    ],
    ids=str,
)
def test_depth_is_halved_when_voxels_are_about_isotropic(plan, depths):
    deep = inflate(flat("resnet18"), plan, channels=3, check=False)
    found = shapes_of(deep, torch.rand(1, 3, 32, 64, 64), *LAYERS)
    assert found == [(d, n, n) for d, n in zip(depths, (32, 16, 8, 4, 2), strict=True)]


def test_kernels_have_no_depth_while_voxels_are_coarse():
    deep = inflate(flat("resnet18"), DepthPlan(4.0), channels=3, check=False)
    kernels = [deep.conv1, deep.layer1[0].conv1, deep.layer2[0].conv1, deep.layer2[0].downsample[0]]
    assert [k.kernel_size for k in kernels] == [(1, 7, 7), (3, 3, 3), (3, 3, 3), (1, 1, 1)]
    assert [k.stride for k in kernels] == [(1, 2, 2), (1, 1, 1), (2, 2, 2), (2, 2, 2)]


def test_weights_are_repeated_and_divided():
    net = flat("resnet18")
    before = {k: v.clone() for k, v in net.state_dict().items()}
    deep = inflate(net, DepthPlan(), channels=3, check=False)
    weight = deep.conv1.weight
    assert weight.shape == (64, 3, 7, 7, 7)
    for k in range(7):
        assert torch.equal(weight[:, :, k], before["conv1.weight"] / 7)
    again = inflated_state(deep.state_dict(), before)
    assert all(torch.equal(again[k], v) for k, v in deep.state_dict().items())


def test_drawn_weights_differ_along_depth_and_keep_their_spread():
    deep = inflate(flat("resnet18"), DepthPlan(), channels=3, draw=True, check=False)
    weight = deep.layer3[0].conv2.weight
    assert not torch.equal(weight[:, :, 0], weight[:, :, 1])
    wanted = float(flat("resnet18").layer3[0].conv2.weight.detach().std()) / 3**0.5
    assert float(weight.detach().std()) == pytest.approx(wanted, rel=0.02)


def test_the_last_slice_goes_on_at_both_ends():
    conv = DepthConv(1, 1, (3, 1, 1), padding=(0, 0, 0), bias=False)
    nn.init.constant_(conv.weight, 1.0)
    volume = torch.tensor([1.0, 2.0, 5.0]).view(1, 1, 3, 1, 1)
    assert conv(volume).flatten().tolist() == [4.0, 8.0, 12.0]


@pytest.mark.parametrize("arch", ["vit_b_16", "shufflenet_v2_x0_5", "inception_v3"])
def test_networks_that_cannot_be_inflated_are_refused(arch):
    more = {"aux_logits": False, "init_weights": False} if arch == "inception_v3" else {}
    net = models.get_model(arch, weights=None, num_classes=2, **more).eval()
    with pytest.raises(ConfigError, match="mil:NAME"):
        inflate(net, DepthPlan(), channels=3)
