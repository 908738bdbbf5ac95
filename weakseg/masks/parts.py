"""The connected parts of a mask, some planes at a time: numbers for all of a volume take memory."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from weakseg.masks.checks import Bools

DEPTH = 8
"""Planes along the third axis whose parts are numbered at once."""

Numbers = npt.NDArray[np.integer]


@dataclass(frozen=True, eq=False)
class Parts:
    """The connected parts of a mask.

    Attributes
    ----------
    mask : (X, Y, Z) ndarray of bool
    structure : (3, 3, 3) ndarray of int
        Which neighbours touch.
    sizes : (n,) ndarray of int
        Samples of each part. Parts are in the order of their first sample, along the first axis,
        then the second, then the third.
    numbers : (m + 1,) ndarray of int
        Number of a part, from 1, of each number that a slab gives by itself, from 1, slab after
        slab; 0 of 0.
    """

    mask: Bools
    structure: npt.NDArray[np.int_]
    sizes: npt.NDArray[np.int64]
    numbers: npt.NDArray[np.int64]

    @property
    def count(self) -> int:
        """How many there are."""
        return len(self.sizes)

    def slabs(self) -> Iterator[tuple[int, Numbers, npt.NDArray[np.int64]]]:
        """Slabs along the third axis.

        Yields
        ------
        begin : int
            Index of the first plane.
        labels : (X, Y, d) ndarray of int
            What the slab by itself numbers from 1.
        parts : (k + 1,) ndarray of int
            The part, from 1, of each of these; 0 of 0.
        """
        offset = 0
        for begin, labels, count in _labelled(self.mask, self.structure):
            own = self.numbers[offset + 1 : offset + count + 1]
            yield begin, labels, np.concatenate([[0], own])
            offset += count

    def extents(self) -> npt.NDArray[np.int64]:
        """(n,) planes from the first to the last of each part."""
        first = np.full(self.count + 1, self.mask.shape[2])
        last = np.full(self.count + 1, -1)
        for begin, labels, parts in self.slabs():
            for k in range(labels.shape[2]):
                here = parts[np.unique(labels[..., k])]
                first[here] = np.minimum(first[here], begin + k)
                last[here] = np.maximum(last[here], begin + k)
        return np.asarray((last - first + 1)[1:])

    def peaks(self, score: npt.NDArray[np.floating]) -> npt.NDArray[np.float64]:
        """(n,) highest score, (X, Y, Z), of each part."""
        from scipy import ndimage

        highest = np.full(self.count + 1, -np.inf)
        for begin, labels, parts in self.slabs():
            if len(parts) > 1:
                slab = score[..., begin : begin + labels.shape[2]]
                of = ndimage.maximum(slab, labels, np.arange(1, len(parts)))
                np.maximum.at(highest, parts[1:], of)
        return np.asarray(highest[1:])

    def holding(self, values: npt.NDArray[Any], value: object) -> Bools:
        """(n,) whether a value is among those, (X, Y, Z), of each part."""
        found = np.zeros(self.count + 1, dtype=bool)
        for begin, labels, parts in self.slabs():
            there = values[..., begin : begin + labels.shape[2]] == value
            found[parts[np.unique(labels[there])]] = True
        return found[1:]

    def keep(self, chosen: npt.ArrayLike) -> Bools:
        """(X, Y, Z) mask of the parts for which ``chosen``, (n,), is true."""
        wanted = np.concatenate([[False], np.asarray(chosen, dtype=bool)])
        out = np.zeros(self.mask.shape, dtype=bool)
        for begin, labels, parts in self.slabs():
            out[..., begin : begin + labels.shape[2]] = wanted[parts][labels]
        return out


def find_parts(mask: Bools, structure: npt.ArrayLike) -> Parts:
    """The connected parts of a mask.

    Parameters
    ----------
    mask : (X, Y, Z) ndarray of bool
    structure : (3, 3, 3) array_like
        As `scipy.ndimage.label` has it, whose numbers these are.
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    touching = np.asarray(structure)
    if mask.shape[2] <= DEPTH:
        (_, labels, count) = next(_labelled(mask, touching))
        found = np.bincount(labels.ravel(), minlength=count + 1)[1:]
        return Parts(mask, touching, found, np.arange(count + 1))
    sizes: list[npt.NDArray[np.int64]] = []
    first: list[npt.NDArray[np.int64]] = []
    pairs: list[npt.NDArray[np.int64]] = []
    total, before = 0, None
    for begin, labels, count in _labelled(mask, touching):
        sizes.append(np.bincount(labels.ravel(), minlength=count + 1)[1:])
        first.append(_first(labels, count, begin, mask.shape))
        if before is not None:
            pairs.append(_meeting(before, labels[..., 0], touching, total))
        total += count
        before = np.where(labels[..., -1] > 0, labels[..., -1] + (total - count), 0)
    if not total:
        return Parts(mask, touching, np.zeros(0, np.int64), np.zeros(1, np.int64))
    a, b = np.concatenate([np.zeros((2, 0), np.int64), *pairs], axis=1)
    graph = coo_array((np.ones(len(a), np.int8), (a - 1, b - 1)), shape=(total, total))
    count, part = connected_components(graph, directed=False)
    all_sizes, begins = np.concatenate(sizes), np.full(count, mask.size)
    np.minimum.at(begins, part, np.concatenate(first))
    rank = np.empty(count, np.int64)
    rank[np.argsort(begins)] = np.arange(count)
    of = rank[part]
    summed = np.bincount(of, weights=all_sizes, minlength=count).astype(np.int64)
    return Parts(mask, touching, summed, np.concatenate([[0], of + 1]))


def _labelled(mask: Bools, structure: npt.NDArray[np.int_]) -> Iterator[tuple[int, Numbers, int]]:
    """Where each slab begins, its numbers, and how many they are."""
    from scipy import ndimage

    for begin in range(0, mask.shape[2], DEPTH):
        labels, count = ndimage.label(mask[..., begin : begin + DEPTH], structure)
        yield begin, labels, int(count)


def _first(
    labels: Numbers, count: int, begin: int, shape: tuple[int, ...]
) -> npt.NDArray[np.int64]:
    """Where each number comes first in the whole mask, as a flat index."""
    flat = labels.ravel()
    places = np.flatnonzero(flat)
    at = np.empty(count, np.int64)
    at[flat[places[::-1]] - 1] = places[::-1]  # of several that are written the first is the last
    x, y, z = np.unravel_index(at, labels.shape)
    return np.asarray((x * shape[1] + y) * shape[2] + z + begin)


def _meeting(
    before: Numbers, after: Numbers, structure: npt.NDArray[np.int_], offset: int
) -> npt.NDArray[np.int64]:
    """(2, n) numbers of planes that follow each other and touch; those of the second are moved."""
    pairs = []
    m, n = before.shape
    for dx in (-1, 0, 1):
        for dy in (-1, 0, 1):
            if not structure[1 + dx, 1 + dy, 2]:
                continue
            a = before[max(0, -dx) : m - max(0, dx), max(0, -dy) : n - max(0, dy)]
            b = after[max(0, dx) : m - max(0, -dx), max(0, dy) : n - max(0, -dy)]
            both = (a > 0) & (b > 0)
            pairs.append(np.stack([a[both], b[both] + offset]).astype(np.int64))
    return np.unique(np.concatenate(pairs, axis=1), axis=1)
