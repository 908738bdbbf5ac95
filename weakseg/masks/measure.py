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

FEW = 96
"""Points of which all pairs are compared sooner than a hull is found."""


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
    of_dims = _of_image if marked.ndim == 2 else _of_volume
    return sorted(of_dims(marked, steps, further), key=lambda lesion: -lesion.samples)


def _of_volume(
    marked: Bools, steps: Floats, further: Sequence[npt.NDArray[Any] | None]
) -> list[Lesion]:
    """All lesions of a volume, some planes at a time."""
    parts = find_parts(marked, np.ones((3, 3, 3)))
    gathered = [_Gathered() for _ in range(parts.count)]
    for begin, labels, numbers in parts.slabs():
        for number, box in enumerate(_boxes(labels), 1):
            there = [None if v is None else v[..., begin : begin + DEPTH][box] for v in further]
            first = np.array([box[0].start, box[1].start, box[2].start + begin])
            gathered[numbers[number] - 1].add(labels[box] == number, first, steps, there)
    return [g.lesion(steps) for g in gathered]


def _of_image(
    mask: Bools, steps: Floats, further: Sequence[npt.NDArray[Any] | None]
) -> list[Lesion]:
    """All lesions of an image at once: one by one they took four times as long."""
    from scipy import ndimage

    labels, count = ndimage.label(mask, np.ones((3, 3)))
    places = np.flatnonzero(labels)
    of = labels.ravel()[places]
    order = np.argsort(of, kind="stable")
    at = np.stack(np.divmod(places[order], mask.shape[1]), axis=1)
    sizes = np.bincount(of, minlength=count + 1)[1:].tolist()
    values = [None if v is None else v.ravel()[places[order]] for v in further]
    begin, lesions = 0, []
    for size in sizes:
        own = slice(begin, begin + size)
        means = (
            np.nan if v is None else float(v[own].sum(dtype=np.float64) / size) for v in values
        )
        rows, columns = (at[own].sum(axis=0) / size).tolist()
        longest = _longest(_row_ends(at[own]) * steps)
        area = float(size * steps.prod())
        lesions.append(Lesion(size, area, longest, (rows, columns), 0, *means))
        begin += size
    return lesions


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
        steps : (3,) ndarray of float
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

    def lesion(self, steps: Floats) -> Lesion:
        """What it is, once all places are there."""
        samples = sum(self.counts.values())
        return Lesion(
            samples,
            float(samples * steps.prod()),
            max(_longest(np.concatenate(c)) for c in self.corners.values()),
            tuple(float(c) for c in self.total / samples),
            min(self.counts, key=lambda z: (-self.counts[z], z)),
            *(float(m) for m in self.sums / samples),
        )


def _longest(points: Floats) -> float:
    """The longest distance between two points of a plane."""
    x, y = (_corners(points) if len(points) > FEW else points).T
    across, down = x[:, None] - x, y[:, None] - y
    return float(np.sqrt((across * across + down * down).max()))


def _row_ends(at: np.ndarray) -> np.ndarray:
    """The first and the last place of every row: the others lie between two, so are no corners.

    The hull of all pixels took ten times as long.
    """
    ends = np.ones(len(at) + 1, dtype=bool)
    np.not_equal(at[1:, 0], at[:-1, 0], out=ends[1:-1])
    return at[ends[1:] | ends[:-1]]


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
