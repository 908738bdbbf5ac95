"""Strided depthwise convolutions, whose gradient processors are slow at in half precision."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from functools import partial

import torch
from torch import Tensor, nn


@contextlib.contextmanager
def depthwise_in_full(model: nn.Module) -> Iterator[None]:
    """Train a network's strided depthwise convolutions in full precision, on processors.

    oneDNN has no kernel for their gradient in bfloat16 and falls back to one that takes 10 to 100
    times as long as that of float32, of volumes 3 times: a quarter of a training step of a U-Net
    on MobileNetV2 (`benchmarks/unets.py`). What they give is rounded to bfloat16 as before. Nothing
    changes without autocast, without a graph, or on another device.

    Parameters
    ----------
    model : nn.Module
        Left as it was found.
    """
    convolutions = [m for m in model.modules() if isinstance(m, nn.Conv2d | nn.Conv3d)]
    strided = [m for m in convolutions if m.groups == m.in_channels > 1 and max(m.stride) > 1]
    for m in strided:
        m.forward = partial(_in_full, m)  # type: ignore[method-assign]
    try:
        yield
    finally:
        for m in strided:
            del m.forward


def _in_full(m: nn.Conv2d | nn.Conv3d, x: Tensor) -> Tensor:
    run: Callable[[Tensor], Tensor] = partial(type(m).forward, m)  # type: ignore[arg-type]
    half = torch.is_autocast_enabled("cpu") and torch.is_grad_enabled()
    if not half or x.device.type != "cpu":
        return run(x)
    with torch.autocast("cpu", enabled=False):
        full = run(x.float())
    return full.to(torch.get_autocast_dtype("cpu"))
