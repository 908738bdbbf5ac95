"""Lesion by lesion: which of them were found, and what was found that is none."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

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
    count, touched = _parts(pair.truth, pair.pred)
    return touched / count if count else float("nan")


def false_lesions_of(pair: MaskPair) -> int:
    """`false_lesions` of a pair."""
    count, touched = _parts(pair.pred, pair.truth)
    return count - touched


def _parts(mask: Mask, other: Mask) -> tuple[int, int]:
    """How many parts a mask has, and how many of them hold a pixel of the other."""
    from scipy import ndimage

    box = bounding_box(mask)  # numbers take four times the memory of a mask
    if box is None:
        return 0, 0
    labels, count = ndimage.label(mask[box], structure=np.ones((3,) * mask.ndim))
    touched = np.unique(labels[other[box]])
    return int(count), int(np.count_nonzero(touched))
