"""Measurements of each connected lesion: size, longest diameter, place, brightness, heat."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from weakseg.masks.checks import Bools

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Lesion:
    """One connected part of a mask.

    Attributes
    ----------
    samples : int
        Pixels or voxels.
    size : float
        Area or volume in the unit of the spacing, squared or cubed.
    diameter : float
        The longest distance between the centres of two of its pixels in one plane of the first two
        axes, in the unit of the spacing; 0 of a single pixel.
    centre : tuple of float
        The mean index along each axis.
    plane : int
        Index along the third axis of the plane with most of it, the first of equal ones; 0 of an
        image.
    intensity, heat : float
        Means over its samples; NaN where the image or the heat is not given.
    """

    samples: int
    size: float
    diameter: float
    centre: tuple[float, ...]
    plane: int
    intensity: float
    heat: float


def measure_lesions(
    mask: npt.ArrayLike,
    *,
    spacing: Sequence[float] | None = None,
    image: npt.ArrayLike | None = None,
    heat: npt.ArrayLike | None = None,
) -> list[Lesion]:
    """Measure the connected parts of a mask, the largest first.

    Parameters
    ----------
    mask : (M, N[, P]) array_like of bool
        Samples that touch by a face, an edge or a corner are of one part.
    spacing : sequence of float, optional
        Distance between neighbours along each axis; 1 where it is None.
    image, heat : array_like, optional
        Numbers of the mask's shape.

    Returns
    -------
    list of Lesion
        Of equally large ones those that come first, along the first axis, then the second, then
        the third.

    Raises
    ------
    ValueError
        For a mask of other dimensions, or arrays of other shapes.

    Examples
    --------
    >>> [one] = measure_lesions([[0, 1, 1, 1], [0, 0, 0, 0]], spacing=(2, 0.5))
    >>> one.samples, one.size, one.diameter, one.centre
    (3, 3.0, 1.0, (0.0, 2.0))
    """
    from scipy import ndimage

    marked: Bools = np.asarray(mask) != 0
    if marked.ndim not in (2, 3):
        raise ValueError(f"mask must be (M, N) or (M, N, P), got shape {marked.shape}")
    steps = np.ones(marked.ndim) if spacing is None else np.asarray(spacing, dtype=float)
    if steps.shape != (marked.ndim,):
        raise ValueError(f"spacing must be {marked.ndim} numbers, got {spacing!r}")
    further = [None if a is None else np.asarray(a) for a in (image, heat)]
    for name, values in zip(("image", "heat"), further, strict=True):
        if values is not None and values.shape != marked.shape:
            raise ValueError(f"{name} must have the shape {marked.shape}, got {values.shape}")
    labels, _ = ndimage.label(marked, structure=np.ones((3,) * marked.ndim))
    found = []
    for number, box in enumerate(ndimage.find_objects(labels), 1):
        inside = labels[box] == number
        at = np.argwhere(inside) + [b.start for b in box]
        planes = at[:, 2] if marked.ndim == 3 else np.zeros(len(at), dtype=np.intp)
        means = [np.nan if v is None else float(v[box][inside].mean()) for v in further]
        found.append(
            Lesion(
                len(at),
                float(len(at) * steps.prod()),
                _longest(at[:, :2] * steps[:2], planes),
                tuple(float(c) for c in at.mean(axis=0)),
                int(np.bincount(planes).argmax()),
                *means,
            )
        )
    return sorted(found, key=lambda lesion: -lesion.samples)


def _longest(points: Floats, planes: npt.NDArray[np.intp]) -> float:
    """The longest distance between two points of one plane."""
    from scipy.spatial.distance import pdist

    longest = 0.0
    for plane in np.unique(planes):
        of = _corners(points[planes == plane])
        if len(of) > 1:
            longest = max(longest, float(pdist(of).max()))
    return longest


def _corners(points: Floats) -> Floats:
    """The points of a set that may lie farthest from each other: the corners of their hull."""
    from scipy.spatial import ConvexHull, QhullError

    if len(points) < 4:
        return points
    try:
        return np.asarray(points[ConvexHull(points).vertices])
    except QhullError:  # all on one line: its ends
        first = np.lexsort(points.T)
        return np.asarray(points[[first[0], first[-1]]])
