"""The class scores in whatever a classifier gives."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from weakseg.errors import ConfigError


def class_scores(output: Any) -> Tensor:
    """The class scores (B, K) in what a network gives.

    Parameters
    ----------
    output : Tensor, mapping, sequence or object
        (B, K) itself, (B, K, 1, 1), or (B,) for a single score an image; something with ``logits``
        as a key or an attribute; or a sequence with one such tensor.

    Returns
    -------
    (B, K) Tensor

    Raises
    ------
    ConfigError
        If it is not plain which numbers are class scores.
    """
    if isinstance(output, Tensor):
        return _flat(output)
    if isinstance(output, Mapping):
        named = {k: v for k, v in output.items() if isinstance(v, Tensor)}
        if "logits" in named:
            return _flat(named["logits"])
        return _only(
            list(named.values()), f"a mapping of {', '.join(map(repr, output)) or 'nothing'}"
        )
    logits = getattr(output, "logits", None)
    if isinstance(logits, Tensor):  # a data class, or a named tuple
        return _flat(logits)
    if isinstance(output, list | tuple):
        return _only([t for t in output if isinstance(t, Tensor)], f"{len(output)} values")
    raise _unclear(type(output).__name__)


def _only(tensors: list[Tensor], found: str) -> Tensor:
    """The one tensor of several that could be class scores."""
    could_be = [t for t in tensors if _is_scores(t)]
    if len(could_be) != 1:
        shapes = ", ".join(str(tuple(t.shape)) for t in tensors)
        raise _unclear(f"{found} with tensors of {shapes or 'no shape'}")
    return _flat(could_be[0])


def _is_scores(tensor: Tensor) -> bool:
    single = tensor.ndim == 2 or (tensor.ndim > 2 and tensor.shape[2:].numel() == 1)
    return tensor.ndim == 1 or single


def _flat(tensor: Tensor) -> Tensor:
    if not _is_scores(tensor):
        raise _unclear(f"a tensor of {tuple(tensor.shape)}")
    if not tensor.is_floating_point():
        raise _unclear(f"numbers of type {tensor.dtype}")
    return tensor[:, None] if tensor.ndim == 1 else tensor.flatten(1)


def _unclear(found: str) -> ConfigError:
    return ConfigError(
        "The network does not give class scores that a heatmap could explain.",
        where="model(images)",
        found=found,
        expected="a tensor (batch, classes), or something with it as `logits`",
        fix="wrap the network in a module whose forward returns its class scores",
    )
