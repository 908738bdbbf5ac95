"""Heatmap to mask: the threshold of one image, and the best there could be.

For one threshold of a whole set see `weakseg.masks.set_thresholds`. A mask is what lies
*strictly above* a threshold. No rule here returns a threshold below 0: where a heatmap is not
positive there is no heat, and no heat is never a lesion. Infinity stands for "nothing is chosen".

One room for one image: every threshold is found and applied by the same rule of ties.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from weakseg.masks.checks import (
    AT_ONCE,
    Bools,
    Floats,
    fraction,
    heat_of,
    numbers_of,
    real_heat,
    truth_of,
)
from weakseg.masks.order import kth_smallest

FLAT_TOLERANCE = 1e-6
"""A heatmap is flat when its range is at most this share of its largest magnitude."""


def is_flat(heatmap: npt.ArrayLike) -> bool:
    """Whether a heatmap says nothing about where.

    Parameters
    ----------
    heatmap : (M, N[, ...]) array_like
        Raw or normalised heat, any scale.

    Returns
    -------
    bool
        True when any value is not finite, none is positive, or all are equal: their range is at
        most ``FLAT_TOLERANCE`` times the largest magnitude.

    Raises
    ------
    ValueError
        When the heatmap has no pixel, or holds anything but real numbers.
    """
    h = numbers_of(heatmap)
    low, high = np.float64(h.min()), np.float64(h.max())
    if not (np.isfinite(low) and np.isfinite(high)) or high <= 0:
        return True
    # Halved, so that the range of the largest floats does not overflow.
    return bool(high / 2 - low / 2 <= FLAT_TOLERANCE * max(-low, high) / 2)


def normalise(heatmap: npt.ArrayLike) -> Floats:
    """Drop negative heat and divide by the heatmap's own maximum.

    Every map then peaks at 1, those of healthy images too: keep the raw scale beside it.

    Parameters
    ----------
    heatmap : (M, N[, ...]) array_like
        Raw heat, any scale.

    Returns
    -------
    (M, N[, ...]) ndarray of float64
        In [0, 1], with maximum 1; all zeros when the heatmap is flat (see `is_flat`).

    Raises
    ------
    ValueError
        When the heatmap has no pixel, or holds anything but finite real numbers.
    """
    h = heat_of(heatmap)
    if is_flat(h):
        return np.zeros_like(h)
    return np.maximum(h, 0.0) / h.max()


def apply_threshold(heatmap: npt.ArrayLike, threshold: float) -> Bools:
    """The mask of a threshold.

    Parameters
    ----------
    heatmap : (M, N[, ...]) array_like
    threshold : float
        On the heatmap's scale; infinity chooses nothing.

    Returns
    -------
    (M, N[, ...]) ndarray of bool
        True where the heat is strictly above the threshold: a pixel at the threshold is not
        lesion.

    Raises
    ------
    ValueError
        When the threshold is no number, or the heatmap has no pixel or holds anything but finite
        real numbers.
    """
    at = np.asarray(threshold)
    if at.ndim or at.dtype.kind not in "uif" or np.isnan(at):
        raise ValueError(f"threshold must be a number, got {threshold!r}")
    heat = np.asarray(heatmap)
    if heat.size <= AT_ONCE or heat.dtype.kind not in "buif":
        return np.asarray(heat_of(heatmap) > at)
    mask = np.empty(heat.shape, dtype=bool)
    for part, out in zip(heat, mask, strict=True):  # as doubles all of a volume takes memory
        out[...] = heat_of(part) > at
    return mask


def normalised_mask(heatmap: npt.ArrayLike, threshold: float) -> Bools:
    """``apply_threshold(normalise(heatmap), threshold)``; of large volumes a part at a time.

    Parameters
    ----------
    heatmap : (M, N[, ...]) array_like
        Raw heat, any scale.
    threshold : float
        On heat over its own maximum.
    """
    h = numbers_of(heatmap)
    if h.size <= AT_ONCE or is_flat(h):
        return apply_threshold(normalise(heatmap), threshold)
    mask = np.empty(h.shape, dtype=bool)
    for part, out in zip(_normalised_parts(h), mask, strict=True):
        out[...] = part > threshold
    return mask


def _normalised_parts(heat: npt.NDArray[Any]) -> Iterator[Floats]:
    """`normalise`, of heat that is not flat, along its first axis."""
    peak = np.float64(heat.max())
    for part in heat:
        yield np.maximum(heat_of(part), 0.0) / peak


def fixed_threshold(at: float) -> float:
    """A share of the peak, for normalised heatmaps.

    Raises
    ------
    ValueError
        When ``at`` is not in (0, 1).
    """
    return fraction("at", at)


def otsu_threshold(heatmap: npt.ArrayLike) -> float:
    """Otsu's threshold of the normalised heatmap, over 256 bins.

    Parameters
    ----------
    heatmap : (M, N[, ...]) array_like
        Raw or normalised; it is normalised here.

    Returns
    -------
    float
        In [0, 1], to be held against ``normalise(heatmap)``: the centre of the last cool bin, as
        scikit-image gives it. Infinity when the heatmap is flat.

    References
    ----------
    N. Otsu, "A Threshold Selection Method from Gray-Level Histograms", IEEE Trans. SMC 9(1), 1979.
    """
    from skimage.filters import threshold_otsu

    large = numbers_of(heatmap)
    if large.size > AT_ONCE and not is_flat(large):
        return float(threshold_otsu(hist=_counted(large)))
    h = normalise(heatmap)
    # Flat, lest scikit-image takes a volume four voxels deep for a colour image.
    return float(threshold_otsu(h.ravel())) if h.any() else np.inf


def _counted(heat: npt.NDArray[Any], bins: int = 256) -> tuple[npt.NDArray[Any], Floats]:
    """How many values of normalised heat each bin holds, and the bins' centres.

    As scikit-image counts them at once: bins of one width between the lowest value and 1.
    """
    low = max(np.float64(heat.min()), 0.0) / np.float64(heat.max())
    counts, edges = np.zeros(bins, dtype=np.int64), np.zeros(bins + 1)
    for part in _normalised_parts(heat):
        found, edges = np.histogram(part, bins=bins, range=(low, 1.0))
        counts += found
    return counts, (edges[:-1] + edges[1:]) / 2.0


def quantile_threshold(heatmap: npt.ArrayLike, q: float) -> float:
    """The value that at most a share of 1 - q of the pixels lies strictly above.

    Parameters
    ----------
    heatmap : (M, N[, ...]) array_like
    q : float
        In (0, 1).

    Returns
    -------
    float
        The q-quantile, an existing value (the higher one between two), on the heatmap's scale;
        at least 0, so that a heatmap that is mostly 0 yields its positive heat, which may be far
        less than 1 - q; infinity when the heatmap is flat.

    Raises
    ------
    ValueError
        When ``q`` is out of range.
    """
    fraction("q", q)
    large = numbers_of(heatmap)
    if large.size > AT_ONCE and large.dtype.char in "efd":
        if is_flat(large):
            return np.inf
        return max(0.0, kth_smallest(large, int(np.ceil(q * (large.size - 1)))))
    h = real_heat(heatmap)
    if is_flat(h):
        return np.inf
    return max(0.0, float(np.quantile(h, q, method="higher")))


def area_prior_threshold(heatmap: npt.ArrayLike, area: float, region: npt.ArrayLike) -> float:
    """The threshold that leaves the hottest share of a region.

    Parameters
    ----------
    heatmap : (M, N[, ...]) array_like
    area : float
        Share of the region's pixels, in (0, 1).
    region : (M, N[, ...]) array_like of bool
        For instance the body.

    Returns
    -------
    float
        On the heatmap's scale, at least 0. Within the region at most ``area`` of the pixels lie
        above it: of pixels that tie at the limit none is taken. Infinity when the heatmap is
        flat or the region is empty.

    Raises
    ------
    ValueError
        When ``area`` is out of range or the shapes differ.
    """
    fraction("area", area)
    large, inside = numbers_of(heatmap), truth_of(region, heatmap, "region")
    size = int(np.count_nonzero(inside))
    if is_flat(large) or not size:
        return np.inf
    # 0.07 * 100 is 7.000000000000001, 0.29 * 100 is 28.999999999999996: 29 are meant.
    at = size - 1 - int(np.floor(area * size + 1e-9))
    if large.size > AT_ONCE and large.dtype.char in "efd":
        return max(0.0, kth_smallest(_Inside(large, inside), at))
    return max(0.0, float(np.sort(real_heat(large)[inside])[at]))


@dataclass(frozen=True)
class _Inside:
    """The values inside a region, a part along the first axis at a time."""

    values: npt.NDArray[Any]
    region: Bools

    def __iter__(self) -> Iterator[npt.NDArray[Any]]:
        return (part[inside] for part, inside in zip(self.values, self.region, strict=True))


def area_prior_mask(heatmap: npt.ArrayLike, area: float, region: npt.ArrayLike) -> Bools:
    """The hottest share of a region; nothing outside it and nothing without heat.

    Parameters, tie rule and errors as in `area_prior_threshold`.

    Returns
    -------
    (M, N[, ...]) ndarray of bool
        At most ``area`` of the region.
    """
    mask = apply_threshold(heatmap, area_prior_threshold(heatmap, area, region))
    mask &= np.asarray(region, dtype=bool)
    return mask


def dice_curve(heatmap: npt.ArrayLike, truth: npt.ArrayLike, thresholds: npt.ArrayLike) -> Floats:
    """Dice of one image's masks at many thresholds, exactly.

    Parameters
    ----------
    heatmap : (M, N[, ...]) array_like
        NaN is never above a threshold.
    truth : (M, N[, ...]) array_like of bool
    thresholds : (T,) array_like
        In any order, on the heatmap's scale.

    Returns
    -------
    (T,) ndarray of float64
        In [0, 1]. Two empty masks agree: 1.

    Raises
    ------
    ValueError
        When the shapes differ.
    """
    h, lesion = real_heat(heatmap), truth_of(truth, heatmap, "truth")
    at = np.asarray(thresholds, dtype=np.float64)
    # What no mask holds, most of an image and every NaN, need not be sorted.
    above = h > np.fmin.reduce(at, initial=np.inf)
    chosen = _count_above(h[above], at)
    hits = _count_above(h[above & lesion], at)
    return _dice(hits, chosen, int(np.count_nonzero(lesion)))


def _count_above(values: Floats, at: Floats) -> npt.NDArray[np.intp]:
    return values.size - np.searchsorted(np.sort(values), at, side="right")


def oracle_threshold(heatmap: npt.ArrayLike, truth: npt.ArrayLike) -> float:
    """The best threshold of one image on its own truth: an upper bound, never a result.

    Parameters
    ----------
    heatmap : (M, N[, ...]) array_like
    truth : (M, N[, ...]) array_like of bool

    Returns
    -------
    float
        0 or a positive value of the heatmap; no threshold of at least 0 has a higher Dice. Of
        equally good ones the highest. Infinity when nothing should be chosen: the truth is empty,
        no heat falls on it, or the heatmap is flat.

    Raises
    ------
    ValueError
        When the shapes differ.
    """
    h, lesion = real_heat(heatmap), truth_of(truth, heatmap, "truth")
    if is_flat(h) or not lesion.any():
        return np.inf
    order = np.argsort(h, axis=None)[::-1]
    values = np.append(h.ravel()[order], 0.0)
    values = np.maximum(values, 0.0)
    hits = np.cumsum(lesion.ravel()[order], dtype=np.intp)
    # A threshold stands below a run of equal values and above the next: cut only where they change.
    cuts = np.flatnonzero(values[:-1] > values[1:])
    scores = _dice(hits[cuts], cuts + 1, int(lesion.sum()))
    if not scores.any():
        return np.inf
    return float(values[cuts[np.argmax(scores)] + 1])


def _dice(hits: npt.NDArray[np.intp], chosen: npt.NDArray[np.intp], lesion: int) -> Floats:
    both = np.asarray(chosen + lesion, dtype=np.float64)
    return np.divide(2.0 * hits, both, out=np.ones_like(both), where=both > 0)
