"""What the slices of one volume hold, and what is wrong with them and with their volume."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

from weakseg.config import DataConfig
from weakseg.data.cases import Labels
from weakseg.data.check_files import (
    SMALLEST,
    Seen,
    all_values,
    can_be_joined,
    file_problem,
    mask_content_problems,
)
from weakseg.data.check_masks import MaskLook, edge_problems, look_at_mask
from weakseg.data.formats.base import Frame
from weakseg.data.formats.grids import Leeway, grid_difference, grid_leeway
from weakseg.data.manifest import Problem, Row, Table
from weakseg.data.truth import union
from weakseg.data.volumes import VolumeMaskFile, open_volume_mask, read_volume
from weakseg.errors import DataError

Work = Sequence[tuple[Row, bool]]
"""Rows of one volume, and whether the file of a row's mask is an image."""


def look_at_slices(work: Work, table: Table, data: DataConfig, labels: Labels | None) -> list[Seen]:
    """Read a volume and its masks once, and look at each slice that a row names.

    Parameters
    ----------
    work : sequence of (Row, bool)
        Rows that name the same volume.
    table : Table
    data : DataConfig
    labels : Labels or None
        None where the labels' meaning cannot be told.

    Returns
    -------
    list of Seen
        One a row; what is wrong with a file stands with the first row that names it, and so does
        the volume's frame.
    """
    first = work[0][0]
    try:
        volume = read_volume(table.resolve(first.image))
    except DataError as e:
        problem = file_problem("image", first, first.image, table, e)
        return [Seen((problem,)), *[Seen(())] * (len(work) - 1)]
    masks = _Masks(table, data, volume.frame, first.image)
    seen = [_look_at_slice(row, clash, volume.values, masks, data, labels) for row, clash in work]
    small = tuple(_small(first, volume.frame))
    seen[0] = replace(
        seen[0],
        problems=(*small, *seen[0].problems),
        frame=volume.frame,
        leeways=tuple(masks.leeways),
    )
    return seen


class _Masks:
    """The mask files of a volume's rows, each read when it is first asked for."""

    def __init__(self, table: Table, data: DataConfig, grid: Frame, image: str) -> None:
        self.table, self._data, self._grid, self._image = table, data, grid, image
        self.leeways: list[tuple[str, Leeway]] = []
        self._files: dict[str, tuple[VolumeMaskFile, np.ndarray] | None] = {}

    def open(
        self, row: Row, cell: str, problems: list[Problem]
    ) -> tuple[VolumeMaskFile, np.ndarray] | None:
        """A file and what it marks; None where it cannot be laid over the volume."""
        if cell not in self._files:
            self._files[cell] = self._read(row, cell, problems)
        return self._files[cell]

    def _read(
        self, row: Row, cell: str, problems: list[Problem]
    ) -> tuple[VolumeMaskFile, np.ndarray] | None:
        rule = self._data.mask_rule
        try:
            file = open_volume_mask(self.table.resolve(cell), rule)
            marked = file.marked(rule)
        except DataError as e:
            problems.append(file_problem("mask", row, cell, self.table, e))
            return None
        if file.frame.shape == self._grid.shape:  # of another size: resampled, and soft by that
            problems += edge_problems(row, cell, file, marked, rule, unit="voxels")
        if how := grid_leeway(file.frame, self._grid):
            self.leeways.append(("mask", how))
        if other := grid_difference(file.frame, self._grid):
            kind = "mask-size" if file.frame.shape != self._grid.shape else "mask-grid"
            message = f"the grid is not that of {self._image}: {other}"
            fix = "export the mask on the image's own voxel grid"
            problems.append(Problem(kind, row.line, cell, message, fix))
        return (file, marked) if file.frame.shape == self._grid.shape else None


def _look_at_slice(
    row: Row,
    mask_is_image: bool,
    values: np.ndarray,
    masks: _Masks,
    data: DataConfig,
    labels: Labels | None,
) -> Seen:
    z, count = row.index, values.shape[2]
    if z is None:  # what its text says is told already
        return Seen(())
    if z >= count:
        problem = Problem(
            "slice-outside",
            row.line,
            row.image,
            f"there is no slice {z}: the volume has {count}, 0 to {count - 1}",
            "write an index along the third axis, of which the first is 0",
        )
        return Seen((problem,))
    problems: list[Problem] = []
    plane = np.ascontiguousarray(values[:, :, z].T)
    constant = bool((plane == plane[0, 0]).all())
    if constant:
        problems.append(
            Problem(
                "image-constant",
                row.line,
                row.image,
                f"every pixel of slice {z} is {float(plane[0, 0]):g}",
                "look at it; if it shows nothing, delete the row",
                "warning",
            )
        )
    digest = None
    if not constant:
        head = f"{plane.shape}".encode()
        digest = hashlib.blake2b(head + plane.tobytes()).hexdigest()
    look = None
    if row.mask:
        look = _look_at_mask(row, z, mask_is_image, masks, data, labels, problems)
    return Seen(tuple(problems), digest, mask=look)


def _look_at_mask(
    row: Row,
    z: int,
    mask_is_image: bool,
    masks: _Masks,
    data: DataConfig,
    labels: Labels | None,
    problems: list[Problem],
) -> MaskLook | None:
    """How the mask lies in the slice, all files together; its problems are added."""
    if mask_is_image:
        what = "the mask is the file of an image"
        fix = "name the mask, or leave it blank"
        problems.append(Problem("mask-is-image", row.line, row.mask, what, fix))
        return None
    cells = masks.table.masks(row)
    frames = [f for f in (masks.open(row, cell, problems) for cell in cells) if f is not None]
    planes = [marked[:, :, z] for _, marked in frames]
    if not can_be_joined(planes, cells):
        return None
    files = [VolumeMaskFile(f.path, f.stored[:, :, z], f.frame) for f, _ in frames]
    whole = union(planes)
    values = all_values([f.values for f in files])
    problems += mask_content_problems(row, whole, values, data, labels)
    return look_at_mask(files, whole, data.mask_rule)


def _small(row: Row, grid: Frame) -> Iterator[Problem]:
    x, y, _ = grid.shape
    if min(x, y) < SMALLEST:
        yield Problem(
            "image-small",
            row.line,
            row.image,
            f"the volume's slices have {y} × {x} pixels, fewer than {SMALLEST} on a side",
            "replace it by the whole volume, or delete its rows",
        )
