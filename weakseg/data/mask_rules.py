"""Which values of a mask are lesion, in images and volumes alike."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from weakseg.data.colours import top
from weakseg.errors import DataError

MaskRule = Literal["nonzero", "half", "dark"] | Sequence[int]


def by_rule(values: NDArray[Any], rule: MaskRule, path: Path) -> NDArray[np.bool_]:
    """Which samples of a mask are lesion by a rule of `read_mask`, whatever their dimensions.

    Raises
    ------
    DataError
        For ``half`` or ``dark`` and floats above 1, whose range is not known.
    """
    if not isinstance(rule, str):
        return np.isin(values, np.asarray(rule))
    if rule == "nonzero":
        return np.asarray(values != 0)
    half = _half_of_range(values, path)
    return np.asarray(values > half if rule == "half" else values <= half)


def distinct(raw: NDArray[Any]) -> NDArray[Any]:
    """The values that an array holds, ascending."""
    low, high = raw.min(), raw.max()
    if ((raw == low) | (raw == high)).all():  # as of most masks, and much faster
        return np.asarray([low] if low == high else [low, high], dtype=raw.dtype)
    if raw.dtype in (np.uint8, np.uint16):
        return np.flatnonzero(np.bincount(raw.ravel())).astype(raw.dtype)
    return np.unique(raw)


def _half_of_range(values: NDArray[Any], path: Path) -> float:
    if np.issubdtype(values.dtype, np.floating) and values.max() > 1:
        raise DataError(
            "Half of this mask's range is not known: it holds floats above 1.",
            where=str(path),
            found=f"values up to {float(values.max()):g}",
            fix="save the mask with 8 bits, or set data.mask_rule: nonzero",
        )
    return top(values) / 2
