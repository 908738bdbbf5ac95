"""What a filter marks in an image: its heatmap, its truth, or a control of the same area.

All of it lies on the network's square. A mark is a value from 0 (not marked) to 1 a pixel, and 0
wherever the square shows padding.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from weakseg.config import Condition
from weakseg.filtering.ranking import top_count, top_share

Bools = NDArray[np.bool_]
Floats = NDArray[np.float32]


def soft_selection(heat: Floats, valid: Bools) -> Floats:
    """Positive heat over its own maximum.

    Parameters
    ----------
    heat : (S, S) ndarray of float
        Raw, signed.
    valid : (S, S) ndarray of bool
        Where the square shows the image.

    Returns
    -------
    (S, S) ndarray of float32
        In [0, 1]; all 0 for a flat heatmap, in which nothing is positive.
    """
    positive = np.where(valid & np.isfinite(heat), np.maximum(heat, 0), 0).astype(np.float32)
    highest = positive.max(initial=0)
    return positive / highest if highest > 0 else positive


def centre_distance(valid: Bools) -> Floats:
    """Squared distance from the image's centre, in half its height and half its width.

    1 on the ellipse that touches the image's four sides.
    """
    rows, columns = np.flatnonzero(valid.any(1)), np.flatnonzero(valid.any(0))
    y, x = np.mgrid[: valid.shape[0], : valid.shape[1]].astype(np.float32)
    v = (y - (rows[0] + rows[-1]) / 2) / (len(rows) / 2)
    u = (x - (columns[0] + columns[-1]) / 2) / (len(columns) / 2)
    return v**2 + u**2


def gaussian_selection(valid: Bools, mean: float) -> Floats:
    """A centred Gaussian, as wide as gives a stated mean over the image.

    Parameters
    ----------
    valid : (S, S) ndarray of bool
    mean : float
        In [0, 1].

    Returns
    -------
    (S, S) ndarray of float32
        1 in the centre; all 0 for a mean of 0 and all 1 for a mean of 1.
    """
    if mean <= 0:
        return np.zeros(valid.shape, dtype=np.float32)
    distance = centre_distance(valid)
    inside = distance[valid]
    low, high = -12.0, 12.0  # log of the variance; the mean grows with it
    for _ in range(50):
        middle = (low + high) / 2
        if np.exp(-inside / np.exp(middle)).mean() < mean:
            low = middle
        else:
            high = middle
    return np.where(valid, np.exp(-distance / np.exp(high)), 0).astype(np.float32)


def signed_distance(truth: Bools) -> Floats:
    """How deep in the mask a pixel lies (positive), or how far from it (negative), in pixels.

    Depth is the distance to what is not marked; where all is marked, to what lies around it.
    """
    if not truth.any():
        return np.zeros(truth.shape, dtype=np.float32)
    if truth.all():
        return np.asarray(signed_distance(np.pad(truth, 1))[1:-1, 1:-1])
    inside = ndimage.distance_transform_edt(truth)
    outside = ndimage.distance_transform_edt(~truth)
    return (inside - outside).astype(np.float32)


def grown(truth: Bools, margin: int) -> Bools:
    """The mask with all pixels within ``margin`` of it."""
    return signed_distance(truth) >= -margin if truth.any() else truth


def bounding_box(mask: Bools) -> Bools:
    """The smallest upright rectangle around a mask; empty for an empty one."""
    box = np.zeros(mask.shape, dtype=bool)
    if mask.any():
        rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        box[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1] = True
    return box


def partners(groups: Sequence[str], seed: int) -> NDArray[np.intp]:
    """For each case another case of its group, no two the same one.

    Parameters
    ----------
    groups : (N,) sequence of str
        The split of each case: heatmaps are shuffled within a split only.
    seed : int

    Returns
    -------
    (N,) ndarray of int
        A permutation; a case is its own partner only if it is alone in its group.
    """
    names = np.asarray(groups)
    others = np.arange(len(names))
    rng = np.random.default_rng([seed, zlib.crc32(b"partners")])
    for group in np.unique(names):
        order = rng.permutation(np.flatnonzero(names == group))
        others[order] = np.roll(order, 1)
    return others


@dataclass(frozen=True)
class Selector:
    """What every condition marks in every image.

    Nothing here knows an image's label: of two images with the same heatmap, mask and number the
    marks are the same.

    Attributes
    ----------
    valid : callable
        From a case's number to (S, S) bool: where the square shows the image.
    heat : callable
        To its raw signed heatmap, (S, S).
    hard : callable
        To the mask that the threshold rule makes of the heatmap, (S, S).
    truth : callable
        To a true mask, (S, S): its own, or a borrowed one where there is no lesion.
    partner : (N,) ndarray of int
        Whose heatmap a case gets in ``shuffled``.
    margin : int
        Pixels by which the truth is grown.
    seed : int
        Of everything random; with the case's number it fixes the draw, so that a condition and
        its complement mark the same pixels.
    """

    valid: Callable[[int], Bools]
    heat: Callable[[int], Floats]
    hard: Callable[[int], Bools]
    truth: Callable[[int], Bools]
    partner: NDArray[np.intp]
    margin: int
    seed: int

    def selection(self, case: int, condition: Condition) -> Floats:
        """The mark of a case, (S, S) float32 in [0, 1].

        Raises
        ------
        ValueError
            For a condition that marks nothing (raw).
        """
        valid = self.valid(case)
        if condition.size == "own":
            if not condition.sees_masks:
                raise ValueError(f"the condition {condition.name} has no mark")
            truth = grown(self.truth(case), self.margin)
            marked = bounding_box(truth) if condition.source == "box" else truth
            return (marked & valid).astype(np.float32)
        if condition.size == "soft":
            return self._soft(case, condition.source, valid)
        if condition.source == "heat" and condition.size == "hard":
            return (self.hard(case) & valid).astype(np.float32)
        rng = self.rng(case, condition.source)
        scores = self._scores(case, condition.source, valid, rng)
        share = condition.share
        if share is not None:
            return top_share(scores, share, valid, rng).astype(np.float32)
        area = int((self.hard(case) & valid).sum())
        return top_count(scores, area, valid, rng).astype(np.float32)

    def rng(self, case: int, purpose: str) -> np.random.Generator:
        """A generator of its own for each case and purpose."""
        return np.random.default_rng([self.seed, case, zlib.crc32(purpose.encode())])

    def _soft(self, case: int, source: str, valid: Bools) -> Floats:
        own = soft_selection(self.heat(case), valid)
        if source == "heat":
            return own
        if source == "gaussian":
            return gaussian_selection(valid, float(own[valid].mean()))
        if source == "shuffled":
            return soft_selection(self.heat(int(self.partner[case])), valid)
        mixed = np.zeros_like(own)
        mixed[valid] = self.rng(case, source).permutation(own[valid])
        return mixed

    def _scores(self, case: int, source: str, valid: Bools, rng: np.random.Generator) -> Floats:
        """What ranks the pixels: the higher, the sooner marked."""
        if source == "heat":
            return self.heat(case)
        if source == "shuffled":
            return self.heat(int(self.partner[case]))
        if source == "gaussian":
            return -centre_distance(valid)
        if source == "truth":
            return signed_distance(self.truth(case) & valid)
        return rng.random(valid.shape, dtype=np.float32)
