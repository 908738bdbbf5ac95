"""A network looked at in evaluation, and left as it was found."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from torch import nn


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
