"""Networks of images made networks of volumes: kernels repeated along depth and divided by it.

A volume whose slices are all alike then has the class scores of the image that they are (I3D).
Depth is the third axis of a file, across its slices, which often lie further apart than pixels do:
kernels get no depth, and strides leave it alone, until voxels of a map are about as deep as they
are wide. At both ends of a volume its last slice goes on, so that ends have no edge of their own.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from weakseg.errors import ConfigError, first_line, lacks_memory
from weakseg.models.depth_layers import (
    DepthAvgPool,
    DepthConv,
    DepthLayerNorm,
    DepthMaxPool,
    DepthPermute,
    deep_functions,
)
from weakseg.models.modes import evaluating

ISOTROPIC = 2.0
"""A voxel counts as coarse along depth while it is so many times as deep as it is wide, or more."""

LEAST_DEPTH = 4
"""Strides along depth leave at least so many places of it."""

_PROBE = 128
"""Side of the blank image by which strides are found."""


@dataclass(frozen=True)
class DepthPlan:
    """At which halvings of a network's maps their depth is halved too.

    Attributes
    ----------
    ratio : float
        How many times as deep as wide a voxel is that the network sees.
    depth : int, optional
        Slices that it sees; None: so many that strides always leave enough.
    """

    ratio: float = 1.0
    depth: int | None = None

    def halvings(self, level: int) -> int:
        """How often depth is halved by when rows and columns are ``level`` times."""
        done = 0
        for k in range(level):
            places = math.inf if self.depth is None else -(-self.depth // 2**done)
            done += self.isotropic(k, done) and places >= 2 * LEAST_DEPTH
        return done

    def isotropic(self, level: int, done: int | None = None) -> bool:
        """Whether the voxels of a map of a level are about as deep as they are wide, or less."""
        done = self.halvings(level) if done is None else done
        return self.ratio * 2**done / 2**level < ISOTROPIC

    def stride(self, level: int, stride: int) -> int:
        """Along depth, of a layer of an in-plane stride that sees a map of a level."""
        after = level + round(math.log2(stride))
        return int(2 ** (self.halvings(after) - self.halvings(level)))

    def kernel(self, level: int, size: int) -> int:
        """Along depth, of a layer whose kernel is so many pixels wide."""
        return size if self.isotropic(level) else 1


def inflate(
    net: nn.Module, plan: DepthPlan, *, channels: int, draw: bool = False, check: bool = True
) -> nn.Module:
    """Turn a network of images into one of volumes, in place.

    Parameters
    ----------
    net : nn.Module
        Takes (B, C, H, W), gives class scores. Its 2D convolutions, norms, poolings and dropouts
        are replaced by such of three dimensions under the same names.
    plan : DepthPlan
    channels : int
        Of the images.
    draw : bool, optional
        Draw the weights of kernels that have depth anew, of the same spread: repeated ones would
        begin alike at every depth. For a network without pretrained weights.
    check : bool, optional
        Hold the scores of a volume of like slices against those of the slice; of networks that are
        known it need not be.

    Returns
    -------
    nn.Module
        Takes (B, C, D, H, W) inside of `deep_functions`.

    Raises
    ------
    ConfigError
        If a part cannot be inflated, or the volume's class scores are not those of its slices.

    References
    ----------
    Carreira and Zisserman, "Quo vadis, action recognition? A new model and the Kinetics dataset",
    CVPR 2017, for the inflation; Isensee et al., "nnU-Net", Nature Methods 2021, for strides that
    wait until voxels are isotropic.
    """
    image = _image(channels)
    try:
        levels = _levels(net, channels)
        flat = _scores(net, image) if check else None
    except (RuntimeError, TypeError, ValueError, AssertionError) as e:  # of images of one size
        if lacks_memory(e):
            raise
        raise _cannot(first_line(e)) from None
    _replace(net, "", levels, plan)
    if flat is not None:
        try:
            deep = _scores(net, image[:, :, None].expand(-1, -1, LEAST_DEPTH, -1, -1))
        except (RuntimeError, TypeError, ValueError, AssertionError, NotImplementedError) as e:
            if lacks_memory(e):
                raise
            raise _cannot(first_line(e)) from None
        if deep.shape != flat.shape or (deep - flat).abs().max() > 1e-3 * (1 + flat.abs().max()):
            raise _cannot("it takes another way through a volume than through its slices")
    if draw:
        _draw(net)
    return net


def _image(channels: int) -> Tensor:
    draw = torch.Generator().manual_seed(0)
    return torch.rand(1, channels, _PROBE, _PROBE, generator=draw)


def _scores(net: nn.Module, image: Tensor) -> Tensor:
    with torch.no_grad(), evaluating(net), deep_functions():
        return net(image)


def _cannot(found: str) -> ConfigError:
    return ConfigError(
        "The network cannot be made one of volumes.",
        where="classifier.arch",
        found=found,
        fix="choose another, for example resnet18-3d or densenet121-3d; or mil:NAME, which takes "
        "any network of images",
    )


def inflated_state(own: dict[str, Tensor], state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Weights of images for a network of volumes: kernels repeated along depth, divided by it.

    Parameters
    ----------
    own : dict of Tensor
        Of the network of volumes.
    state : dict of Tensor
        Of images, or of volumes already; tensors of other names or sizes are left as they are.
    """
    return {k: _deepened(v, own[k].shape) if k in own else v for k, v in state.items()}


def _deepened(tensor: Tensor, shape: torch.Size) -> Tensor:
    if tensor.ndim == 4 and len(shape) == 5 and (*shape[:2], *shape[3:]) == tuple(tensor.shape):
        return (tensor[:, :, None] / shape[2]).expand(shape).contiguous()
    if tensor.ndim == 3 and tuple(shape) == (*tensor.shape, 1):  # ConvNeXt's scales of channels
        return tensor[..., None]
    return tensor


