"""How long a step of training takes, measured for a moment."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import is_dataclass
from typing import Any

import torch

from weakseg.training.loop import pick_device

AT_ONCE = {2: 4, 3: 2}
"""How many images, or volumes, of a step that is measured."""


def step_seconds(model: Any, shape: tuple[int, ...], device: str) -> float:
    """How long a step of training takes, without the loop around it: the faster of two."""
    on = pick_device(device)
    with torch.random.fork_rng(devices=[]):
        model = model.to(on).train()
        images, took = torch.rand(shape, device=on), []
        for _ in range(2):
            started = time.monotonic()
            sum(t.float().sum() for t in _tensors(model(images))).backward()
            if str(on).startswith("cuda"):
                torch.cuda.synchronize(on)
            took.append(time.monotonic() - started)
    return min(took)


def _tensors(output: Any) -> list[Any]:
    """The tensors of what a network gives."""
    if is_dataclass(output):
        return _tensors(vars(output))
    if isinstance(output, Mapping):
        return _tensors(list(output.values()))
    if isinstance(output, Sequence):
        return [t for part in output for t in _tensors(part)]
    return [output] if hasattr(output, "backward") else []
