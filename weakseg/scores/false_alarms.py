"""Cuts on several kinds of evidence of a lesion, chosen on labels for a share of false alarms."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

Values = NDArray[np.float64]


def cuts_for_false_alarms(
    is_lesion: ArrayLike, first: ArrayLike, second: ArrayLike, share: float
) -> tuple[float, float]:
    """The pair of cuts that keeps the most lesions at no more than so many false alarms.

    An image is marked where both kinds of evidence are at or above their cuts, and there is some
    of the second.

    Parameters
    ----------
    is_lesion : (N,) array_like of bool
        The labels, with both kinds of image.
    first, second : (N,) array_like of float
        Evidence of a lesion, in [0, 1].
    share : float
        Of the healthy images that may be marked, in [0, 1]; of a part of an image the whole.

    Returns
    -------
    first_cut, second_cut : float
        In [0, 1]; 0 where nothing has to be cut. Where no pair keeps to the share, that of the
        fewest false alarms. Of equally good pairs the one with the lower first cut is taken, then
        with the lower second. A cut lies midway between two neighbouring values of its kind.

    Raises
    ------
    ValueError
        Where one kind of image is missing, lengths differ, or values are out of range.
    """
    lesion = np.asarray(is_lesion, dtype=bool)
    a, b = (np.asarray(v, dtype=np.float64) for v in (first, second))
    if not lesion.ndim == 1 == a.ndim == b.ndim or not len(lesion) == len(a) == len(b):
        raise ValueError("is_lesion, first and second must be of one length")
    if lesion.all() or not lesion.any():
        raise ValueError("is_lesion must hold images with and without a lesion")
    if not all(((v >= 0) & (v <= 1)).all() for v in (a, b)) or not 0 <= share <= 1:
        raise ValueError("first, second and share must be in [0, 1]")
    allowed = math.ceil(share * int((~lesion).sum()) - 1e-9)
    lesion, a, b = lesion[b > 0], a[b > 0], b[b > 0]  # without the second nothing is marked
    if not len(lesion):
        return 0.0, 0.0
    pairs = []
    for cut in [0.0, *_above(a, a[~lesion])]:
        left = a >= cut
        # The lowest second cut that lets no more healthy images through, or the highest there is.
        too_many = np.sort(b[left & ~lesion])[: max(int((left & ~lesion).sum()) - allowed, 0)]
        for other in [0.0] if not len(too_many) else _above(b, too_many)[-1:] or [0.0]:
            marked = left & (b >= other)
            excess = max(int((marked & ~lesion).sum()) - allowed, 0)
            pairs.append((excess, -int((marked & lesion).sum()), cut, other))
    *_, first_cut, second_cut = min(pairs)
    return first_cut, second_cut


def _above(values: Values, some: Values) -> list[float]:
    """Cuts just above each of some values, midway to the next higher of all; none above the top."""
    every, low = np.unique(values), np.unique(some)
    low = low[low < every[-1]]
    return ((low + every[np.searchsorted(every, low, side="right")]) / 2).tolist()
