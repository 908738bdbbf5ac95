"""Checks of the arrays that the scores share; an error names argument, rule and value."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

Mask = NDArray[np.bool_]
Floats = NDArray[np.float64]


def as_mask(name: str, values: ArrayLike) -> Mask:
    """An array as a boolean mask.

    Parameters
    ----------
    name : str
        What the caller calls the array, for the message.
    values : (M, N[, P]) array_like
        Booleans, or numbers that are all 0 or 1.

    Returns
    -------
    (M, N[, P]) ndarray of bool
        The same array where it was boolean already.

    Raises
    ------
    ValueError
        For another number of dimensions, an array without pixels, or other values: a mask of
        0 and 255 is refused, since a guess would hide a soft mask read by mistake.
    """
    mask = np.asarray(values)
    if mask.ndim not in (2, 3):
        raise ValueError(f"{name} must have 2 or 3 dimensions, got shape {mask.shape}")
    if mask.size == 0:
        raise ValueError(f"{name} must hold at least one pixel, got shape {mask.shape}")
    if mask.dtype == np.bool_:
        return mask
    if mask.dtype.kind not in "uif":
        raise ValueError(f"{name} must hold booleans, or numbers 0 and 1, got type {mask.dtype}")
    if not np.all((mask == 0) | (mask == 1)):
        present = np.unique(mask)
        shown = ", ".join(f"{v:g}" for v in present[:5]) + (", ..." if len(present) > 5 else "")
        raise ValueError(
            f"{name} must hold booleans, or numbers 0 and 1, got values {shown}; "
            f"compare it with a threshold first"
        )
    return mask.astype(np.bool_)


def as_masks(pred: ArrayLike, truth: ArrayLike) -> tuple[Mask, Mask]:
    """Two masks of one shape, see `as_mask`.

    Raises
    ------
    ValueError
        Where one is no mask, or the shapes differ.
    """
    p, t = as_mask("pred", pred), as_mask("truth", truth)
    if p.shape != t.shape:
        raise ValueError(f"pred must have the shape of truth, {t.shape}, got {p.shape}")
    return p, t


def as_heatmap(heatmap: ArrayLike, truth: ArrayLike) -> tuple[Floats, Mask]:
    """A heatmap in double precision and the mask that it is held against.

    Raises
    ------
    ValueError
        Where the shapes differ or the heat is not finite.
    """
    t = as_mask("truth", truth)
    heat = np.asarray(heatmap)
    if heat.dtype.kind not in "buif":
        raise ValueError(f"heatmap must hold real numbers, got type {heat.dtype}")
    heat = heat.astype(np.float64, copy=False)
    if heat.shape != t.shape:
        raise ValueError(f"heatmap must have the shape of truth, {t.shape}, got {heat.shape}")
    bad = int(heat.size - np.count_nonzero(np.isfinite(heat)))
    if bad:
        raise ValueError(f"heatmap must be finite, got {bad} NaN or infinite pixels")
    return heat, t


def as_spacing(spacing: Sequence[float] | None, ndim: int) -> tuple[float, ...]:
    """The distance between neighbouring pixels along every axis; ones for None.

    Raises
    ------
    ValueError
        Unless there is one positive, finite number an axis.
    """
    if spacing is None:
        return (1.0,) * ndim
    steps = np.asarray(spacing, dtype=np.float64)
    if steps.shape != (ndim,) or not np.all(np.isfinite(steps) & (steps > 0)):
        raise ValueError(f"spacing must be {ndim} positive numbers, one an axis, got {spacing!r}")
    return tuple(float(s) for s in steps)
