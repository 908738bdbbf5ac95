"""Masks whose edges are in between: enlarged with interpolation, blurred, or through JPEG."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

LEVELS = 2
"""Values between the extremes that soft edges have at the least; a mask of one is drawn so."""
ROOM = 16
"""What the largest value of soft edges exceeds the smallest by at the least. Classes are numbered
1, 2, 3, and leave interpolation nothing in between."""
MOSTLY = 0.5


def has_soft_edges(values: NDArray[Any]) -> bool:
    """Whether values between a mask's extremes lie along its edges, as no class does.

    Classes fill areas: most of their pixels belong to a 2 × 2 block of one value. What
    interpolation, blurring or compression puts between two values is a slope: neighbours differ,
    and both lower and higher values are within two pixels.

    Parameters
    ----------
    values : (M, N) ndarray

    Returns
    -------
    bool
        Where there are `LEVELS` values or more in between, over a range of `ROOM` (of floats: any
        range), and more than half of their pixels lie on slopes.
    """
    low, high = values.min(), values.max()
    whole = np.issubdtype(values.dtype, np.integer)
    if low == high or (whole and int(high) - int(low) < ROOM):
        return False
    between = (values > low) & (values < high)
    if not between.any() or len(np.unique(values[between])) < LEVELS:
        return False
    return bool((between & _on_slopes(values)).sum() > MOSTLY * between.sum())


def _on_slopes(values: NDArray[Any]) -> NDArray[np.bool_]:
    from scipy.ndimage import maximum_filter, minimum_filter

    lower = minimum_filter(values, 5, mode="nearest") < values
    higher = maximum_filter(values, 5, mode="nearest") > values
    return np.asarray(lower & higher & ~_in_flat_blocks(values))


def _in_flat_blocks(values: NDArray[Any]) -> NDArray[np.bool_]:
    """Pixels of some 2 × 2 block whose four values are one."""
    down, right = values[:-1] == values[1:], values[:, :-1] == values[:, 1:]
    block = down[:, :-1] & down[:, 1:] & right[:-1] & right[1:]
    flat = np.zeros(values.shape, dtype=bool)
    for y in (slice(None, -1), slice(1, None)):
        for x in (slice(None, -1), slice(1, None)):
            flat[y, x] |= block
    return flat
