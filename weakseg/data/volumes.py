"""Volumes and their masks as arrays: all modalities of a case on one grid, normalised by region.

`weakseg.data.formats` turns a file into raw voxels; here they become volumes and masks.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from weakseg.data.cases import Case
from weakseg.data.formats.base import Frame
from weakseg.data.formats.dicom.identity import public_path, told_beside
from weakseg.data.formats.grids import grid_difference
from weakseg.data.formats.nifti import Voxels
from weakseg.data.formats.reading import decode_volume
from weakseg.data.formats.registry import VOLUMES
from weakseg.data.formats.writing import write_like
from weakseg.data.held import Held
from weakseg.data.images import refuse_not_finite
from weakseg.data.mask_rules import MaskRule, by_rule, distinct
from weakseg.data.noise import is_noisier, quieter_volume, volume_noise
from weakseg.data.soft import has_soft_edges
from weakseg.errors import DataError

__all__ = [
    "CaseVolume",
    "Volume",
    "VolumeMaskFile",
    "open_volume_mask",
    "read_case",
    "read_modality",
    "read_volume",
    "read_volume_mask",
    "smoothed_modality",
    "write_volume",
]


class _OnGrid:
    """What lies on the grid of a file."""

    frame: Frame

    @property
    def affine(self) -> NDArray[np.float64]:
        """(4, 4), from voxel indices to mm."""
        return self.frame.affine

    @property
    def spacing(self) -> tuple[float, float, float]:
        """Size of a voxel in mm."""
        return self.frame.spacing

    @property
    def known_spacing(self) -> bool:
        """Whether the file tells the spacing."""
        return self.frame.known_spacing


@dataclass(frozen=True, eq=False)
class Volume(_OnGrid):
    """A volume as stored: nothing is turned or resampled.

    Attributes
    ----------
    values : (X, Y, Z) ndarray of float32
        With the file's slope and intercept applied.
    frame : Frame
    """

    values: NDArray[np.float32]
    frame: Frame


@dataclass(frozen=True, eq=False)
class CaseVolume(_OnGrid):
    """All modalities of a case on one grid.

    Attributes
    ----------
    values : (C, X, Y, Z) ndarray of float32
        The image and its further modalities, in order; as stored, not normalised.
    roi : (X, Y, Z) ndarray of bool, or None
        The region of interest; None means the whole volume.
    frame : Frame
        The image's.
    """

    values: NDArray[np.float32]
    roi: NDArray[np.bool_] | None
    frame: Frame


def read_volume(path: Path) -> Volume:
    """Read a volume.

    Parameters
    ----------
    path : Path
        NIfTI-1 or NIfTI-2 in one file, gzipped or not; the folder of a DICOM series, or an
        enhanced DICOM file. The content counts, not the file's name.

    Returns
    -------
    Volume
        Trailing axes of length 1 are dropped.

    Raises
    ------
    DataError
        If the file is missing, empty, damaged, no volume, half of an Analyze pair, of two or more
        than three dimensions, larger than `MAX_VOXELS`, without usable orientation, or holds
        colours, complex numbers, NaN or infinity.
    """
    stored = decode_volume(path)
    values = stored.scaled()
    refuse_not_finite(values, path)
    return Volume(values, stored.frame)


def read_volume_mask(
    path: Path,
    rule: MaskRule = "nonzero",
    grid: Frame | None = None,
    *,
    image: Path | None = None,
) -> NDArray[np.bool_]:
    """A mask as booleans.

    Parameters
    ----------
    path : Path
        As for `read_volume`.
    rule : {"nonzero", "half", "dark"} or sequence of int
        Which voxels are lesion, as `weakseg.data.images.read_mask` has it; values count with the
        file's slope and intercept applied. Where there are any, values that rounding has moved
        off a whole number count as that number; for a list, floats within 0.001 of it as well.
    grid : Frame, optional
        Where given, the mask has to lie on it, as
        `weakseg.data.formats.grids.grid_difference` has it.
    image : Path, optional
        Whose mask it is: an error withholds what its header tells of the patient.

    Returns
    -------
    (X, Y, Z) ndarray of bool

    Raises
    ------
    DataError
        As `read_volume`; for ``half`` or ``dark`` and a mask of floats above 1, whose range is not
        known; and where the grid is another.
    """
    with told_beside(path, image):
        stored = decode_volume(path)
        if grid is not None and (other := grid_difference(stored.frame, grid)):
            raise DataError(
                "The mask lies on another grid than its image.",
                where=public_path(path, beside=image),
                found=other,
                fix="export the mask on the image's own voxel grid",
            )
        return by_rule(_mask_values(stored, path, rule), rule, path)


@dataclass(frozen=True)
class VolumeMaskFile:
    """A mask's file that is read once.

    Attributes
    ----------
    path : Path
    stored : (X, Y, Z) ndarray
        As in the file, whole numbers where floats only miss them by what their storage costs.
    frame : Frame
    """

    path: Path
    stored: NDArray[Any]
    frame: Frame
    lossy = False
    one_channel = True
    orientation = 1

    def marked(self, rule: MaskRule) -> NDArray[np.bool_]:
        """(X, Y, Z) voxels that are lesion by a rule of `weakseg.data.images.read_mask`."""
        return by_rule(self.stored, rule, self.path)

    @cached_property
    def values(self) -> NDArray[Any]:
        """The distinct values, ascending."""
        return distinct(self.stored)

    @property
    def soft(self) -> bool:
        """Whether its edges hold values in between, see `has_soft_edges`."""
        return len(self.values) > 2 and has_soft_edges(self.stored)


def open_volume_mask(path: Path, rule: MaskRule) -> VolumeMaskFile:
    """A mask's file, to be read by a rule; with the errors of `read_volume_mask`."""
    stored = decode_volume(path)
    return VolumeMaskFile(path, _mask_values(stored, path, rule), stored.frame)


