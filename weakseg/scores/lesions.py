"""Lesion by lesion: which of them were found, and what was found that is none."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from weakseg.scores.checks import Mask
from weakseg.scores.mask_pair import MaskPair, mask_pair
from weakseg.scores.surface import bounding_box


def lesion_sensitivity(pred: ArrayLike, truth: ArrayLike) -> float:
    """Share of the lesions of which some is predicted.

    Parameters
    ----------
    pred, truth : (M, N[, P]) array_like of bool
        The mask that is scored and the true one. Pixels that touch by a face, an edge or a corner
        are of one lesion.

    Returns
    -------
    float
        In [0, 1]; NaN without a lesion. One pixel is enough for a lesion to count as found, and
        one part of the mask may find several.

    Raises
    ------
    ValueError
        For arrays that are no masks or differ in shape.

    Examples
    --------
    >>> lesion_sensitivity([[0, 1, 0, 0, 0]], [[0, 1, 1, 0, 1]])
    0.5
    """
    return sensitivity_of(mask_pair(pred, truth))


def false_lesions(pred: ArrayLike, truth: ArrayLike) -> int:
    """How many parts of a mask touch no lesion.

    Parameters
    ----------
    pred, truth : (M, N[, P]) array_like of bool
        As in `lesion_sensitivity`.

    Returns
    -------
    int
        Parts of ``pred`` without a pixel of ``truth``.

    Raises
    ------
    ValueError
        For arrays that are no masks or differ in shape.
    """
    return false_lesions_of(mask_pair(pred, truth))


def sensitivity_of(pair: MaskPair) -> float:
    """`lesion_sensitivity` of a pair."""
    labels, count = _parts(pair.truth)
    return _touched(labels, pair.pred) / count if count else float("nan")


def false_lesions_of(pair: MaskPair) -> int:
    """`false_lesions` of a pair."""
    labels, count = _parts(pair.pred)
    return count - _touched(labels, pair.truth)


def _parts(mask: Mask) -> tuple[NDArray[np.integer], int]:
    """Each pixel's part, from 1, and how many there are."""
    from scipy import ndimage

    labels = np.zeros(mask.shape, dtype=np.int32)
    box = bounding_box(mask)
    if box is None:
        return labels, 0
    labels[box], count = ndimage.label(mask[box], structure=np.ones((3,) * mask.ndim))
    return labels, int(count)


def _touched(labels: NDArray[np.integer], mask: Mask) -> int:
    """How many parts hold a pixel of a mask."""
    return int(np.count_nonzero(np.unique(labels[mask])))
