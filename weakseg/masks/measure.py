"""Measurements of each connected lesion: size, longest diameter, place, brightness, heat."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from weakseg.masks.checks import Bools
from weakseg.masks.parts import DEPTH, find_parts

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
    given = np.asarray(mask)
    marked: Bools = given if given.dtype == bool else given != 0
    if marked.ndim not in (2, 3):
        raise ValueError(f"mask must be (M, N) or (M, N, P), got shape {marked.shape}")
    steps = np.ones(marked.ndim) if spacing is None else np.asarray(spacing, dtype=float)
    if steps.shape != (marked.ndim,):
        raise ValueError(f"spacing must be {marked.ndim} numbers, got {spacing!r}")
    further = [None if a is None else np.asarray(a) for a in (image, heat)]
    for name, values in zip(("image", "heat"), further, strict=True):
        if values is not None and values.shape != marked.shape:
            raise ValueError(f"{name} must have the shape {marked.shape}, got {values.shape}")
    dims = marked.ndim
    parts = find_parts(_planes(marked), np.ones((3, 3, 3)))
    gathered = [_Gathered() for _ in range(parts.count)]
    own = [None if v is None else _planes(v) for v in further]
    for begin, labels, numbers in parts.slabs():
        for number, box in enumerate(_boxes(labels), 1):
            there = [None if v is None else v[..., begin : begin + DEPTH][box] for v in own]
            first = np.array([box[0].start, box[1].start, box[2].start + begin])
            gathered[numbers[number] - 1].add(labels[box] == number, first, steps, there)
    lesions = [g.lesion(steps, dims) for g in gathered]
    return sorted(lesions, key=lambda lesion: -lesion.samples)


def _planes(values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """A slice as a volume of one plane."""
    return values if values.ndim == 3 else values[..., None]


def _boxes(labels: npt.NDArray[Any]) -> list[tuple[slice, ...]]:
    from scipy import ndimage

    return list(ndimage.find_objects(labels))


@dataclass
class _Gathered:
    """What is known of a lesion, plane by plane: a list of all its places would be many times
    the volume."""

    counts: dict[int, int] = field(default_factory=dict)
    corners: dict[int, list[Floats]] = field(default_factory=dict)
    total: Floats = field(default_factory=lambda: np.zeros(3))
    sums: Floats = field(default_factory=lambda: np.zeros(2))

    def add(
        self,
        inside: Bools,
        first: npt.NDArray[np.int64],
        steps: Floats,
        further: Sequence[npt.NDArray[Any] | None],
    ) -> None:
        """Add some of its places.

        Parameters
        ----------
        inside : (M, N, P) ndarray of bool
            In their box.
        first : (3,) ndarray of int
            Where that lies.
        steps : (2,) or (3,) ndarray of float
        further : sequence of (M, N, P) ndarray or None
            Of what the means are asked.
        """
        for k in np.flatnonzero(inside.any(axis=(0, 1))):
            plane = inside[..., k]
            at = np.argwhere(plane) + first[:2]
            z = int(first[2] + k)
            self.counts[z] = self.counts.get(z, 0) + len(at)
            self.total += [*at.sum(axis=0), z * len(at)]
            self.corners.setdefault(z, []).append(_corners(_row_ends(at) * steps[:2]))
            self.sums += [
                np.nan if v is None else v[..., k][plane].sum(dtype=np.float64) for v in further
            ]

    def lesion(self, steps: Floats, dims: int) -> Lesion:
        """What it is, once all places are there."""
        samples = sum(self.counts.values())
        return Lesion(
            samples,
            float(samples * steps.prod()),
            max(_longest(np.concatenate(c)) for c in self.corners.values()),
            tuple(float(c) for c in self.total[:dims] / samples),
            min(self.counts, key=lambda z: (-self.counts[z], z)),
            *(float(m) for m in self.sums / samples),
        )


def _longest(points: Floats) -> float:
    """The longest distance between two points of a plane."""
    from scipy.spatial.distance import pdist

    of = _corners(points)
    return float(pdist(of).max()) if len(of) > 1 else 0.0


def _row_ends(at: np.ndarray) -> np.ndarray:
    """The first and the last place of every row: the others lie between two, so are no corners.

    The hull of all pixels took ten times as long.
    """
    new = at[1:, 0] != at[:-1, 0]
    return at[np.append(True, new) | np.append(new, True)]


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
