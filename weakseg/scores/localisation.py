"""Whether a heatmap is hot where the lesion is, before any threshold is chosen."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike
from scipy.ndimage import distance_transform_edt

from weakseg.scores.checks import as_heatmap


def pixel_average_precision(heatmap: ArrayLike, truth: ArrayLike) -> float:
    """Average precision of the heat as a score of every pixel.

    The area under the precision–recall curve as a sum of steps (scikit-learn's definition,
    without interpolation). Pixels of equal heat enter together.

    Parameters
    ----------
    heatmap : (M, N[, P]) array_like of float
        Finite, of any scale: only the order of the pixels counts.
    truth : (M, N[, P]) array_like of bool
        The true mask.

    Returns
    -------
    float
        In (0, 1]; the lesion's share of the image for a constant map. NaN where the truth is
        empty.

    Raises
    ------
    ValueError
        For arrays of different shapes, a heatmap that is not finite, or a truth that is no mask.

    References
    ----------
    J. Choe et al., "Evaluating weakly supervised object localization methods right", CVPR 2020
    (PxAP, there over a whole data set).
    """
    heat, lesion = as_heatmap(heatmap, truth)
    if not lesion.any():
        return np.nan
    # The curve rises only at the heat of lesion pixels, so that the sum of its steps is the mean
    # over them of the precision among all pixels that are at least as hot.
    inside = np.sort(heat[lesion])
    everywhere = np.sort(heat[heat >= inside[0]])
    hotter = everywhere.size - np.searchsorted(everywhere, inside)
    hits = inside.size - np.searchsorted(inside, inside)
    return float((hits / hotter).mean())


def pointing_game(heatmap: ArrayLike, truth: ArrayLike, tolerance: float = 0) -> float:
    """Whether the hottest pixel lies on the lesion.

    Parameters
    ----------
    heatmap : (M, N[, P]) array_like of float
        Finite, of any scale.
    truth : (M, N[, P]) array_like of bool
        The true mask.
    tolerance : float, optional
        A hit may lie this far from the lesion: Euclidean, in pixels, inclusive.

    Returns
    -------
    float
        1 for a hit, 0 for a miss. Where several pixels tie for the maximum, the share of them
        that hit, which is what a random pick among them would score. A constant map points
        nowhere and scores 0. NaN where the truth is empty.

    Raises
    ------
    ValueError
        For a negative tolerance; else see `pixel_average_precision`.

    References
    ----------
    J. Zhang et al., "Top-down neural attention by excitation backprop", IJCV 126, 2018
    (with a tolerance of 15 pixels on photographs).

    Examples
    --------
    >>> pointing_game([[0.1, 0.9, 0.2]], [[1, 0, 0]])
    0.0
    >>> pointing_game([[0.1, 0.9, 0.2]], [[1, 0, 0]], tolerance=1)
    1.0
    """
    heat, lesion = as_heatmap(heatmap, truth)
    if not (np.isfinite(tolerance) and tolerance >= 0):
        raise ValueError(f"tolerance must be a number of pixels, 0 or more, got {tolerance!r}")
    if not lesion.any():
        return np.nan
    top = heat.max()
    if heat.min() == top:
        return 0.0
    near = lesion
    if tolerance > 0:
        near = np.asarray(distance_transform_edt(~lesion)) <= tolerance
    return float(near[heat == top].mean())


def energy_inside(heatmap: ArrayLike, truth: ArrayLike) -> float:
    """Share of the positive heat that lies on the lesion.

    Parameters
    ----------
    heatmap : (M, N[, P]) array_like of float
        Finite. Negative heat counts as none; the share does not depend on the scale, but it
        does on where zero lies.
    truth : (M, N[, P]) array_like of bool
        The true mask.

    Returns
    -------
    float
        In [0, 1]; 0 where no heat is positive. NaN where the truth is empty.

    Raises
    ------
    ValueError
        See `pixel_average_precision`.

    References
    ----------
    H. Wang et al., "Score-CAM", CVPR Workshops 2020 (energy-based pointing game).
    """
    heat, lesion = as_heatmap(heatmap, truth)
    if not lesion.any():
        return np.nan
    top = heat.max()
    if top <= 0:
        return 0.0
    # Raw gradients may be so small or large that their sum leaves the range of a float.
    positive = np.maximum(heat, 0) / top
    return float(min(1.0, positive[lesion].sum() / positive.sum()))
