"""Heatmaps to masks by one threshold for a whole set.

As in `weakseg.masks.thresholds`, a mask is what lies *strictly above* a threshold, and no threshold
is below 0.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

from weakseg.masks.checks import Floats, fraction, real_heat
from weakseg.masks.thresholds import dice_curve

POOLED_VALUES = 1024
"""How many values of an image go into a pool over images."""

POOL_LIMIT = 2**25
"""How many values a pool holds at most: those of 32768 images, 128 MiB of float32."""

GRID: Floats = np.linspace(0.0, 1.0, 101)
"""Thresholds that are tried on normalised heatmaps: 0, 0.01, …, 1."""


def train_quantile_threshold(heatmaps: Iterable[npt.ArrayLike], q: float) -> float:
    """One threshold for a set: the quantile of the heat of many images together.

    An image enters with ``POOLED_VALUES`` of its own quantiles, evenly spaced, whatever its size:
    large images weigh no more than small ones, and nothing is drawn at random. The result's rank
    in the full pool is off by less than 1 / ``POOLED_VALUES`` (0.1 %). Memory is bounded: more
    images than ``POOL_LIMIT`` has room for enter with half as many values each, or a quarter, and
    so on, and the rank is off by less than one over that number.

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
    return max(0.0, float(np.quantile(_pool(heatmaps), q, method="higher", overwrite_input=True)))


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
    values = _pool(heatmaps)
    values = values[values > 0].astype(np.float64)
    if not values.size:
        return np.zeros(1)
    quantiles = np.quantile(values, np.linspace(0, 1, count - 1), overwrite_input=True)
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


def _pool(heatmaps: Iterable[npt.ArrayLike]) -> npt.NDArray[np.floating]:
    """Evenly spaced quantiles of every image, as many of each, in no order.

    Raises
    ------
    ValueError
        When there is no heatmap.
    """
    count = POOLED_VALUES
    pool: list[npt.NDArray[np.floating]] = []
    for heatmap in heatmaps:
        if (len(pool) + 1) * count > POOL_LIMIT and count > 1:
            count //= 2
            # Now the lower of two neighbours, now the upper: on the whole no quantile moves.
            pool = [sample[k % 2 :: 2].copy() for k, sample in enumerate(pool)]
        pool.append(_sample(heatmap, count))
    if not pool:
        raise ValueError("heatmaps must hold at least one heatmap, got none")
    return np.concatenate(pool)


def _sample(heatmap: npt.ArrayLike, count: int) -> npt.NDArray[np.floating]:
    # Heat as it is stored has few bits, which take no more room here than there.
    kind = np.result_type(np.asarray(heatmap).dtype, np.float32)
    h = np.sort(real_heat(heatmap), axis=None)
    if not np.isfinite(h[[0, -1]]).all():
        return np.zeros(count, dtype=kind)
    return h[((np.arange(count) + 0.5) / count * h.size).astype(np.intp)].astype(kind)


class MeanCurve:
    """Mean Dice of several lesions at every threshold of `GRID`: for looking, not for choosing."""

    def __init__(self) -> None:
        self._total, self._lesions = np.zeros(len(GRID)), 0

    def add(self, dice: npt.ArrayLike) -> None:
        """Count a lesion by its Dice at each threshold."""
        self._total += np.asarray(dice)
        self._lesions += 1

    def rows(self) -> list[dict[str, float]]:
        """``threshold`` and ``dice`` of every point; none without a lesion."""
        if not self._lesions:
            return []
        return [
            {"threshold": round(float(t), 4), "dice": round(float(d), 6)}
            for t, d in zip(GRID, self._total / self._lesions, strict=True)
        ]
