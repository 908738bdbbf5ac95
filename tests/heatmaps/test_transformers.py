"""Maps of networks whose tensors are no (B, C, h, w), against the library's reshape_transform."""

import numpy as np
import pytest
import pytorch_grad_cam
import torch
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
from torch import nn
from torchvision.models import SwinTransformer, VisionTransformer

from weakseg.errors import ConfigError
from weakseg.heatmaps.cam import METHODS, raw_cam

timm = pytest.importorskip("timm")


def swin():
    return SwinTransformer([4, 4], 8, [1, 1], [2, 2], [4, 4], num_classes=3)


def vit():
    return VisionTransformer(32, 8, 2, 2, 16, 32, num_classes=3)


def vit_of_timm(**more):
    size = {"img_size": (32, 48), "patch_size": 8, "embed_dim": 12, "depth": 2, "num_heads": 2}
    return timm.models.VisionTransformer(**(size | {"num_classes": 3} | more))


def mixer():
    return timm.models.MlpMixer(3, 32, patch_size=8, num_blocks=2, embed_dim=16)


def last(x):
    return x.movedim(-1, 1)


def tokens(height, width, first):
    return lambda x: x[:, first:].reshape(len(x), height, width, -1).movedim(-1, 1)


CASES = {
    "swin": (swin, "norm", (32, 48), last),
    "vit": (vit, "encoder.layers.encoder_layer_1.ln_1", (32, 32), tokens(4, 4, 1)),
    "vit of timm": (vit_of_timm, "blocks.1.norm1", (32, 48), tokens(4, 6, 1)),
    "vit with registers": (
        lambda: vit_of_timm(reg_tokens=4),
        "blocks.1.norm1",
        (32, 48),
        tokens(4, 6, 5),
    ),
    "vit without a class token": (
        lambda: vit_of_timm(class_token=False, global_pool="avg"),
        "norm",
        (32, 48),
        tokens(4, 6, 0),
    ),
    "mixer": (mixer, "norm", (32, 32), tokens(4, 4, 0)),
}


def lively(name):
    """The network, a layer, images, and what the library has to be told; nothing is zero."""
    make, layer, size, reshape = CASES[name]
    torch.manual_seed(4)
    net = make().eval()
    for p in net.parameters():
        if p.ndim > 1:
            nn.init.normal_(p, std=0.3)
    return net, layer, torch.rand(2, 3, *size), reshape


@pytest.mark.thorough
@pytest.mark.parametrize("method", [m for m in METHODS if m != "shapleycam"])
@pytest.mark.parametrize("name", CASES)
def test_a_map_is_the_librarys_with_its_reshape_transform(name, method):
    net, layer, images, reshape = lively(name)
    ours, logits = raw_cam(net, layer, images, 1, method=method)
    more = {}
    if method == "ablationcam":
        more["ablation_layer"] = pytorch_grad_cam.ablation_layer.AblationLayerVit()
    module = net.get_submodule(layer)
    cam = getattr(pytorch_grad_cam, METHODS[method])(
        net, [module], reshape_transform=reshape, **more
    )
    seen, original = [], cam.get_cam_image

    def spy(*args, **kwargs):
        seen.append(original(*args, **kwargs))
        return seen[-1]

    cam.get_cam_image = spy
    net.requires_grad_(False)  # the library's own backward pass is to leave no gradient
    cam(images.clone().requires_grad_(True), [ClassifierOutputTarget(1)] * 2)
    cam.activations_and_grads.release()
    theirs = seen[0]
    if method == "ablationcam":  # there a share of the score
        theirs = theirs * logits[:, 1, None, None]
    if method in ("eigencam", "eigengradcam"):  # there of either sign
        theirs = np.stack([m if m.max() >= -m.min() else -m for m in theirs])
    assert np.abs(theirs).max() > 0
    np.testing.assert_allclose(ours, theirs, rtol=1e-3, atol=1e-4 * np.abs(theirs).max())


class Rearranged(nn.Module):
    """The same network with a module whose output is the map, channels first."""

    def __init__(self, net, layer, reshape):
        super().__init__()
        self.net, self.map = net, nn.Identity()
        net.get_submodule(layer).register_forward_hook(
            lambda _m, _i, out: self.back(self.map(reshape(out)), out)
        )

    def back(self, held, out):
        if out.ndim == 4:
            return held.movedim(1, -1)
        places = held.flatten(2).movedim(1, -1)
        return torch.cat([out[:, : out.shape[1] - places.shape[1]], places], 1)

    def forward(self, x):
        return self.net(x)


@pytest.mark.parametrize("name", ["swin", "mixer"])
def test_shapley_values_are_those_of_a_map_with_channels_first(name):
    """The library cannot do them with a reshape_transform."""
    net, layer, images, reshape = lively(name)
    ours, _ = raw_cam(net, layer, images, 1, method="shapleycam")
    other = Rearranged(net, layer, reshape)
    expected, _ = raw_cam(other, other.map, images, 1, method="shapleycam")
    np.testing.assert_allclose(ours, expected, rtol=1e-4, atol=1e-5 * np.abs(expected).max())


@pytest.mark.parametrize("name", ["vit", "vit with registers"])
def test_shapley_values_pass_attention(name):
    net, layer, images, _ = lively(name)
    maps, _ = raw_cam(net, layer, images, 1, method="shapleycam")
    plain, _ = raw_cam(net, layer, images, 1)
    assert np.isfinite(maps).all()
    assert np.abs(maps - plain).max() > 0


@pytest.mark.parametrize("name", CASES)
def test_auto_is_a_layer_whose_places_count_and_lie_where_the_image_changes(name):
    net, _, images, _ = lively(name)
    maps, _ = raw_cam(net, "auto", images, 1)
    assert np.abs(maps).max() > 0
    height, width = images.shape[2:]
    assert maps.shape[1] * width == maps.shape[2] * height


def test_a_layer_behind_the_last_attention_is_refused_with_one_that_works():
    net, _, images, _ = lively("vit of timm")
    with pytest.raises(ConfigError, match=r"not lead to the class scores(.|\n)*blocks\.1\.norm1"):
        raw_cam(net, "norm", images, 1)


@pytest.mark.parametrize("layer", ["blocks.1.attn.q_norm", "head"])
def test_tensors_that_are_no_maps_are_refused_with_a_layer_that_is(layer):
    net, _, images, _ = lively("vit of timm")
    with pytest.raises(ConfigError, match=r"does not give a map(.|\n)*blocks\.1\.norm1 \(4 x 6\)"):
        raw_cam(net, layer, images, 1)


@pytest.mark.thorough
def test_tokens_that_lost_their_places_are_no_map_of_other_proportions():
    """LeViT's attention between stages keeps no place; some tokens lay on a line by chance."""
    torch.manual_seed(0)
    net = timm.create_model("levit_128s", num_classes=3).eval()
    maps, _ = raw_cam(net, "auto", torch.rand(1, 3, 224, 224), 1)
    assert maps.shape[1] == maps.shape[2]
    assert 14 % maps.shape[1] == 0
