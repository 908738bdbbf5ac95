"""Masks of the slices of a volume, cleaned up together: slices vote, and small parts go."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from weakseg.masks.checks import Bools
from weakseg.masks.parts import find_parts


def vote_along(mask: npt.ArrayLike, present: npt.ArrayLike, reach: int) -> Bools:
    """A majority vote of neighbouring slices, voxel by voxel.

    Parameters
    ----------
    mask : (X, Y, Z) array_like of bool
    present : (Z,) array_like of bool
        Slices that have a mask; others neither vote nor get one.
    reach : int
        Slices on either side that vote besides the slice itself; 0 changes nothing.

    Returns
    -------
    (X, Y, Z) ndarray of bool
        True where more than half of the slices that vote are; where exactly half are, what the
        slice itself says.

    Raises
    ------
    ValueError
        For a mask of other dimensions, another number of slices, or a negative reach.

    Examples
    --------
    >>> vote_along([[[1, 0, 1, 0, 0]]], [True] * 5, 1).astype(int).tolist()
    [[[1, 1, 0, 0, 0]]]
    """
    marked, there = _checked(mask), np.asarray(present, dtype=bool)
    if there.shape != marked.shape[2:]:
        raise ValueError(f"present must have {marked.shape[2]} slices, got shape {there.shape}")
    if reach < 0:
        raise ValueError(f"reach must be at least 0, got {reach}")
    out = np.zeros(marked.shape, dtype=bool)
    for z in np.flatnonzero(there):
        near = slice(max(0, z - reach), z + reach + 1)
        votes = marked[:, :, near][:, :, there[near]]
        twice = 2 * votes.sum(axis=2)
        out[:, :, z] = (twice > votes.shape[2]) | ((twice == votes.shape[2]) & marked[:, :, z])
    return out


def keep_parts(
    mask: npt.ArrayLike, *, min_voxels: int = 1, min_slices: int = 1, largest: int = 0
) -> Bools:
    """Drop the parts of a mask that are small, or lie on few slices.

    Parameters
    ----------
    mask : (X, Y, Z) array_like of bool
        Voxels that touch by a face, an edge or a corner are of one part.
    min_voxels, min_slices : int, optional
        A part has to have as many voxels, and to lie on as many slices.
    largest : int, optional
        Keep so many of the parts that are left, the largest; of equally large ones those that
        come first, by the first axis, then the second, then the third. 0: all.

    Returns
    -------
    (X, Y, Z) ndarray of bool

    Raises
    ------
    ValueError
        For a mask of other dimensions.
    """
    marked = _checked(mask)
    if min_voxels <= 1 and min_slices <= 1 and not largest:
        return marked.copy()
    parts = find_parts(marked, np.ones((3, 3, 3)))
    if not parts.count:
        return marked.copy()
    keep = parts.sizes >= min_voxels
    if min_slices > 1:
        keep &= parts.extents() >= min_slices
    if largest:
        order = np.argsort(np.where(keep, -parts.sizes, 1), kind="stable")[:largest]
        first = np.zeros(parts.count, dtype=bool)
        first[order] = True
        keep &= first
    return parts.keep(keep)


def _checked(mask: npt.ArrayLike) -> Bools:
    given = np.asarray(mask)
    marked = given if given.dtype == bool else given != 0
    if marked.ndim != 3:
        raise ValueError(f"mask must be (X, Y, Z), got shape {marked.shape}")
    return marked
