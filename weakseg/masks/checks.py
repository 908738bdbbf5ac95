"""What the functions of heatmaps and masks ask of their arguments."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

AT_ONCE = 2**24
"""Samples of a map that are looked at, or made doubles of, at once; more go by parts."""

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]


def heat_of(heatmap: npt.ArrayLike) -> Floats:
    """A heatmap as (M, N[, ...]) floats; a ValueError unless it has pixels, all finite numbers."""
    return finite("heatmap", real_heat(heatmap))


def real_heat(heatmap: npt.ArrayLike) -> Floats:
    """The same, of a heatmap that may hold NaN or infinity."""
    return numbers_of(heatmap).astype(np.float64, copy=False)


def numbers_of(heatmap: npt.ArrayLike) -> npt.NDArray[Any]:
    """The same, of the type that it has: doubles of a large volume take memory."""
    h = np.asarray(heatmap)
    if h.size == 0:
        raise ValueError(f"heatmap must have at least one pixel, got shape {h.shape}")
    if h.dtype.kind not in "buif":
        raise ValueError(f"heatmap must hold real numbers, got {_kind_of(heatmap, h)}")
    if h.ndim == 0:
        raise ValueError(f"heatmap must be an array of pixels, got the single number {h[()]}")
    return h


def _kind_of(value: object, array: npt.NDArray[Any]) -> str:
    """What was handed over, in a word: of an array its type, else its class."""
    if array.dtype.kind == "O" and not isinstance(value, np.ndarray):
        return type(value).__name__
    return f"type {array.dtype}"


def truth_of(mask: npt.ArrayLike, heatmap: npt.ArrayLike, name: str) -> Bools:
    """A mask as booleans; a ValueError when its shape is not the heatmap's."""
    m = np.asarray(mask)
    if m.shape != np.shape(heatmap):
        raise ValueError(f"{name} must have the heatmap's shape {np.shape(heatmap)}, got {m.shape}")
    return m.astype(bool, copy=False)


def fraction(name: str, value: float) -> float:
    """A share in (0, 1); a ValueError when it is none."""
    if not 0.0 < value < 1.0:
        raise ValueError(f"{name} must be in (0, 1), got {value}")
    return float(value)


def finite(name: str, values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """An array of numbers; a ValueError when it holds NaN or infinity."""
    if values.dtype.kind not in "fc":
        return values
    parts = values if values.size > AT_ONCE else [values]
    bad = sum(int(np.count_nonzero(~np.isfinite(part))) for part in parts)
    if bad:
        raise ValueError(f"{name} must hold numbers, got NaN or infinity {bad} times")
    return values
