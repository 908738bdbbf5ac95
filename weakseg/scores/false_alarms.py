"""Cuts on several kinds of evidence of a lesion, chosen on labels for a share of false alarms."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

Values = NDArray[np.float64]


def cuts_for_false_alarms(
    is_lesion: ArrayLike,
    first: ArrayLike,
    second: ArrayLike,
    share: float,
    *,
    patients: ArrayLike | None = None,
    confidence: float | None = None,
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
    patients : (N,) array_like, optional
        Whose image each is; of ``confidence``.
    confidence : float, optional
        In [1/2, 1). Not the share of these images is held to ``share`` then, but what it may be
        among other patients: `upper_share`.

    Returns
    -------
    first_cut, second_cut : float
        In [0, 1]; 0 where nothing has to be cut. Where no pair keeps to the share, that of the
        fewest false alarms. Of equally good pairs the one with the lower first cut is taken, then
        with the lower second. A cut lies midway between two neighbouring values of its kind.

    Raises
    ------
    ValueError
        Where one kind of image is missing, lengths differ, values are out of range, or patients
        are asked for and missing.
    """
    lesion = np.asarray(is_lesion, dtype=bool)
    a, b = (np.asarray(v, dtype=np.float64) for v in (first, second))
    if not lesion.ndim == 1 == a.ndim == b.ndim or not len(lesion) == len(a) == len(b):
        raise ValueError("is_lesion, first and second must be of one length")
    if lesion.all() or not lesion.any():
        raise ValueError("is_lesion must hold images with and without a lesion")
    if not all(((v >= 0) & (v <= 1)).all() for v in (a, b)) or not 0 <= share <= 1:
        raise ValueError("first, second and share must be in [0, 1]")
    whose, healthy_of = _patients(lesion, patients, confidence)
    most = _most(share, lesion)

    def allowed(falling: NDArray[np.intp]) -> int:
        """How many of the healthy images, by falling evidence, may be marked."""
        if confidence is None:
            return most
        marked = falling[: most + 1]  # more is above the share by itself
        of = np.zeros((len(marked), len(healthy_of)))
        of[np.arange(len(marked)), whose[marked]] = 1
        bounds = upper_share(of.cumsum(0), healthy_of, confidence)
        return int((np.r_[bounds, np.inf] > share + 1e-12).argmax())

    there = np.flatnonzero(b > 0)  # without the second nothing is marked
    lesion, a, b, whose = lesion[there], a[there], b[there], whose[there]
    if not len(lesion):
        return 0.0, 0.0
    pairs = []
    for cut in [0.0, *_above(a, a[~lesion])]:
        left = a >= cut
        healthy = np.flatnonzero(left & ~lesion)
        falling = healthy[np.argsort(-b[healthy], kind="stable")]
        may = allowed(falling)
        # The lowest second cut that lets no more healthy images through, or the highest there is.
        too_many = b[falling[may:]]
        for other in [0.0] if not len(too_many) else _above(b, too_many)[-1:] or [0.0]:
            marked = left & (b >= other)
            alarms = int((marked & ~lesion).sum())
            too_often = alarms if alarms > may else 0
            pairs.append((too_often, -int((marked & lesion).sum()), cut, other))
    *_, first_cut, second_cut = min(pairs)
    return first_cut, second_cut


def keeps_to_share(
    is_lesion: ArrayLike,
    marked: ArrayLike,
    share: float,
    *,
    patients: ArrayLike | None = None,
    confidence: float | None = None,
) -> bool:
    """Whether the healthy images that are marked are no more than `cuts_for_false_alarms` allows.

    Parameters
    ----------
    is_lesion, marked : (N,) array_like of bool
    share, patients, confidence
        As there.
    """
    lesion = np.asarray(is_lesion, dtype=bool)
    alarms = np.asarray(marked, dtype=bool) & ~lesion
    if confidence is None:
        return int(alarms.sum()) <= _most(share, lesion)
    whose, healthy_of = _patients(lesion, patients, confidence)
    of = np.bincount(whose[alarms], minlength=len(healthy_of))
    return bool(upper_share(of, healthy_of, confidence) <= share + 1e-12)


def _most(share: float, lesion: NDArray[np.bool_]) -> int:
    """How many healthy images a share lets be marked; of a part of an image the whole."""
    return math.ceil(share * int((~lesion).sum()) - 1e-9)


def upper_share(marked: ArrayLike, healthy: ArrayLike, confidence: float) -> Values:
    """Up to what the share of marked healthy images may be, as few patients tell it.

    Parameters
    ----------
    marked : (..., P) array_like of float
        How many healthy images of each patient are marked.
    healthy : (P,) array_like of float
        How many it has, at least one.
    confidence : float
        One-sided, in [1/2, 1).

    Returns
    -------
    (...) ndarray of float64
        The share s of all images and, above it, Student's quantile with P - 1 degrees of freedom
        times its standard error over patients, whose images are no independent witnesses:
        sqrt(P / (P - 1) · Σ (marked - s · healthy)²) / Σ healthy. 0 where nothing is marked, for
        then nothing tells how patients differ; infinite for anything that a single patient has.

    References
    ----------
    W. G. Cochran, "Sampling Techniques", 3rd ed., 1977, section 3.12, for shares of clusters of
    unequal size.
    """
    from scipy import stats

    m, n = np.asarray(marked, dtype=np.float64), np.asarray(healthy, dtype=np.float64)
    share = m.sum(-1) / n.sum()
    if len(n) < 2:
        return np.where(share > 0, np.inf, 0.0)
    squares = np.square(m - share[..., None] * n).sum(-1)
    error = np.sqrt(len(n) / (len(n) - 1) * squares) / n.sum()
    found: Values = share + stats.t.ppf(confidence, len(n) - 1) * error
    return found


def _patients(
    lesion: NDArray[np.bool_], patients: ArrayLike | None, confidence: float | None
) -> tuple[NDArray[np.intp], Values]:
    """The number of each image's patient, and how many healthy images each patient has."""
    if confidence is None:
        return np.zeros(len(lesion), dtype=np.intp), np.ones(1)
    if not 0.5 <= confidence < 1:
        raise ValueError(f"confidence must be in [1/2, 1), got {confidence}")
    if patients is None or len(named := np.asarray(patients)) != len(lesion):
        raise ValueError("confidence needs patients, one for each image")
    # Patients without a healthy image tell nothing of false alarms, and are not counted.
    known, numbers = np.unique(named[~lesion], return_inverse=True)
    whose = np.zeros(len(lesion), dtype=np.intp)
    whose[~lesion] = numbers
    return whose, np.bincount(numbers, minlength=len(known)).astype(np.float64)


def _above(values: Values, some: Values) -> list[float]:
    """Cuts just above each of some values, midway to the next higher of all; none above the top."""
    every, low = np.unique(values), np.unique(some)
    low = low[low < every[-1]]
    return ((low + every[np.searchsorted(every, low, side="right")]) / 2).tolist()
