"""A network looked at in evaluation, and left as it was found; and how it lies in memory."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TypeVar

import torch
from torch import nn

Network = TypeVar("Network", bound=nn.Module)


@contextlib.contextmanager
def evaluating(net: nn.Module) -> Iterator[None]:
    """Put a network into evaluation, and every module's own mode back at the end.

    Parameters
    ----------
    net : nn.Module
        Some of its modules may be in training and others not.
    """
    training = [m for m in net.modules() if m.training]
    if training:
        net.eval()
    try:
        yield
    finally:
        for module in training:
            module.training = True


def channels_last(net: Network) -> Network:
    """A network with its channels last, which is faster; one of volumes as it is."""
    if any(p.ndim > 4 for p in net.parameters()):
        return net
    return net.to(memory_format=torch.channels_last)
