"""Grey values in clusters: k-means, and fuzzy c-means, where a value belongs to all by degrees."""

from __future__ import annotations

import warnings

import numpy as np
import numpy.typing as npt

from weakseg.masks.checks import Bools, Floats
from weakseg.masks.region import brightness

LEVELS = 256
"""Steps of grey that are told apart."""

Ints = npt.NDArray[np.intp]


def memberships(values: npt.ArrayLike, centres: npt.ArrayLike, fuzziness: float = 2.0) -> Floats:
    """The degrees by which values belong to clusters, as fuzzy c-means has them.

    Parameters
    ----------
    values : (n, D) array_like
    centres : (k, D) array_like
    fuzziness : float, optional
        Above 1; near 1 all belongs to the nearest.

    Returns
    -------
    (n, k) ndarray of float64
        Rows sum to 1. A value that lies on a centre belongs to it alone, to several centres of one
        place in equal parts.

    Raises
    ------
    ValueError
        When ``fuzziness`` is not above 1.
    """
    if not fuzziness > 1:
        raise ValueError(f"fuzziness must be above 1, got {fuzziness}")
    x, c = np.asarray(values, dtype=np.float64), np.asarray(centres, dtype=np.float64)
    squared = ((x[:, None] - c[None]) ** 2).sum(-1)
    nearest = squared.min(axis=1, keepdims=True)
    on = squared == 0
    with np.errstate(divide="ignore", invalid="ignore"):
        nearness = (nearest / squared) ** (1 / (fuzziness - 1))  # of the nearest 1: none overflows
    nearness = np.where(nearest > 0, nearness, on)
    return np.asarray(nearness / nearness.sum(axis=1, keepdims=True))


def fuzzy_c_means(
    values: npt.ArrayLike,
    centres: npt.ArrayLike,
    *,
    weights: npt.ArrayLike | None = None,
    fuzziness: float = 2.0,
    steps: int = 100,
    tolerance: float = 1e-6,
) -> Floats:
    """The centres of fuzzy c-means, by alternating between memberships and centres.

    Parameters
    ----------
    values : (n, D) array_like
    centres : (k, D) array_like
        To begin with.
    weights : (n,) array_like, optional
        How often each value occurs; default: once.
    fuzziness : float, optional
        See `memberships`.
    steps : int, optional
        At most.
    tolerance : float, optional
        No further step is done once no centre moves by more.

    Returns
    -------
    (k, D) ndarray of float64
        In the order of those to begin with.

    References
    ----------
    Bezdek, "Pattern recognition with fuzzy objective function algorithms", 1981.
    """
    x, c = np.asarray(values, dtype=np.float64), np.asarray(centres, dtype=np.float64)
    often = np.ones(len(x)) if weights is None else np.asarray(weights, dtype=np.float64)
    for _ in range(steps):
        degrees = often[:, None] * memberships(x, c, fuzziness) ** fuzziness
        sums = degrees.sum(axis=0)[:, None]
        # A centre that nothing belongs to stays.
        moved = np.where(sums > 0, (degrees.T @ x) / np.where(sums > 0, sums, 1), c)
        done = np.abs(moved - c).max() <= tolerance
        c = moved
        if done:
            break
    return c


def grey_clusters(image: npt.ArrayLike, count: int, fuzzy: bool = False) -> Ints:
    """Which cluster of grey values each pixel belongs to, the darkest first.

    Parameters
    ----------
    image : (M, N) or (M, N, C) array_like
        Channels are averaged.
    count : int
        How many clusters. They begin evenly between the darkest and the brightest value, so that
        the same image gives the same ones; an image of fewer values has fewer.
    fuzzy : bool, optional
        Fuzzy c-means, by scikit-learn's k-means otherwise; a pixel counts for the cluster that it
        belongs to most, of equal ones the darker.

    Returns
    -------
    (M, N) ndarray of int
        From 0; -1 where a value is no finite number.
    """
    grey = brightness(image)
    finite = np.isfinite(grey)
    cluster = np.full(grey.shape, -1, dtype=np.intp)
    if not finite.any():
        return cluster
    low, high = grey[finite].min(), grey[finite].max()
    if not high > low:
        cluster[finite] = 0
        return cluster
    level = np.rint((grey[finite] - low) / (high - low) * (LEVELS - 1)).astype(np.intp)
    often = np.bincount(level, minlength=LEVELS)
    values = np.flatnonzero(often)
    count = min(count, len(values))
    begin = (np.arange(count) + 0.5) / count * (LEVELS - 1)
    centres = (_fuzzy if fuzzy else _hard)(values[:, None], begin[:, None], often[values])
    nearest = np.abs(values[:, None] - np.sort(centres[:, 0])[None]).argmin(axis=1)
    of_level = np.zeros(LEVELS, dtype=np.intp)
    of_level[values] = nearest
    cluster[finite] = of_level[level]
    return cluster


def _fuzzy(values: Ints, begin: Floats, often: Ints) -> Floats:
    return fuzzy_c_means(values, begin, weights=often)


def _hard(values: Ints, begin: Floats, often: Ints) -> Floats:
    from sklearn.cluster import KMeans
    from sklearn.exceptions import ConvergenceWarning

    means = KMeans(len(begin), init=begin, n_init=1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # of two levels that are one cluster
        means.fit(values, sample_weight=often)
    return np.asarray(means.cluster_centers_, dtype=np.float64)


def end_cluster(
    image: npt.ArrayLike, count: int, fuzzy: bool = False, bright: bool = True
) -> Bools:
    """The pixels of the brightest or darkest cluster, see `grey_clusters`.

    Of an image of one value, all.
    """
    cluster = grey_clusters(image, count, fuzzy)
    return np.asarray((cluster >= 0) & (cluster == (cluster.max() if bright else 0)))
