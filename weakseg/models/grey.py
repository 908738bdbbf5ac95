"""Grey images into networks that were made for three colours.

A convolution of three equal channels is one of a single channel with its weights summed over the
colours. That holds for layers that use their weights as they are; one that standardises them first
(timm's ``StdConv2d`` and ``ScaledStdConv2d``) would be another function, and so would a network
whose image goes other ways than through such layers. Those take the channel three times.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn

from weakseg.errors import lacks_memory
from weakseg.models.modes import evaluating

COLOURS = 3
_PROBE = 64
"""Side of the noise on which a changed layer is held against itself."""


def take_grey(net: nn.Module, side: int | None) -> bool:
    """Let a network for three colours take one channel, in its first layers.

    Parameters
    ----------
    net : nn.Module
        Each of its convolutions of three channels keeps its class, padding and all else, and gets
        weights (out, 1, kh, kw). Left as it was where that would be another function than to
        repeat the channel.
    side : int or None
        Of an image (1, 1, side, side) with which the changed network is tried; None where it is
        known that only its first convolution sees the image.

    Returns
    -------
    bool
        Whether it does so now.
    """
    convolutions = [
        m for m in net.modules() if isinstance(m, nn.Conv2d) and m.in_channels == COLOURS
    ]
    runs = side is None or _runs(net, COLOURS, side)
    weights = [conv.weight for conv in convolutions]
    taken = bool(convolutions) and all(_sum_colours(conv) for conv in convolutions)
    if taken and (side is None or _runs(net, 1, side, really=not runs)):
        return True
    for conv, weight in zip(convolutions, weights, strict=True):
        conv.weight, conv.in_channels = weight, COLOURS
    return False


def summed(weight: Tensor) -> Tensor:
    """First-layer weights (out, 3, kh, kw) for one channel, (out, 1, kh, kw), in float32."""
    return weight.float().sum(1, keepdim=True)


def _sum_colours(conv: nn.Conv2d) -> bool:
    """Give a convolution weights of one channel; whether it is the same function of grey images."""
    if conv.groups != 1:
        return False
    # A generator of its own: the weights that are drawn next must not depend on this look.
    noise = torch.rand(1, 1, _PROBE, _PROBE, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        before = conv(noise.expand(-1, COLOURS, -1, -1))
        conv.weight = nn.Parameter(summed(conv.weight).to(conv.weight.dtype))
        conv.in_channels = 1
        after = conv(noise)
    # A network without numbers is made for its shapes: nothing can be held against anything.
    return conv.weight.is_meta or bool((after - before).abs().max() <= 1e-4 * before.abs().max())


def _runs(net: nn.Module, channels: int, side: int, really: bool = False) -> bool:
    """Whether a network takes images of so many channels.

    Unless ``really``, nothing is computed: only the shapes are followed, in a copy without
    numbers. There are networks that cannot be followed so.
    """
    image = torch.zeros(1, channels, side, side, device="cpu" if really else "meta")
    try:
        tried = net if really else _without_numbers(net)
        with torch.no_grad(), evaluating(tried):
            tried(image)
    except Exception as e:  # whatever a network of another package raises, it does not take them
        if lacks_memory(e):
            raise
        return False
    return True


def _without_numbers(net: nn.Module) -> nn.Module:
    """A copy whose tensors have shapes and nothing else."""
    tensors: dict[int, Any] = {id(t): t.detach().to("meta") for t in net.buffers()}
    for p in net.parameters():
        tensors[id(p)] = nn.Parameter(p.detach().to("meta"), requires_grad=p.requires_grad)
    return copy.deepcopy(net, tensors)
