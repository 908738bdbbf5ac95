"""How far two masks cover each other: Dice, intersection over union, precision, recall."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from weakseg.scores.checks import as_masks

EMPTY_RULE = (
    "An empty mask on an image without a lesion scores a Dice of 1; a mask that marks anything "
    "there scores 0, and so does an empty mask on an image with a lesion."
)


def overlap_scores(pred: ArrayLike, truth: ArrayLike, *, empty: float = 1.0) -> dict[str, float]:
    """`dice`, `iou`, `precision` and `recall` of one look at the masks.

    Returns
    -------
    dict
        By these names.
    """
    areas = _areas(pred, truth)
    return {
        "dice": _dice(*areas, empty),
        "iou": _iou(*areas, empty),
        "precision": _precision(*areas, empty),
        "recall": _recall(*areas, empty),
    }


def dice(pred: ArrayLike, truth: ArrayLike, *, empty: float = 1.0) -> float:
    """Dice coefficient, twice the intersection over the sum of both areas.

    Parameters
    ----------
    pred, truth : (M, N[, P]) array_like of bool
        The mask that is scored and the true one; numbers 0 and 1 will do.
    empty : float, optional
        The score of two empty masks, for which the ratio is 0/0.

    Returns
    -------
    float
        In [0, 1]. Where exactly one mask is empty, the ratio is 0 and so is the score.

    Raises
    ------
    ValueError
        For arrays that are no masks or differ in shape.

    References
    ----------
    L. R. Dice, "Measures of the amount of ecologic association between species",
    Ecology 26(3), 1945.

    Examples
    --------
    >>> dice([[1, 1, 0]], [[0, 1, 1]])
    0.5
    """
    return _dice(*_areas(pred, truth), empty)


def iou(pred: ArrayLike, truth: ArrayLike, *, empty: float = 1.0) -> float:
    """Intersection over union (Jaccard index), which is Dice / (2 - Dice).

    Parameters
    ----------
    pred, truth : (M, N[, P]) array_like of bool
        The mask that is scored and the true one.
    empty : float, optional
        The score of two empty masks.

    Returns
    -------
    float
        In [0, 1]; 0 where exactly one mask is empty.

    Raises
    ------
    ValueError
        For arrays that are no masks or differ in shape.
    """
    return _iou(*_areas(pred, truth), empty)


def precision(pred: ArrayLike, truth: ArrayLike, *, empty: float = 1.0) -> float:
    """Share of the predicted pixels that are lesion.

    Parameters
    ----------
    pred, truth : (M, N[, P]) array_like of bool
        The mask that is scored and the true one.
    empty : float, optional
        The score of two empty masks.

    Returns
    -------
    float
        In [0, 1]. An empty prediction on a lesion scores 0, although the ratio is 0/0: left
        out, it would flatter a method that marks only what is easy. A prediction on an empty
        truth scores 0.

    Raises
    ------
    ValueError
        For arrays that are no masks or differ in shape.
    """
    return _precision(*_areas(pred, truth), empty)


def recall(pred: ArrayLike, truth: ArrayLike, *, empty: float = 1.0) -> float:
    """Share of the lesion's pixels that are predicted.

    Parameters
    ----------
    pred, truth : (M, N[, P]) array_like of bool
        The mask that is scored and the true one.
    empty : float, optional
        The score of two empty masks.

    Returns
    -------
    float
        In [0, 1]. NaN for a prediction on an empty truth: there was nothing to find, and the
        false alarm is the precision's affair.

    Raises
    ------
    ValueError
        For arrays that are no masks or differ in shape.
    """
    return _recall(*_areas(pred, truth), empty)


def _areas(pred: ArrayLike, truth: ArrayLike) -> tuple[int, int, int]:
    """Pixels of the intersection, of the prediction and of the truth."""
    p, t = as_masks(pred, truth)
    return int(np.count_nonzero(p & t)), int(np.count_nonzero(p)), int(np.count_nonzero(t))


def _dice(both: int, p: int, t: int, empty: float) -> float:
    return 2 * both / (p + t) if p + t else float(empty)


def _iou(both: int, p: int, t: int, empty: float) -> float:
    return both / (p + t - both) if p + t else float(empty)


def _precision(both: int, p: int, t: int, empty: float) -> float:
    if p == 0:
        return 0.0 if t else float(empty)
    return both / p


def _recall(both: int, p: int, t: int, empty: float) -> float:
    if t == 0:
        return float("nan") if p else float(empty)
    return both / t
