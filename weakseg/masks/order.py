"""The k-th smallest of many numbers, exactly, without a sorted copy of them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

_DIGIT = 16
"""Bits that are counted at once."""


def kth_smallest(parts: Iterable[npt.NDArray[Any]], k: int) -> float:
    """The value that is at place ``k`` when all are sorted.

    Parameters
    ----------
    parts : iterable of ndarray
        Of one floating type, read once for every 16 bits of it: a list, or an array by its first
        axis. No value is NaN.
    k : int
        From 0.

    Returns
    -------
    float

    Raises
    ------
    ValueError
        When there are fewer values.

    Notes
    -----
    The bits of a float, those of a negative one turned round and the sign of others set, are an
    integer of the same order. Its digits are found one after another, the highest first, by
    counting how many values begin with those that are known already: memory is that of a part.

    Examples
    --------
    >>> kth_smallest(np.array([[3.0, -1.0], [2.0, 2.0]], dtype=np.float32), 1)
    2.0
    """
    found, known, width = 0, 0, _DIGIT
    while known < width:
        counts = np.zeros(2**_DIGIT, dtype=np.int64)
        for bits in _ordered(parts):
            kind, width = bits.dtype.type, 8 * bits.itemsize
            left = bits[bits >> kind(width - known) == found] if known else bits
            digits = left >> kind(width - known - _DIGIT)
            digits &= kind(2**_DIGIT - 1)
            counts += np.bincount(digits.astype(np.int64), minlength=2**_DIGIT)
        up_to = np.cumsum(counts)
        if not 0 <= k < up_to[-1]:
            raise ValueError(f"there are {up_to[-1]} values, and none at place {k}")
        digit = int(np.searchsorted(up_to, k, side="right"))
        k -= int(up_to[digit] - counts[digit])
        found, known = found << _DIGIT | digit, known + _DIGIT
    return _value(found, width)


def _ordered(parts: Iterable[npt.NDArray[Any]]) -> Iterator[npt.NDArray[Any]]:
    """Unsigned integers in the order of floats, flat."""
    for part in parts:
        # A copy, whose bits may be changed, in the byte order that they are counted in.
        flat = np.array(part, dtype=part.dtype.newbyteorder("=")).ravel()
        flat += 0  # one zero, not two
        bits = flat.view(f"u{flat.itemsize}")
        top = bits.dtype.type(1 << (8 * bits.itemsize - 1))
        negative = bits & top != 0
        np.invert(bits, out=bits, where=negative)
        np.bitwise_or(bits, top, out=bits, where=~negative)
        yield bits


def _value(ordered: int, width: int) -> float:
    """The float of an integer of `_ordered`."""
    top = 1 << (width - 1)
    bits = ordered & ~top if ordered & top else ~ordered & (2 * top - 1)
    return float(np.array([bits], dtype=f"u{width // 8}").view(f"f{width // 8}")[0])
