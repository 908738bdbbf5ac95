"""Dropout whose probability grows with a layer's depth, in any network.

References
----------
Complexity 2020, 1645479: the probability follows a distribution of the depth; which one its
abstract does not tell. Ours is linear, as in Huang et al., "Deep networks with stochastic depth",
ECCV 2016.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call

from weakseg.models.modes import evaluating

HIGHEST = 0.3
"""Of what the last convolution reads; the first one, which reads the image, has none."""


def drop_by_depth(
    net: nn.Module, shape: Sequence[int], highest: float = HIGHEST
) -> dict[str, float]:
    """Let every convolution drop some of what it reads while the network is trained.

    Of n convolutions, counted in the order in which they run, the i-th (from 0) drops each number
    with probability ``highest · i / (n - 1)``. Convolutions between single numbers (squeeze and
    excitation) are not counted. Weights and their names stay as they are.

    Parameters
    ----------
    net : nn.Module
        Changed in place.
    shape : sequence of int
        (B, C, *size) of an input that it takes.
    highest : float, optional

    Returns
    -------
    dict of float
        The probabilities by layer, in the order in which they run.
    """
    order = convolutions(net, shape)
    rates = {name: highest * i / max(1, len(order) - 1) for i, name in enumerate(order)}
    for name, rate in rates.items():
        if rate:
            net.get_submodule(name).register_forward_pre_hook(_dropping(rate))
    return rates


def convolutions(net: nn.Module, shape: Sequence[int]) -> list[str]:
    """The names of a network's convolutions over more than one place, in the order they run."""
    kinds = nn.Conv2d | nn.Conv3d | nn.ConvTranspose2d | nn.ConvTranspose3d
    order: dict[str, None] = {}

    def seen(name: str) -> Any:
        def hook(_module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            if inputs[0].shape[2:].numel() > 1:
                order.setdefault(name)

        return hook

    handles = [
        module.register_forward_pre_hook(seen(name))
        for name, module in net.named_modules()
        if isinstance(module, kinds)
    ]
    # Without data: no memory is taken, and no random number.
    weights = {
        name: torch.empty_like(tensor, device="meta")
        for name, tensor in [*net.named_parameters(), *net.named_buffers()]
    }
    try:
        with torch.no_grad(), evaluating(net):
            functional_call(net, weights, (torch.empty(*shape, device="meta"),))
    finally:
        for handle in handles:
            handle.remove()
    return list(order)


def _dropping(rate: float) -> Any:
    def hook(module: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        first, *others = inputs
        return (F.dropout(first, rate, module.training), *others)

    return hook
