"""How far each pixel of one border lies from the nearest of another: three exact ways.

A *table* of all pairs serves both directions at once and wins for short borders, such as those of
lesions in slices; a *tree* wins for long borders of solids; a *map* of the distances at every pixel
wins where the borders fill their box, as those of noise do. All three give the same distances but
for the last digits of a float, so that the choice is one of time alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from scipy.ndimage import distance_transform_edt
from scipy.spatial import cKDTree
from scipy.spatial.distance import cdist

from weakseg.scores.checks import Floats, Mask

TABLE_LIMIT = 4_000_000
"""Pairs of pixels in a table: 16 MB where the spacing is one, else 32 MB."""

# Nanoseconds, measured with one thread: of a pair, of a pixel that is looked up, of a pixel of the
# box. What is more than twice wrong for another machine costs time, not correctness.
_NS_PAIR = {True: 0.6, False: 2.0}  # one spacing for all axes, or several
_NS_POINT = {2: 600, 3: 1500}
_NS_PIXEL = {2: 55, 3: 130}
_EXACT_SIDE = 1448  # twice the squared diagonal of such a square, the largest sum, is below 2**23


def border_distances(first: Mask, second: Mask, spacing: Sequence[float]) -> tuple[Floats, Floats]:
    """Distances from each pixel of one mask to the nearest of the other, both ways.

    Parameters
    ----------
    first, second : (M, N[, P]) ndarray of bool
        Neither may be empty.
    spacing : sequence of float
        Distance between neighbouring pixels along each axis.

    Returns
    -------
    from_first, from_second : (B,), (C,) ndarray of float
        In the order of the pixels.
    """
    return WAYS[cheapest_way(first, second, spacing)](first, second, spacing)


def cheapest_way(first: Mask, second: Mask, spacing: Sequence[float]) -> str:
    """The key of `WAYS` that should take the least time."""
    b, c = int(np.count_nonzero(first)), int(np.count_nonzero(second))
    cost = {
        "table": b * c * _NS_PAIR[_is_whole(first.shape, spacing)],
        "tree": (b + c) * _NS_POINT[first.ndim],
        "map": first.size * _NS_PIXEL[first.ndim],
    }
    if b * c > TABLE_LIMIT:
        del cost["table"]
    return min(cost, key=lambda way: cost[way])


def by_table(first: Mask, second: Mask, spacing: Sequence[float]) -> tuple[Floats, Floats]:
    """From the squared distances of all pairs."""
    p, t = _places(first), _places(second)
    if _is_whole(first.shape, spacing):
        # Squares of whole numbers are exact in single precision, and one matrix product gives
        # |p|² + |t|² - 2 p·t for all pairs.
        squares = _terms(p) @ _other_terms(t).T
        step = spacing[0]
    else:
        squares = cdist(p * np.asarray(spacing), t * np.asarray(spacing), "sqeuclidean")
        step = 1.0
    there, back = squares.min(axis=1), squares.min(axis=0)
    return np.sqrt(there, dtype=np.float64) * step, np.sqrt(back, dtype=np.float64) * step


def by_tree(first: Mask, second: Mask, spacing: Sequence[float]) -> tuple[Floats, Floats]:
    """From a k-d tree of each border."""
    p, t = (_places(m) * np.asarray(spacing) for m in (first, second))
    # Points in the order of the pixels: halving boxes at their middle is as good as at a median.
    trees = [cKDTree(x, balanced_tree=False, compact_nodes=False) for x in (p, t)]
    return np.asarray(trees[1].query(p)[0]), np.asarray(trees[0].query(t)[0])


def by_map(first: Mask, second: Mask, spacing: Sequence[float]) -> tuple[Floats, Floats]:
    """From Euclidean distance transforms of the box."""
    to_second = np.asarray(distance_transform_edt(~second, sampling=spacing))
    to_first = np.asarray(distance_transform_edt(~first, sampling=spacing))
    return to_second[first], to_first[second]


Way = Callable[[Mask, Mask, Sequence[float]], tuple[Floats, Floats]]
WAYS: dict[str, Way] = {"table": by_table, "tree": by_tree, "map": by_map}


def _is_whole(shape: Sequence[int], spacing: Sequence[float]) -> bool:
    """Whether squared distances are small whole numbers, times one factor."""
    small = sum(n * n for n in shape) <= 2 * _EXACT_SIDE**2
    return small and all(s == spacing[0] for s in spacing)


def _places(mask: Mask) -> Floats:
    """(B, D) indices of the pixels, which numpy finds fastest in a flat array."""
    places = np.unravel_index(np.flatnonzero(mask), mask.shape)
    return np.stack(places, axis=1).astype(np.float64)


def _terms(p: Floats) -> np.ndarray:
    square = (p * p).sum(axis=1, keepdims=True)
    return np.hstack((p, square, np.ones_like(square))).astype(np.float32)


def _other_terms(t: Floats) -> np.ndarray:
    square = (t * t).sum(axis=1, keepdims=True)
    return np.hstack((-2 * t, np.ones_like(square), square)).astype(np.float32)
