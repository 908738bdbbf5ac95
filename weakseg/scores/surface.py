"""How far the borders of two masks lie apart: HD95 and the mean surface distance.

Two rules hold throughout. Two empty masks are 0 apart. Where exactly one is empty the distance is
infinite; it is charged the diagonal of the image, which is longer than any distance in it, so that
a missed lesion costs more than a badly drawn one and no mean is infinite.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from weakseg.scores.checks import Floats, Mask, as_masks, as_spacing
from weakseg.scores.nearest import border_distances

DISTANCE_RULE = (
    "Distances are averaged over the images with a lesion; an empty mask on such an image is "
    "charged the diagonal of the image."
)


def surface_distances(
    pred: ArrayLike, truth: ArrayLike, spacing: Sequence[float] | None = None
) -> tuple[Floats, Floats]:
    """Distances from every border pixel of one mask to the nearest border pixel of the other.

    A pixel is border where it belongs to the mask and one of its face neighbours (4 in 2D, 6 in
    3D) does not. Outside the image nothing belongs to a mask, so that a mask which touches the
    edge of the image has its border there.

    Parameters
    ----------
    pred, truth : (M, N[, P]) array_like of bool
        The mask that is scored and the true one.
    spacing : sequence of float, optional
        Distance between neighbouring pixels along each axis, in the unit that the result shall
        have (mostly mm); pixels where it is None.

    Returns
    -------
    from_pred : (B,) ndarray of float
        One Euclidean distance for each border pixel of ``pred``, in the order of the pixels.
    from_truth : (C,) ndarray of float
        The same from ``truth`` to ``pred``. Both arrays are empty where either mask is empty.

    Raises
    ------
    ValueError
        For arrays that are no masks or differ in shape, or a spacing that does not fit.
    """
    p, t = as_masks(pred, truth)
    steps = as_spacing(spacing, p.ndim)
    # Nearest border pixels lie inside the box around both masks: the rest of the image, most of
    # it in practice, cannot change a distance.
    box = bounding_box(p | t) if p.any() and t.any() else None
    if box is None:
        return np.empty(0), np.empty(0)
    return border_distances(_border(p[box]), _border(t[box]), steps)


def hd95(pred: ArrayLike, truth: ArrayLike, spacing: Sequence[float] | None = None) -> float:
    """Hausdorff distance at the 95th percentile.

    The larger of the two directed 95th percentiles of `surface_distances`, each interpolated
    linearly between neighbouring ranks. This is MONAI's definition; some take one percentile of
    both sets together, where a long border that fits can hide a short one that is far off.

    Parameters
    ----------
    pred, truth : (M, N[, P]) array_like of bool
        The mask that is scored and the true one.
    spacing : sequence of float, optional
        Distance between neighbouring pixels along each axis; pixels where it is None.

    Returns
    -------
    float
        At least 0, in the unit of ``spacing``. Two empty masks: 0. Exactly one empty:
        `image_diagonal`.

    Raises
    ------
    ValueError
        See `surface_distances`.

    References
    ----------
    D. P. Huttenlocher, G. A. Klanderman, W. J. Rucklidge, "Comparing images using the Hausdorff
    distance", IEEE TPAMI 15(9), 1993.

    Examples
    --------
    >>> hd95([[1, 0, 0, 0]], [[0, 0, 0, 1]], spacing=(1.0, 0.5))
    1.5
    """
    return hd95_and_mean(pred, truth, spacing)[0]


def mean_surface_distance(
    pred: ArrayLike, truth: ArrayLike, spacing: Sequence[float] | None = None
) -> float:
    """Average symmetric surface distance.

    The mean over the border pixels of both masks together, as in MONAI's
    ``compute_average_surface_distance(symmetric=True)``: the longer border has the greater say.
    (The mean of the two directed means, which some papers report, is another number.)

    Parameters
    ----------
    pred, truth : (M, N[, P]) array_like of bool
        The mask that is scored and the true one.
    spacing : sequence of float, optional
        Distance between neighbouring pixels along each axis; pixels where it is None.

    Returns
    -------
    float
        At least 0, in the unit of ``spacing``. Two empty masks: 0. Exactly one empty:
        `image_diagonal`.

    Raises
    ------
    ValueError
        See `surface_distances`.
    """
    return hd95_and_mean(pred, truth, spacing)[1]


def hd95_and_mean(
    pred: ArrayLike,
    truth: ArrayLike,
    spacing: Sequence[float] | None = None,
    distances: tuple[Floats, Floats] | None = None,
) -> tuple[float, float]:
    """`hd95` and `mean_surface_distance` from one computation of the distances.

    ``distances`` are those of `surface_distances`, where they are there already.
    """
    p, t = as_masks(pred, truth)
    diagonal = image_diagonal(p.shape, spacing)
    there, back = surface_distances(p, t, spacing) if distances is None else distances
    if there.size == 0:
        apart = diagonal if p.any() or t.any() else 0.0
        return apart, apart
    worst = max(_percentile(d, 95) for d in (there, back))
    return worst, float(np.concatenate((there, back)).mean())


def image_diagonal(shape: Sequence[int], spacing: Sequence[float] | None = None) -> float:
    """Length of an image's diagonal, from outer corner to outer corner.

    Parameters
    ----------
    shape : sequence of int
        Pixels along each axis.
    spacing : sequence of float, optional
        Distance between neighbouring pixels along each axis; pixels where it is None.

    Returns
    -------
    float
        In the unit of ``spacing``; longer than the distance of any two pixel centres.

    Raises
    ------
    ValueError
        For a spacing that does not fit the shape.

    Examples
    --------
    >>> image_diagonal((30, 40))
    50.0
    """
    steps = as_spacing(spacing, len(shape))
    return math.hypot(*(n * s for n, s in zip(shape, steps, strict=True)))


def bounding_box(mask: Mask) -> tuple[slice, ...] | None:
    """The smallest box around a mask; None around an empty one."""
    box = [slice(None)] * mask.ndim
    for axis in range(mask.ndim):
        # Each axis is looked at inside the box that the axes before have left.
        others = tuple(a for a in range(mask.ndim) if a != axis)
        occupied = np.flatnonzero(mask[tuple(box)].any(axis=others))
        if not occupied.size:
            return None
        box[axis] = slice(int(occupied[0]), int(occupied[-1]) + 1)
    return tuple(box)


def _border(mask: Mask) -> Mask:
    """The mask without its erosion by face neighbours; beyond the array lies background."""
    interior = mask.copy()
    for axis in range(mask.ndim):
        # A plain swap makes a view; moveaxis makes the same in five times as long.
        inner, whole = interior.swapaxes(0, axis), mask.swapaxes(0, axis)
        inner[1:] &= whole[:-1]
        inner[:-1] &= whole[1:]
        inner[0] = inner[-1] = False
    return mask ^ interior


def _percentile(values: Floats, percent: float) -> float:
    """`numpy.percentile`, which takes longer to check its arguments than to find the rank."""
    rank = (len(values) - 1) * (percent / 100)
    below = int(rank)
    above = min(below + 1, len(values) - 1)
    ordered = np.partition(values, (below, above))
    low, high, part = float(ordered[below]), float(ordered[above]), rank - below
    # numpy's order of operations: both ends are met exactly.
    step = high - low
    return low + step * part if part < 0.5 else high - step * (1 - part)
