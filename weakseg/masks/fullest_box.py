"""The box of a size that holds most of a mask."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt


def fullest_box(mask: npt.ArrayLike, side: int) -> tuple[slice, ...]:
    """Where a box of a side holds most of a mask.

    Parameters
    ----------
    mask : (*size) array_like of bool
    side : int
        Of the box, at least 1; an axis that is shorter is taken whole.

    Returns
    -------
    tuple of slice
        Around the centre of what the first of the fullest boxes holds, as far as the edges let it;
        that box itself where it holds more. Of an empty mask the first box.

    Raises
    ------
    ValueError
        For a side below 1.

    Examples
    --------
    >>> fullest_box([0, 1, 0, 0, 0, 1, 1, 0, 0], 5)
    (slice(2, 7, None),)
    """
    if side < 1:
        raise ValueError(f"side must be at least 1, got {side}")
    marked = np.asarray(mask, dtype=bool)
    counts = marked.astype(np.int32)
    sides = [min(side, n) for n in marked.shape]
    for axis, n in enumerate(sides):
        sums = np.cumsum(np.insert(counts, 0, 0, axis=axis), axis=axis)
        size = sums.shape[axis]
        counts = sums.take(range(n, size), axis=axis) - sums.take(range(size - n), axis=axis)
    first = np.unravel_index(int(np.argmax(counts)), counts.shape)
    box = tuple(slice(int(f), int(f) + n) for f, n in zip(first, sides, strict=True))
    places = np.argwhere(marked[box])
    if not len(places):
        return box
    middle = places.mean(axis=0) + [s.start for s in box]
    moved = [
        int(np.clip(round(float(m) - (n - 1) / 2), 0, whole - n))
        for m, n, whole in zip(middle, sides, marked.shape, strict=True)
    ]
    around = tuple(slice(f, f + n) for f, n in zip(moved, sides, strict=True))
    return around if counts[tuple(moved)] == counts[first] else box
