"""Patients dealt out to parts of given shares, each with images of every class."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

CANDIDATES = 200
"""Random orders of the patients that are tried."""


def best_deal(
    counts: NDArray[np.int64],
    share: NDArray[np.float64],
    rng: np.random.Generator,
    least_each: int = 1,
) -> NDArray[np.int64] | None:
    """Deal patients out, the best of `CANDIDATES` random orders.

    Parameters
    ----------
    counts : (patients, classes) ndarray of int
        Images.
    share : (parts,) ndarray of float
        Of the images, for each part; their sum is 1.
    rng : Generator
    least_each : int
        Patients of every class that every part must have.

    Returns
    -------
    (patients,) ndarray of int, or None
        The part of each patient: of the deals in which every part has patients of every class, the
        one whose parts differ least from the shares of images and of classes that they should
        have. None where no deal has.
    """
    total, whole = counts.sum(), counts.sum(axis=0)
    best, least = None, np.inf
    for _ in range(CANDIDATES):
        side = _deal(counts, share, rng.permutation(len(counts)))
        per_split = np.stack([counts[side == s].sum(axis=0) for s in range(len(share))])
        if not per_split.all() or (least_each > 1 and _fewest(counts, side) < least_each):
            continue
        sizes = per_split.sum(axis=1)
        classes = per_split / sizes[:, None] - whole / total
        off = np.abs(sizes / total - share).sum() + np.abs(classes).sum()
        if off < least - 1e-12:
            best, least = side, off
    return best


def _fewest(counts: NDArray[np.int64], side: NDArray[np.int64]) -> int:
    """Patients of the class and part with fewest."""
    has = counts > 0
    return min(int(has[side == s].sum(axis=0).min()) for s in np.unique(side))


def _deal(
    counts: NDArray[np.int64], share: NDArray[np.float64], order: NDArray[np.int64]
) -> NDArray[np.int64]:
    side = np.full(len(counts), -1)
    has = counts > 0
    # The rarest class first: a random deal would hardly ever give it to every split.
    for k in np.argsort(has.sum(axis=0), kind="stable"):
        for s in reversed(range(len(share))):
            if not has[side == s, k].any():
                free = order[(side[order] < 0) & has[order, k]]
                side[free[:1]] = s
    images = counts.sum(axis=1)
    for s in range(len(share) - 1, 0, -1):
        rest = order[side[order] < 0]
        reached = np.concatenate([[0], np.cumsum(images[rest])]) + images[side == s].sum()
        side[rest[: int(np.abs(reached - share[s] * images.sum()).argmin())]] = s
    side[side < 0] = 0
    return side
