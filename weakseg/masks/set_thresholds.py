"""Heatmaps to masks by one threshold for a whole set.

As in `weakseg.masks.thresholds`, a mask is what lies *strictly above* a threshold, and no threshold
is below 0.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

from weakseg.masks.checks import Floats, fraction, heat_of
from weakseg.masks.thresholds import dice_curve

POOLED_VALUES = 1024
"""How many values of an image go into a pool over images."""

GRID: Floats = np.linspace(0.0, 1.0, 101)
"""Thresholds that are tried on normalised heatmaps: 0, 0.01, …, 1."""


def train_quantile_threshold(heatmaps: Iterable[npt.ArrayLike], q: float) -> float:
    """One threshold for a set: the quantile of the heat of many images together.

    An image enters with ``POOLED_VALUES`` of its own quantiles, evenly spaced, whatever its size:
    large images weigh no more than small ones, memory stays bounded (8 KiB an image), and nothing
    is drawn at random. The result's rank in the full pool is off by less than
    1 / ``POOLED_VALUES`` (0.1 %).

    Parameters
    ----------
    heatmaps : iterable of (M, N[, ...]) array_like
        Raw heat on one common scale; read once. Sizes may differ. A map that holds a value that
        is not finite counts as all zeros.
    q : float
        In (0, 1).

    Returns
    -------
    float
        At least 0, on the common scale.

    Raises
    ------
    ValueError
        When there is no heatmap or ``q`` is out of range.
    """
    fraction("q", q)
    pool = [_sample(h) for h in heatmaps]
    if not pool:
        raise ValueError("heatmaps must hold at least one heatmap, got none")
    return max(0.0, float(np.quantile(np.concatenate(pool), q, method="higher")))


def candidate_thresholds(heatmaps: Iterable[npt.ArrayLike], count: int = 101) -> Floats:
    """Thresholds worth trying on raw heat: 0 and evenly spaced quantiles of the positive heat.

    Parameters
    ----------
    heatmaps : iterable of (M, N[, ...]) array_like
        As in `train_quantile_threshold`.
    count : int
        At least 2.

    Returns
    -------
    (T,) ndarray of float64
        Ascending, distinct, from 0 to the largest sampled value, T <= count; just 0 when there is
        no positive heat.

    Raises
    ------
    ValueError
        When there is no heatmap or ``count`` is below 2.
    """
    if count < 2:
        raise ValueError(f"count must be at least 2, got {count}")
    pool = [_sample(h) for h in heatmaps]
    if not pool:
        raise ValueError("heatmaps must hold at least one heatmap, got none")
    values = np.concatenate(pool)
    values = values[values > 0]
    if not values.size:
        return np.zeros(1)
    quantiles = np.quantile(values, np.linspace(0, 1, count - 1))
    return np.unique(np.concatenate([[0.0], quantiles]))


def best_threshold(
    heatmaps: Iterable[npt.ArrayLike],
    truths: Iterable[npt.ArrayLike],
    candidates: npt.ArrayLike = GRID,
) -> tuple[float, Floats]:
    """One threshold for a set: the best mean Dice over the images with a lesion.

    Parameters
    ----------
    heatmaps : iterable of (M, N[, ...]) array_like
        All normalised, or all raw on one scale; sizes may differ.
    truths : iterable of (M, N[, ...]) array_like of bool
        As many; images whose truth is empty are left out.
    candidates : (T,) array_like
        For raw heat see `candidate_thresholds`; the default is meant for normalised heatmaps.

    Returns
    -------
    threshold : float
        Of equally good ones the highest.
    curve : (T,) ndarray of float64
        Mean Dice at each candidate, in their order.

    Raises
    ------
    ValueError
        When no image has a lesion, the counts differ or there is no candidate.
    """
    at = np.asarray(candidates, dtype=np.float64)
    if at.ndim != 1 or not at.size or np.isnan(at).any():
        raise ValueError(f"candidates must be a list of numbers, got shape {at.shape}: {at}")
    total, images = np.zeros(at.size), 0
    for heatmap, truth in zip(heatmaps, truths, strict=True):
        if np.any(truth):
            total += dice_curve(heatmap, truth, at)
            images += 1
    if not images:
        raise ValueError("truths must hold a lesion in at least one image, got only empty masks")
    curve = total / images
    return float(at[curve == curve.max()].max()), curve


def _sample(heatmap: npt.ArrayLike) -> Floats:
    h = np.sort(heat_of(heatmap), axis=None)
    if not np.isfinite(h[[0, -1]]).all():
        return np.zeros(POOLED_VALUES)
    return h[((np.arange(POOLED_VALUES) + 0.5) / POOLED_VALUES * h.size).astype(np.intp)]