def _levels(net: nn.Module, channels: int) -> dict[nn.Module, int]:
    """Module → how often rows and columns were halved before it."""
    levels: dict[nn.Module, int] = {}

    def note(module: nn.Module, inputs: tuple[Any, ...]) -> None:
        x = inputs[0]
        if isinstance(x, Tensor) and x.ndim == 4:
            levels.setdefault(module, max(0, round(math.log2(_PROBE / max(1, x.shape[2])))))

    handles = [m.register_forward_pre_hook(note) for m in net.modules()]
    try:
        with torch.no_grad(), evaluating(net):
            net(torch.zeros(1, channels, _PROBE, _PROBE))
    finally:
        for handle in handles:
            handle.remove()
    return levels


def _replace(module: nn.Module, name: str, levels: dict[nn.Module, int], plan: DepthPlan) -> None:
    for key, child in module.named_children():
        make = MAKERS.get(type(child).__name__)
        if make is not None:
            deep = make(child, levels.get(child, 0), plan)
            deep.train(child.training)
            setattr(module, key, deep)
            continue
        if isinstance(child, nn.Conv2d | nn.MaxPool2d | nn.AvgPool2d):
            raise _cannot(f"a {type(child).__name__} at {name}{key}")
        _replace(child, f"{name}{key}.", levels, plan)
    scale = getattr(module, "layer_scale", None)
    if isinstance(scale, nn.Parameter) and scale.ndim == 3:
        module.layer_scale = nn.Parameter(scale.detach()[..., None])


def _draw(net: nn.Module) -> None:
    for module in net.modules():
        if isinstance(module, DepthConv) and module.kernel_size[0] > 1:
            deep = module.weight
            spread = float(deep.detach().std()) * math.sqrt(deep.shape[2])
            with torch.no_grad():
                deep.copy_(torch.randn_like(deep) * spread)


def _pair(value: Any) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else (int(value[0]), int(value[1]))


def _conv(old: Any, level: int, plan: DepthPlan) -> nn.Module:
    if isinstance(old.padding, str) or old.padding_mode != "zeros":
        raise _cannot(f"a convolution with the padding {old.padding}, {old.padding_mode}")
    kernel = plan.kernel(level, min(old.kernel_size))
    deep = DepthConv(
        old.in_channels,
        old.out_channels,
        (kernel, *old.kernel_size),
        stride=(plan.stride(level, min(old.stride)), *old.stride),
        padding=(0, *old.padding),
        dilation=(min(old.dilation), *old.dilation),
        groups=old.groups,
        bias=old.bias is not None,
    )
    deep.load_state_dict(inflated_state(deep.state_dict(), old.state_dict()))
    return deep.to(old.weight)


def _pool(kind: type[nn.Module], level: int, plan: DepthPlan, old: Any) -> dict[str, Any]:
    kernel, stride = _pair(old.kernel_size), _pair(old.stride)
    deep = plan.stride(level, min(stride))
    keeps = deep == 1 and (min(stride) > 1 or not plan.isotropic(level))
    return {
        "kernel_size": (1 if keeps else min(kernel), *kernel),
        "stride": (deep, *stride),
        "padding": (0, *_pair(old.padding)),
        "ceil_mode": old.ceil_mode,
    }


def _max_pool(old: Any, level: int, plan: DepthPlan) -> nn.Module:
    apart = _pair(old.dilation)
    return DepthMaxPool(**_pool(DepthMaxPool, level, plan, old), dilation=(1, *apart))


def _avg_pool(old: Any, level: int, plan: DepthPlan) -> nn.Module:
    how = _pool(DepthAvgPool, level, plan, old)
    return DepthAvgPool(**how, count_include_pad=old.count_include_pad)


def _batch_norm(old: Any, level: int, plan: DepthPlan) -> nn.Module:
    new = nn.BatchNorm3d(
        old.num_features, old.eps, old.momentum, old.affine, old.track_running_stats
    )
    new.load_state_dict(old.state_dict())
    return new


def _layer_norm(old: Any, level: int, plan: DepthPlan) -> nn.Module:
    new = DepthLayerNorm(old.normalized_shape, old.eps, old.elementwise_affine)
    new.load_state_dict(old.state_dict())
    return new


def _permute(old: Any, level: int, plan: DepthPlan) -> nn.Module:
    orders = {(0, 2, 3, 1): (0, 2, 3, 4, 1), (0, 3, 1, 2): (0, 4, 1, 2, 3)}
    if tuple(old.dims) not in orders:
        raise _cannot(f"axes in the order {tuple(old.dims)}")
    return DepthPermute(orders[tuple(old.dims)])


MAKERS: dict[str, Callable[[Any, int, DepthPlan], nn.Module]] = {
    "Conv2d": _conv,
    "MaxPool2d": _max_pool,
    "AvgPool2d": _avg_pool,
    "BatchNorm2d": _batch_norm,
    "LayerNorm2d": _layer_norm,
    "Permute": _permute,
    "AdaptiveAvgPool2d": lambda old, *_: nn.AdaptiveAvgPool3d((1, *_pair(old.output_size))),
    "AdaptiveMaxPool2d": lambda old, *_: nn.AdaptiveMaxPool3d((1, *_pair(old.output_size))),
    "Dropout2d": lambda old, *_: nn.Dropout3d(old.p, old.inplace),
}
"""Class of a part of a network of images → (part, its level, plan) → the part for volumes."""
