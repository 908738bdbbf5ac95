"""Masks whose edges are in between: enlarged with interpolation, blurred, or through JPEG."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

LEVELS = 3
"""Values between the extremes that soft edges have at the least. One or two may be classes, spread
over the range, that are a pixel wide."""
ROOM = 16
"""What the largest value of soft edges exceeds the smallest by at the least. Classes are numbered
1, 2, 3, and leave interpolation nothing in between."""
MOSTLY = 0.5
NEAR, PARTLY = 8 / 255, 0.25
"""Values so near to an extreme, by the share of the range, are a faint noise, such as JPEG of high
quality leaves. It needs one level only, and `PARTLY` of it on slopes, for its blocks are flat."""


def has_soft_edges(values: NDArray[Any]) -> bool:
    """Whether values between a mask's extremes lie along its edges, as no class does.

    Classes fill areas: most of their pixels belong to a 2 × 2 block (of voxels 2 × 2 × 2) of one
    value. What
    interpolation, blurring or compression puts between two values is a slope: neighbours differ,
    and both lower and higher values are within two pixels.

    Parameters
    ----------
    values : (M, N[, ...]) ndarray

    Returns
    -------
    bool
        Where `LEVELS` values or more lie in between, over a range of `ROOM` (of floats: any
        range), and more than half of their pixels are on slopes; see `NEAR` for faint ones.
    """
    present, counts = np.unique(values, return_counts=True)
    low, reach = float(present[0]), float(present[-1]) - float(present[0])
    whole = np.issubdtype(values.dtype, np.integer)
    if len(present) < 3 or (whole and reach < ROOM):
        return False
    levels = _between(present, counts, low + reach / 2)
    place = (levels.astype(np.float64) - low) / reach
    faint = bool(((place <= NEAR) | (place >= 1 - NEAR)).all())
    if not len(levels) or (not faint and len(present) - 2 < LEVELS):
        return False
    between = np.isin(values, levels)
    share = PARTLY if faint else MOSTLY
    return bool(_on_slopes(values, between).sum() > share * between.sum())


def _between(held: NDArray[Any], counts: NDArray[Any], middle: float) -> NDArray[Any]:
    """Values but the extremes, and but the commonest above and below the middle.

    Bicubic interpolation overshoots, so that the lesion's own value need not be the largest.
    """
    upper = held > middle
    ground = held[~upper][counts[~upper].argmax()]
    lesion = held[upper][counts[upper].argmax()]
    return held[~np.isin(held, [held[0], held[-1], ground, lesion])]


def _on_slopes(values: NDArray[Any], between: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Which of some pixels have lower and higher ones near, and are in no block of one value."""
    from scipy.ndimage import maximum_filter, minimum_filter

    near = _around(between)
    values, between = values[near], between[near]
    lower = minimum_filter(values, 5, mode="nearest") < values
    higher = maximum_filter(values, 5, mode="nearest") > values
    block = minimum_filter(values, 2, mode="nearest") == maximum_filter(values, 2, mode="nearest")
    flat = maximum_filter(block, 2, mode="nearest", origin=-1)  # all pixels of such blocks
    return np.asarray(between & lower & higher & ~flat)


def _around(chosen: NDArray[np.bool_], margin: int = 3) -> tuple[slice, ...]:
    """The box of what is chosen and a margin, which is all that its neighbourhoods need."""
    axes = range(chosen.ndim)
    ends = (np.flatnonzero(chosen.any(axis=tuple(a for a in axes if a != k))) for k in axes)
    return tuple(slice(max(0, e[0] - margin), e[-1] + 1 + margin) for e in ends)
