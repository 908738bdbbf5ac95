"""How well the classifier tells images apart, with intervals over patients."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from weakseg.scores.checks import Floats, Mask
from weakseg.scores.statistics import (
    check_bootstrap,
    patient_numbers,
    percentile_interval,
    ratio,
    resampled_counts,
)

ECE_BINS = 10
_BLOCK_CELLS = 2_000_000


def classification_scores(
    y: ArrayLike,
    probabilities: ArrayLike,
    lesion_classes: Sequence[int],
    patients: ArrayLike,
    *,
    bootstrap: int = 2000,
    seed: int = 0,
) -> dict[str, dict[str, float]]:
    """Score a classifier's probabilities.

    P(lesion) is the sum of the lesion classes' probabilities. The predicted class is the most
    probable one, the lowest class number on a tie.

    Parameters
    ----------
    y : (N,) array_like of int
        True class numbers.
    probabilities : (N, K) array_like of float
        Rows that sum to 1, K at least 2.
    lesion_classes : sequence of int
        Class numbers that are lesions.
    patients : (N,) array_like of str
        The patient of each image.
    bootstrap : int, optional
        Resamples of the patients for the 95 % percentile intervals.
    seed : int, optional
        Of the draw.

    Returns
    -------
    dict of dict
        Under each name ``value``, ``low`` and ``high``:

        - ``auc_lesion``: area under the ROC curve of P(lesion), lesion against healthy;
        - ``auc_macro``: mean of the one-against-rest areas of the classes that occur; absent for
          two classes, where it equals ``auc_lesion``;
        - ``accuracy``: share of images whose predicted class is the true one;
        - ``balanced_accuracy``: mean recall of the classes that occur;
        - ``sensitivity``, ``specificity``: share of lesion images whose predicted class is a
          lesion, of healthy images whose predicted class is not;
        - ``ece``: expected calibration error of P(lesion) over ten bins of equal width,
          [0, 0.1) ... [0.9, 1]: mean over images of the distance between a bin's mean
          probability and its share of lesions. It is biased upwards in small samples, and more
          so in resamples;
        - ``brier``: mean squared difference of P(lesion) and truth.

        A score without meaning (areas and balanced accuracy of a single class, sensitivity
        without lesions, ...) is NaN with NaN ends. Resamples in which it has none, because a
        class was not drawn, are dropped. For a single patient both ends are NaN.

    Raises
    ------
    ValueError
        For arrays that do not fit together, class numbers out of range, or rows that are no
        probabilities.

    References
    ----------
    C. Guo et al., "On calibration of modern neural networks", ICML 2017 (ECE).
    G. W. Brier, "Verification of forecasts expressed in terms of probability", 1950.
    """
    truth, p = _checked(y, probabilities, lesion_classes)
    names = np.asarray(patients)
    if names.shape != truth.shape:
        raise ValueError(
            f"patients must have one entry an image, {truth.shape}, got shape {names.shape}"
        )
    check_bootstrap(bootstrap)
    number, count = patient_numbers(names)
    classes = np.unique(truth)
    lesions = np.asarray(lesion_classes)

    point = _weighted_scores(np.ones((1, len(truth))), truth, p, lesions, classes)
    rows = max(1, _BLOCK_CELLS // len(truth))
    parts = [
        _weighted_scores(counts[i : i + rows, number], truth, p, lesions, classes)
        for counts in resampled_counts(count, bootstrap, seed)
        for i in range(0, len(counts), rows)
    ]
    scores = {}
    for name, value in point.items():
        low, high = percentile_interval(np.concatenate([part[name] for part in parts]), count)
        scores[name] = {"value": float(value[0]), "low": low, "high": high}
    return scores


def weighted_auc(positive: Mask, score: Floats, weights: Floats) -> Floats:
    """Area under the ROC curve for many sets of weights at once.

    The probability that a positive scores above a negative, both drawn by weight; a tie counts
    half (Mann and Whitney).

    Parameters
    ----------
    positive : (N,) ndarray of bool
        The truth.
    score : (N,) ndarray of float
        Finite; higher means more likely positive.
    weights : (B, N) ndarray of float
        Not negative; one row a resample.

    Returns
    -------
    (B,) ndarray of float
        In [0, 1]; NaN where one side has no weight.
    """
    order = np.argsort(score)
    ranked = score[order]
    starts = np.flatnonzero(np.r_[True, ranked[1:] != ranked[:-1]])
    w, side = weights[:, order], positive[order]
    above = np.add.reduceat(w * side, starts, axis=1)
    below = np.add.reduceat(w * ~side, starts, axis=1)
    beaten = np.cumsum(below, axis=1) - below / 2
    return ratio((above * beaten).sum(axis=1), above.sum(axis=1) * below.sum(axis=1))


def reliability_curve(is_lesion: ArrayLike, p: ArrayLike, bins: int = ECE_BINS) -> pd.DataFrame:
    """Predicted against observed frequency of lesions, for a reliability diagram.

    Parameters
    ----------
    is_lesion : (N,) array_like of bool
        The truth.
    p : (N,) array_like of float
        P(lesion), in [0, 1].
    bins : int, optional
        Bins of equal width; a value on an edge belongs to the upper bin, 1 to the last.

    Returns
    -------
    DataFrame
        One row a bin: ``bin`` (from 0), ``mean_probability``, ``observed_share``, ``count``.
        Empty bins have a count of 0 and NaN.

    Raises
    ------
    ValueError
        For arrays that do not fit together, values that are no probabilities, or no bin.
    """
    lesion, prob = _checked_binary(is_lesion, p)
    if bins < 1:
        raise ValueError(f"bins must be at least 1, got {bins}")
    b = _bin_numbers(prob, bins)
    count = np.bincount(b, minlength=bins)
    return pd.DataFrame(
        {
            "bin": np.arange(bins),
            "mean_probability": ratio(np.bincount(b, weights=prob, minlength=bins), count),
            "observed_share": ratio(np.bincount(b, weights=lesion, minlength=bins), count),
            "count": count,
        }
    )


def youden_threshold(is_lesion: ArrayLike, p: ArrayLike) -> float:
    """The cut on P(lesion) with the highest sensitivity + specificity - 1.

    An image counts as lesion where P(lesion) is at or above the cut.

    Parameters
    ----------
    is_lesion : (N,) array_like of bool
        The truth, with both kinds of image.
    p : (N,) array_like of float
        P(lesion), in [0, 1].

    Returns
    -------
    float
        In [0, 1]. Every cut between two neighbouring probabilities does the same on these
        images; the middle is taken. Of equally good gaps the lowest wins, which keeps the most
        lesions; where no cut beats chance this is 0, which calls every image a lesion.

    Raises
    ------
    ValueError
        Where one kind of image is missing, or values are no probabilities.

    References
    ----------
    W. J. Youden, "Index for rating diagnostic tests", Cancer 3(1), 1950.
    """
    lesion, prob = _checked_binary(is_lesion, p)
    n, positives = len(lesion), int(lesion.sum())
    if positives in (0, n):
        raise ValueError(
            "is_lesion must hold images with and without a lesion, "
            f"got {positives} with and {n - positives} without"
        )
    values, group = np.unique(prob, return_inverse=True)
    hits, all_in = np.bincount(group, weights=lesion), np.bincount(group)
    # Cut k calls all values from k upwards a lesion. In whole numbers, so that ties are ties.
    tp = np.cumsum(hits[::-1])[::-1]
    fp = np.cumsum((all_in - hits)[::-1])[::-1]
    best = int(np.argmax(tp * (n - positives) - fp * positives))
    if best == 0:
        return 0.0
    below, at = float(values[best - 1]), float(values[best])
    middle = (below + at) / 2
    return middle if middle > below else at


def _weighted_scores(
    w: Floats, y: NDArray[np.int64], p: Floats, lesions: NDArray[np.int64], classes: NDArray
) -> dict[str, Floats]:
    """Every score for every row of weights (B, N); ``classes`` are those of the whole sample."""
    predicted = p.argmax(axis=1)
    lesion, called = np.isin(y, lesions), np.isin(predicted, lesions)
    p_lesion = np.minimum(p[:, lesions].sum(axis=1), 1)
    total = w.sum(axis=1)
    right, member = predicted == y, y[:, None] == classes
    recalls = ratio(w @ (member & right[:, None]), w @ member)
    in_bin = _bin_numbers(p_lesion, ECE_BINS)[:, None] == np.arange(ECE_BINS)
    gaps = w @ (in_bin * (lesion - p_lesion)[:, None])
    undefined = np.full(len(w), np.nan)

    scores = {"auc_lesion": weighted_auc(lesion, p_lesion, w)}
    if p.shape[1] > 2:
        areas = [weighted_auc(y == k, p[:, k], w) for k in classes]
        scores["auc_macro"] = np.mean(areas, axis=0)
    return scores | {
        "accuracy": w @ right / total,
        "balanced_accuracy": recalls.mean(axis=1) if len(classes) > 1 else undefined,
        "sensitivity": ratio(w @ (lesion & called), w @ lesion),
        "specificity": ratio(w @ (~lesion & ~called), w @ ~lesion),
        "ece": np.abs(gaps).sum(axis=1) / total,
        "brier": w @ (p_lesion - lesion) ** 2 / total,
    }


def _bin_numbers(p: Floats, bins: int) -> NDArray[np.intp]:
    """Number of the bin of equal width; the last holds 1 as well."""
    # k / bins, unlike linspace, is the float that a reader writes: 0.3 opens the fourth of ten.
    edges = np.arange(1, bins) / bins
    return np.searchsorted(edges, p, side="right")


def _checked(
    y: ArrayLike, probabilities: ArrayLike, lesion_classes: Sequence[int]
) -> tuple[NDArray[np.int64], Floats]:
    truth, p = np.asarray(y), np.asarray(probabilities, dtype=np.float64)
    if truth.ndim != 1 or truth.size == 0 or truth.dtype.kind not in "iu":
        raise ValueError(
            f"y must be whole class numbers, one an image, got {truth.dtype} of shape {truth.shape}"
        )
    if p.ndim != 2 or len(p) != len(truth) or p.shape[1] < 2:
        raise ValueError(
            f"probabilities must have shape ({len(truth)}, K) with K at least 2, got {p.shape}"
        )
    if truth.min() < 0 or truth.max() >= p.shape[1]:
        raise ValueError(
            f"y must lie in 0 ... {p.shape[1] - 1}, got {truth.min()} ... {truth.max()}"
        )
    # Half precision leaves a sum of 1 by some thousandths.
    if not (np.all((p >= 0) & (p <= 1)) and np.allclose(p.sum(axis=1), 1, atol=1e-2)):
        raise ValueError(
            "probabilities must lie in [0, 1] and sum to 1 in each row, "
            f"got values {p.min():g} ... {p.max():g} and sums "
            f"{p.sum(axis=1).min():g} ... {p.sum(axis=1).max():g}; apply a softmax first"
        )
    numbers = list(lesion_classes)
    if (
        not numbers
        or len(set(numbers)) != len(numbers)
        or not set(numbers) <= set(range(p.shape[1]))
    ):
        raise ValueError(
            f"lesion_classes must be different class numbers in 0 ... {p.shape[1] - 1}, "
            f"at least one, got {numbers}"
        )
    return truth.astype(np.int64), p


def _checked_binary(is_lesion: ArrayLike, p: ArrayLike) -> tuple[Mask, Floats]:
    lesion, prob = np.asarray(is_lesion), np.asarray(p, dtype=np.float64)
    if lesion.ndim != 1 or lesion.shape != prob.shape:
        raise ValueError(
            f"is_lesion and p must be of one length, got shapes {lesion.shape} and {prob.shape}"
        )
    if not np.isin(lesion, (0, 1)).all():
        raise ValueError(f"is_lesion must hold booleans, got values {np.unique(lesion)[:5]}")
    if not np.all((prob >= 0) & (prob <= 1)):
        raise ValueError(f"p must lie in [0, 1], got values {prob.min():g} ... {prob.max():g}")
    return lesion.astype(np.bool_), prob
