"""Which epoch of a training is kept, and why."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

LOSS = "val_loss"
"""The validation figure whose lowest value decides between epochs that are equal otherwise."""

EQUAL = 9
"""Decimals to which two figures are the same: sums in another order differ behind them."""


class Chosen(NamedTuple):
    """An epoch, counted from 1, and a few words that say why it was chosen."""

    epoch: int
    why: str


def best_epoch(history: Sequence[dict[str, float]], select: str | None) -> Chosen:
    """The epoch whose weights are kept.

    Parameters
    ----------
    history : sequence of dict
        One entry an epoch, at least one.
    select : str or None
        The figure whose highest value marks the best epoch; None takes the last one.

    Returns
    -------
    Chosen
        Of equal epochs that of the lower `LOSS`, and of those that are equal in it too the
        first. An epoch whose figure is NaN is behind every other; where all are NaN, `LOSS`
        alone decides.
    """
    if select is None:
        return Chosen(len(history), "the last")
    figures = [_rank(h[select]) for h in history]
    losses = [_rank(-h.get(LOSS, math.nan)) for h in history]
    best = max(range(len(history)), key=lambda k: (figures[k], losses[k]))
    return Chosen(best + 1, _why(select, figures, best, -losses[best]))


def _rank(value: float) -> float:
    return -math.inf if math.isnan(value) else round(value, EQUAL)


def _why(select: str, figures: Sequence[float], best: int, loss: float) -> str:
    alike = figures.count(figures[best])
    lowest = f"the lowest {LOSS} ({loss:.4g})" if math.isfinite(loss) else "the first"
    if figures[best] == -math.inf:
        return f"{lowest}, as {select} is undefined"
    if alike == 1:
        return f"the highest {select} ({figures[best]:.4g})"
    return f"{lowest} of the {alike} epochs of the highest {select} ({figures[best]:.4g})"
