"""Normalised surface Dice: how much of the two borders lies close to the other."""

from __future__ import annotations

from collections.abc import Sequence

from numpy.typing import ArrayLike

from weakseg.scores.mask_pair import MaskPair, mask_pair

TOLERANCE = 2.0
"""How far a border may be off, in the unit of the spacing: two mm, or two pixels without one."""


def normalised_surface_dice(
    pred: ArrayLike,
    truth: ArrayLike,
    spacing: Sequence[float] | None = None,
    tolerance: float = TOLERANCE,
) -> float:
    """Share of the border pixels of both masks that lie within a tolerance of the other border.

    Parameters
    ----------
    pred, truth : (M, N[, P]) array_like of bool
        The mask that is scored and the true one.
    spacing : sequence of float, optional
        Distance between neighbouring pixels along each axis; pixels where it is None.
    tolerance : float, optional
        In the unit of ``spacing``; a distance of exactly this is within it.

    Returns
    -------
    float
        In [0, 1]. Two empty masks: 1. Exactly one empty: 0.

    Raises
    ------
    ValueError
        For arrays that are no masks or differ in shape, a spacing that does not fit, or a
        tolerance below 0.

    References
    ----------
    S. Nikolov et al., "Clinically applicable segmentation of head and neck anatomy for
    radiotherapy", J. Med. Internet Res. 23(7), 2021. Every border pixel counts alike, as in MONAI,
    not by the area of its surface.

    Examples
    --------
    >>> normalised_surface_dice([[1, 0, 0, 0]], [[0, 1, 0, 1]], tolerance=1)
    0.6666666666666666
    """
    if not tolerance >= 0:
        raise ValueError(f"tolerance must not be negative, got {tolerance}")
    return surface_dice_of(mask_pair(pred, truth, spacing=spacing), tolerance)


def surface_dice_of(pair: MaskPair, tolerance: float = TOLERANCE) -> float:
    """`normalised_surface_dice` of a pair whose borders may be known already."""
    there, back = pair.borders
    if not there.size:
        return float(not pair.has_lesion and not pair.predicted_pixels)
    close = int((there <= tolerance).sum()) + int((back <= tolerance).sum())
    return close / (there.size + back.size)
