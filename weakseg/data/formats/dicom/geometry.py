"""Where the slices of a series lie: their order along the normal, and the grid that they make.

DICOM's directions are left, posterior and superior; a `Frame` has right, anterior and superior.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from weakseg.data.formats.base import Affine
from weakseg.data.formats.dicom.header import COPY_AGAIN, numbers
from weakseg.data.formats.grids import NEARLY
from weakseg.errors import DataError

if TYPE_CHECKING:
    from pydicom import Dataset

Vector = NDArray[np.float64]

MOST_TILT = 1.0
"""Degrees between the normal of slices and the line on which they follow each other."""
SAME_PLACE = 1e-3
"""mm up to which two slices lie at the same place."""
SAME_SPACING = 0.01
"""Share up to which spacings are the same."""
SAME_DIRECTION = 1e-3
"""Difference of each number up to which unit vectors are the same."""

_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
_UNIT = 1e-3  # what rounding to a few decimals leaves of a unit vector


@dataclass(frozen=True, eq=False)
class Plane:
    """Where one frame lies, in DICOM's directions.

    Attributes
    ----------
    position : (3,) ndarray
        The centre of the first sample, in mm.
    along_row, down : (3,) ndarray
        Unit vectors towards the next column, and the next row.
    spacing : (float, float)
        mm from row to row, and from column to column.
    """

    position: Vector
    along_row: Vector
    down: Vector
    spacing: tuple[float, float]

    @property
    def normal(self) -> Vector:
        """Unit vector, so that rows, columns and it are right-handed."""
        return np.cross(self.along_row, self.down)


def plane(data: Dataset, where: str, groups: tuple[Any, ...] = ()) -> Plane | None:
    """Where a frame lies; None where the file tells no place.

    Parameters
    ----------
    data : Dataset
    where : str
        The file, for messages.
    groups : tuple of Dataset
        The functional groups of a multi-frame object that hold for the frame, the frame's own
        first; they are looked through before the data set itself.

    Raises
    ------
    DataError
        For directions that are no two perpendicular unit vectors, or a spacing that is not
        positive.
    """
    position = _found(data, groups, "PlanePositionSequence", "ImagePositionPatient", 3, where)
    turned = _found(data, groups, "PlaneOrientationSequence", "ImageOrientationPatient", 6, where)
    spacing = _found(data, groups, "PixelMeasuresSequence", "PixelSpacing", 2, where)
    if position is None or turned is None or spacing is None:
        return None
    row, down = np.array(turned[:3]), np.array(turned[3:])
    lengths = np.linalg.norm(row), np.linalg.norm(down)
    if max(abs(v - 1) for v in lengths) > _UNIT or abs(row @ down) > _UNIT:
        raise DataError(
            "The orientation of the image cannot be used.",
            where=where,
            found=f"vectors of the lengths {lengths[0]:.3g} and {lengths[1]:.3g} at "
            f"{_degrees(row, down):.3g}°",
            expected="two unit vectors at 90°",
            fix=COPY_AGAIN,
        )
    if min(spacing) <= 0:
        raise DataError(
            "The spacing of the pixels cannot be used.",
            where=where,
            found=f"{spacing[0]:g} and {spacing[1]:g} mm",
            expected="two positive numbers",
            fix=COPY_AGAIN,
        )
    row, down = row / lengths[0], down / lengths[1]
    return Plane(np.array(position), row, down, (spacing[0], spacing[1]))


def plane_affine(data: Dataset, where: str) -> Affine | None:
    """(4, 4) from (row, column, slice) of a single image to mm, right, anterior, superior."""
    at = plane(data, where)
    if at is None:
        return None
    affine = np.eye(4)
    affine[:3, 0], affine[:3, 1] = at.down * at.spacing[0], at.along_row * at.spacing[1]
    affine[:3, 2], affine[:3, 3] = at.normal, at.position
    return _TO_RAS @ affine


def order_along_normal(planes: list[Plane]) -> list[int]:
    """The indices of parallel planes, ascending along their normal."""
    along = [float(p.position @ planes[0].normal) for p in planes]
    return sorted(range(len(planes)), key=lambda k: along[k])


def grid_affine(planes: list[Plane], where: str) -> Affine:
    """(4, 4) from (column, row, slice) to mm, right, anterior, superior.

    Parameters
    ----------
    planes : list of Plane
        At least two, in order.
    where : str
        The series, for messages.

    Raises
    ------
    DataError
        Where slices are missing, lie at the same place, follow each other unevenly, or not along
        their normal.
    """
    first, count = planes[0], len(planes)
    places = np.stack([p.position for p in planes])
    steps = np.diff(places @ first.normal)
    base = float(np.median(steps))
    _refuse_same_places(steps, base, where)
    step = (places[-1] - places[0]) / (count - 1)
    off = places - (places[0] + np.arange(count)[:, None] * step)
    deep, aside = (
        np.abs(off @ first.normal),
        np.abs(off @ np.stack([first.along_row, first.down]).T),
    )
    if deep.max() > NEARLY * abs(step @ first.normal):
        raise _uneven(steps, where)
    tilt = _degrees(step, first.normal)
    if tilt > MOST_TILT or (aside > NEARLY * max(first.spacing)).any():
        raise DataError(
            "The slices are not stacked along their normal, as with a tilted gantry.",
            where=where,
            found=f"{tilt:.3g}° between both"
            if tilt > MOST_TILT
            else "slices that are shifted in their own plane",
            expected=f"at most {MOST_TILT:g}°",
            fix="resample the series to a straight grid, for instance with dcm2niix, which "
            "corrects the tilt, and list its NIfTI file; or segment its slices as pictures, which "
            "need no grid: weakseg import dicom FOLDER --out DIR --as-images",
        )
    affine = np.eye(4)
    affine[:3, 0], affine[:3, 1] = first.along_row * first.spacing[1], first.down * first.spacing[0]
    affine[:3, 2], affine[:3, 3] = step, first.position
    return _TO_RAS @ affine


def repeated(planes: list[Plane]) -> int:
    """How many slices lie at each place, where it is more than one and the same everywhere.

    Else 1: the places are distinct, or only some are taken twice.
    """
    along = np.array([p.position @ planes[0].normal for p in planes])
    new = np.flatnonzero(np.diff(along) > SAME_PLACE) + 1
    counts = np.diff([0, *new, len(planes)])
    return int(counts[0]) if (counts == counts[0]).all() else 1


def _refuse_same_places(steps: ArrayLike, base: float, where: str) -> None:
    close = np.flatnonzero(np.asarray(steps) <= max(SAME_PLACE, 0.01 * base))
    if len(close):
        at = int(close[0]) + 1
        raise DataError(
            "Two slices of the series lie at the same place.",
            where=where,
            found=f"slices {at} and {at + 1} of {len(np.asarray(steps)) + 1}, by their place"
            + (f", and {len(close) - 1} further pairs" if len(close) > 1 else ""),
            expected="each place once",
            fix="remove the copies, or what was taken at another time or with another echo",
        )


def _uneven(steps: NDArray[Any], where: str) -> DataError:
    base = float(steps.min())
    many = steps / base
    worst = int(many.argmax())
    at = f"{steps[worst]:.4g} mm between slices {worst + 1} and {worst + 2} of {len(steps) + 1}"
    whole = np.rint(many)
    if (np.abs(many - whole) <= NEARLY).all():
        lacking = int((whole - 1).sum())
        return DataError(
            f"The series lacks {lacking} slice{'s' if lacking > 1 else ''}.",
            where=where,
            found=f"{at}, by their place",
            expected=f"{base:.4g} mm, as between others",
            fix="export the whole series again; a volume with gaps would be squeezed",
        )
    return DataError(
        "The slices of the series do not lie at even distances.",
        where=where,
        found=f"from {base:.4g} to {steps.max():.4g} mm, the most of it {at}",
        expected=f"steps that are even within {NEARLY:g} of one",
        fix="take a reconstruction of even distances, or resample the series and list its NIfTI "
        "file",
    )


def _degrees(a: Vector, b: Vector) -> float:
    lengths = float(np.linalg.norm(a) * np.linalg.norm(b))
    if not lengths:
        return 90.0
    return float(np.degrees(np.arccos(np.clip(abs(a @ b) / lengths, 0, 1))))


def _found(
    data: Dataset, groups: tuple[Any, ...], sequence: str, keyword: str, count: int, where: str
) -> tuple[float, ...] | None:
    """Numbers of a frame: of its functional groups, else of the data set."""
    for group in groups:
        items = group.get(sequence)
        if items and (values := numbers(items[0], keyword, count, where)) is not None:
            return values
    return numbers(data, keyword, count, where)
