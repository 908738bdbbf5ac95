"""Which images show the same picture: they stand for one patient where none is named."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

THUMBNAIL = 24
SAME = 0.985
"""Thumbnails that correlate more than this show the same picture."""

_COORDINATES = 31
_SLACK = 1e-4  # far more than single precision errs by in a bound
_MANY = 1 / 64  # of a block's pairs; from here on the whole block is compared

Floats = NDArray[np.float32]


def thumbnail(image: ArrayLike) -> Floats:
    """An (M, N) or (M, N, 3) image in 24 × 24 grey pixels, by averaging over areas."""
    import cv2

    values = np.asarray(image)
    side = (THUMBNAIL, THUMBNAIL)
    if values.dtype not in (np.uint8, np.uint16):
        values = values.astype(np.float32)
    small = np.asarray(cv2.resize(values, side, interpolation=cv2.INTER_AREA), dtype=np.float32)
    return small if small.ndim == 2 else small.mean(axis=2)


def group_near_duplicates(thumbnails: ArrayLike, *, block: int = 2048) -> list[str]:
    """Name the groups of images that show the same picture.

    Two images belong together if their thumbnails, or one and the other's left–right mirror
    image, correlate by more than `SAME`; so do two that a chain of such pairs links. Constant
    images correlate with nothing and belong to those of the same value.

    Every pair is looked at. Of more than ``block`` images most pairs are ruled out by a bound: a
    correlation is at most the product of a few coordinates and of what they leave.

    Parameters
    ----------
    thumbnails : (N, h, w) array_like
        As `thumbnail` gives them; an image with NaN is a group of its own.
    block : int, optional
        Images that are compared at once; bounds the memory to ``block``² numbers.

    Returns
    -------
    list of str
        ``group-0001`` and so on, numbered by first occurrence.
    """
    pictures = np.asarray(thumbnails)
    n = len(pictures)
    if not n:
        return []
    unit, means, constant = _normalised(pictures, block)
    equal, chosen = _equal_pictures(unit)
    links = [_equal_constants(means, constant), equal]
    links += [chosen[pairs] for pairs in _similar(unit[chosen], pictures.shape[1:], block)]
    member = _components(np.concatenate(links), n)
    order: dict[int, int] = {}
    return [f"group-{order.setdefault(int(m), len(order) + 1):04d}" for m in member]


def _normalised(
    pictures: NDArray[Any], block: int
) -> tuple[Floats, NDArray[np.float64], NDArray[np.bool_]]:
    """Pictures as vectors of length 1 and mean 0, or 0 where there is none; means; constants."""
    n = len(pictures)
    unit = np.zeros((n, int(np.prod(pictures.shape[1:]))), dtype=np.float32)
    means, constant = np.empty(n), np.zeros(n, dtype=bool)
    for at in (slice(i, i + block) for i in range(0, n, block)):
        flat = pictures[at].reshape(len(pictures[at]), -1).astype(np.float64)
        means[at] = flat.mean(axis=1)
        centred = flat - means[at, None]
        norm = np.linalg.norm(centred, axis=1)
        readable = np.isfinite(norm)
        constant[at] = readable & (norm <= 1e-5 * np.linalg.norm(flat, axis=1))
        usable = np.flatnonzero(readable & ~constant[at])
        unit[at.start + usable] = centred[usable] / norm[usable, None]
    return unit, means, constant


def _equal_pictures(unit: Floats) -> tuple[NDArray[Any], NDArray[Any]]:
    """Links of pictures that are the same, and the first of each with the others left out."""
    first: dict[bytes, int] = {}
    shown = np.flatnonzero(unit.any(axis=1))
    pairs = [(first.setdefault(unit[i].tobytes(), i), i) for i in map(int, shown)]
    repeated = np.array([p for p in pairs if p[0] != p[1]], dtype=np.int64).reshape(-1, 2)
    return repeated, np.array(sorted(first.values()), dtype=np.int64)


def _similar(unit: Floats, shape: tuple[int, ...], block: int) -> list[NDArray[Any]]:
    """Links of pictures, or their mirror images, that correlate by more than `SAME`."""
    n = len(unit)
    mirror = unit.reshape(n, *shape)[:, :, ::-1].reshape(unit.shape)
    bounds = _bounds(unit, mirror) if n > block else np.zeros((n, 0), dtype=np.float32)
    # The projections of two that are the same lie closer than they: in the order of the first
    # coordinate, most blocks need no look.
    order = np.argsort(bounds[:, 0]) if n > block else np.arange(n)
    unit, mirror, bounds = unit[order], mirror[order], bounds[order]
    reach = np.sqrt(2 - 2 * SAME) + _SLACK
    links: list[NDArray[Any]] = []
    for i in range(0, n, block):
        a = slice(i, i + block)
        for j in range(i, n, block):
            b = slice(j, j + block)
            if n > block and bounds[j, 0] - bounds[a, 0][-1] > reach:
                break
            pairs = _similar_in(unit[a], unit[b], mirror[b], bounds[a], bounds[b])
            if len(pairs):
                links.append(order[_spanning(pairs + np.array([i, j]))])
    return links


def _similar_in(
    first: Floats, second: Floats, mirror: Floats, its: Floats, others: Floats
) -> NDArray[Any]:
    """(P, 2) places of similar pairs of two blocks."""
    if its.shape[1]:
        may = np.argwhere(its @ others.T > SAME - _SLACK)
        if len(may) <= _MANY * len(first) * len(second):
            a, b = may.T
            one = np.einsum("ij,ij->i", first[a], second[b])
            other = np.einsum("ij,ij->i", first[a], mirror[b])
            return np.asarray(may[np.maximum(one, other) > SAME])
    # The mirror of one beside the other correlates as the one beside the other's mirror.
    return np.argwhere(np.maximum(first @ second.T, first @ mirror.T) > SAME)


def _bounds(unit: Floats, mirror: Floats) -> Floats:
    """Vectors whose products are at least the correlations of pictures and of mirrored ones.

    A picture is an even part, which its mirror image shares, and an odd part, which changes sign.
    The even parts are projected on their main axes; what that leaves, odd part included, cannot
    correlate by more than the product of its lengths.
    """
    even = (unit + mirror) / 2
    _, axes = np.linalg.eigh((even.T @ even).astype(np.float64))
    coordinates = even @ axes[:, : -_COORDINATES - 1 : -1].astype(np.float32)
    left = 1 - np.einsum("ij,ij->i", coordinates, coordinates)
    return np.column_stack((coordinates, np.sqrt(np.maximum(left, 0))))


def _spanning(pairs: NDArray[Any]) -> NDArray[Any]:
    """No more links than pictures that hold the same ones together."""
    nodes, places = np.unique(pairs, return_inverse=True)
    member = _components(places.reshape(-1, 2), len(nodes))
    _, first = np.unique(member, return_index=True)
    return np.stack((nodes[first[member]], nodes), axis=1)


def _components(pairs: NDArray[Any], n: int) -> NDArray[Any]:
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    graph = coo_array((np.ones(len(pairs), dtype=bool), (pairs[:, 0], pairs[:, 1])), shape=(n, n))
    return np.asarray(connected_components(graph, directed=False)[1])


def _equal_constants(values: NDArray[Any], constant: NDArray[np.bool_]) -> NDArray[Any]:
    first: dict[float, int] = {}
    pairs = [
        (first.setdefault(round(float(values[i]), 3), i), i)
        for i in map(int, np.flatnonzero(constant))
    ]
    return np.array(pairs, dtype=np.int64).reshape(-1, 2)