def read_modality(case: Case, k: int) -> Volume:
    """A modality of a case by its number, see `smoothed_modality`.

    Raises
    ------
    DataError
        As `read_volume`.
    """
    volume = read_volume((case.image, *case.more)[k])
    made = smoothed_modality(case, k, lambda: volume.values)
    return volume if made is None else replace(volume, values=made)


def smoothed_modality(
    case: Case, k: int, values: Callable[[], NDArray[np.float32]]
) -> NDArray[np.float32] | None:
    """A modality with less noise, where that is more than ``case.smooth_above``; else None.

    It is held in memory, for several looks that follow each other, and not writeable.

    Parameters
    ----------
    case : Case
    k : int
        Its number.
    values : callable
        What `read_volume` gives of it, (X, Y, Z).
    """
    limit = case.smooth_above[k] if k < len(case.smooth_above) else None
    if limit is None:
        return None

    def smoothed() -> NDArray[np.float32] | None:
        if not is_noisier(volume_noise(read := values()), limit):
            return None
        made = quieter_volume(read)
        made.flags.writeable = False
        return made

    return _SMOOTHED.get((case.image, *case.more)[k], (repr(limit),), smoothed)


def read_case(case: Case) -> CaseVolume:
    """All modalities of a case, see `read_modality`, and its region of interest (every voxel but 0
    of that file).

    Raises
    ------
    DataError
        As `read_volume`, and where a file lies on another grid than the image; both are named.
    """
    first = read_modality(case, 0)
    values = first.values[None]
    if case.more:
        values = np.empty((1 + len(case.more), *first.frame.shape), dtype=np.float32)
        values[0] = first.values
    for k, path in enumerate(case.more, 1):
        with told_beside(path, case.image):
            volume = read_modality(case, k)
        _refuse_other_grid(volume.frame, path, first.frame, case.image)
        values[k] = volume.values
    roi = None
    if case.roi is not None:
        with told_beside(case.roi, case.image):
            file = open_volume_mask(case.roi, "nonzero")
            roi = file.marked("nonzero")
        _refuse_other_grid(file.frame, case.roi, first.frame, case.image)
    return CaseVolume(values, roi, first.frame)


def _refuse_other_grid(grid: Frame, path: Path, first: Frame, image: Path) -> None:
    if other := grid_difference(grid, first):
        raise DataError(
            "Two files of a case lie on different grids.",
            where=f"{public_path(path, beside=image)} beside {public_path(image)}",
            found=other,
            expected="the same shape and affine",
            fix="resample both to the same voxel grid",
        )


def write_volume(path: Path, values: ArrayLike, like: Path) -> None:
    """Write numbers, for instance probabilities, as float32 with the place of another volume.

    Parameters
    ----------
    path : Path
        Ends in ``.nii.gz``; its folder is made where it is missing.
    values : (X, Y, Z) array_like
    like : Path

    Raises
    ------
    ValueError
        As `weakseg.data.formats.writing.write_mask`, and for NaN and infinity.
    DataError
        If ``like`` cannot be read.
    """
    numbers = np.asarray(values, dtype=np.float32)
    if not all(np.isfinite(part).all() for part in numbers):
        raise ValueError("a volume holds finite numbers, not NaN or infinity")
    write_like(path, numbers, like, VOLUMES)


def _mask_values(stored: Voxels, path: Path, rule: MaskRule) -> NDArray[Any]:
    if stored.slope is None and not np.issubdtype(stored.raw.dtype, np.floating):
        return stored.raw
    values = stored.raw if stored.slope is None else stored.scaled()
    refuse_not_finite(values, path)
    # Programs that spread floats over integers miss 0 and 1 by up to half a step.
    near = 0.0 if stored.slope is None else min(0.51 * abs(stored.slope), 0.01)
    if not isinstance(rule, str):
        near = max(near, 1e-3)
    if not near:
        return values
    whole = np.rint(values)
    return np.where(np.abs(values - whole) <= near, whole, values)


_SMOOTHED = Held(2**29)
