"""Networks of which only the shape is asked: built in an instant, without memory for weights."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

_DRAWS = frozenset({Tensor.normal_, Tensor.uniform_})


class _NoRandomDraws(TorchFunctionMode):
    """Draws no random numbers: into tensors without memory torch draws them by a compiler, whose
    import takes longer than all networks."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        return args[0] if func in _DRAWS else func(*args, **(kwargs or {}))


@contextmanager
def without_weights() -> Iterator[None]:
    """Within the block networks are built on torch's device ``meta``, and nothing is drawn."""
    with torch.device("meta"), _NoRandomDraws():
        yield
