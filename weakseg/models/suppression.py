"""Layers that end before their most discriminative places do, so that the others count as well."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from weakseg.errors import ConfigError
from weakseg.models.localising import maps_of_layers


def suppressed(features: Tensor, share: float) -> Tensor:
    """Features that end at a share of the maximum of their channel.

    Parameters
    ----------
    features : (B, C, *places) Tensor
    share : float
        In (0, 1].

    Returns
    -------
    (B, C, *places) Tensor
        Channels without a positive value are left as they are.

    References
    ----------
    Kim, Han, Kim, "Discriminative region suppression for weakly-supervised semantic segmentation",
    AAAI 2021: its form without parameters.
    """
    top = features.amax(tuple(range(2, features.ndim)), keepdim=True)
    return torch.minimum(features, torch.where(top > 0, share * top, top))


def _hook(share: float, _module: nn.Module, _inputs: Any, output: Tensor) -> Tensor:
    return suppressed(output, share)


def suppress(net: nn.Module, layers: Sequence[str], share: float, channels: int) -> None:
    """Have layers of a network give what is `suppressed`, in training and ever after.

    Parameters
    ----------
    net : nn.Module
        Its names and weights stay as they are.
    layers : sequence of str
        Below ``net``; their output is a map.
    share : float
    channels : int
        Of the images.

    Raises
    ------
    ConfigError
        If a layer's output is no map of channels and places.
    """
    for name, shape in maps_of_layers(net, layers, channels).items():
        if len(shape) != 4 or shape[2] != shape[3]:
            raise ConfigError(
                "Suppression needs layers of shape (batch, channels, height, width).",
                where="classifier.suppress",
                found=f"{name}: {shape}",
                fix="leave classifier.suppress out, or choose a convolutional network",
            )
    for name in layers:
        # Before all other hooks: whoever looks at the layer sees what goes on from it.
        net.get_submodule(name).register_forward_hook(partial(_hook, share), prepend=True)
