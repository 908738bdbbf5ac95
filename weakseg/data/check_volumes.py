"""What the volumes of one row of a manifest hold, and what is wrong with them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

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
from weakseg.data.formats.grids import Leeway, grid_difference, grid_leeway, shape_words
from weakseg.data.manifest import Problem, Row, Table
from weakseg.data.truth import union
from weakseg.data.volumes import VolumeMaskFile, open_volume_mask, read_volume
from weakseg.errors import DataError

Leeways = list[tuple[str, Leeway]]
"""What kind of file lies on its image's voxels though its affine says otherwise, and how so."""

_OWN_GRID = {
    "image": "resample it to the image's voxel grid",
    "mask": "export the mask on the image's own voxel grid",
    "roi": "export the region of interest on the image's own voxel grid",
}


def look_at_volumes(
    row: Row,
    table: Table,
    data: DataConfig,
    labels: Labels | None,
    mask_is_image: bool,
    thumbnails: bool = False,
) -> Seen:
    """Read every file of a row.

    Parameters
    ----------
    row : Row
    table : Table
    data : DataConfig
    labels : Labels or None
        None where the labels' meaning cannot be told.
    mask_is_image : bool
        Whether the mask's file is a modality of some row.
    thumbnails : bool
        Volumes have none.

    Returns
    -------
    Seen
        With the digest of the first modality.
    """
    problems: list[Problem] = []
    leeways: list[tuple[str, Leeway]] = []
    digests: dict[str, str] = {}
    grid: Frame | None = None
    digest = None
    for cell in (row.image, *row.more):
        if not cell:
            continue
        try:
            volume = read_volume(table.resolve(cell))
        except DataError as e:
            problems.append(file_problem("image", row, cell, table, e))
            continue
        if cell == row.image:
            grid = volume.frame
            problems += _small(row, grid)
        else:
            problems += _off_grid("image", row, cell, volume.frame, grid, leeways)
        first = volume.values.flat[0]
        if (volume.values == first).all():
            problems.append(_constant(row, cell, float(first)))
            continue
        head = f"{volume.frame.shape}".encode()
        content = hashlib.blake2b(head + volume.values.tobytes()).hexdigest()
        if cell == row.image:
            digest = content
        if (earlier := digests.setdefault(content, cell)) != cell:
            problems.append(_same_modality(row, cell, earlier))
    roi = _look_at_roi(row, table, grid, problems, leeways)
    look = None
    if row.mask:
        look = _look_at_mask(row, table, data, labels, grid, roi, mask_is_image, problems, leeways)
    return Seen(tuple(problems), digest, frame=grid, leeways=tuple(leeways), mask=look)


def _small(row: Row, grid: Frame) -> Iterator[Problem]:
    if min(grid.shape) < SMALLEST:
        yield Problem(
            "image-small",
            row.line,
            row.image,
            f"the volume has {shape_words(grid.shape)} voxels, fewer than {SMALLEST} on a side",
            "replace it by the whole volume, label its slices (a column slice), or delete the row",
        )


def _constant(row: Row, cell: str, value: float) -> Problem:
    return Problem(
        "image-constant",
        row.line,
        cell,
        f"every voxel of the volume is {value:g}",
        "look at it; if it shows nothing, delete the row",
        "warning",
    )


def _same_modality(row: Row, cell: str, earlier: str) -> Problem:
    return Problem(
        "modality-twice",
        row.line,
        cell,
        f"the volume is the same, voxel by voxel, as {earlier} in the same row",
        "name the file of the other modality",
        "warning",
    )


def _off_grid(
    what: str, row: Row, cell: str, grid: Frame, first: Frame | None, leeways: Leeways
) -> Iterator[Problem]:
    if first is None:
        return
    if how := grid_leeway(grid, first):
        leeways.append((what, how))
    other = grid_difference(grid, first)
    if other:
        kind = "size" if grid.shape != first.shape else "grid"
        message = f"the grid is not that of {row.image}: {other}"
        yield Problem(f"{what}-{kind}", row.line, cell, message, _OWN_GRID[what])


def _look_at_roi(
    row: Row, table: Table, grid: Frame | None, problems: list[Problem], leeways: Leeways
) -> np.ndarray | None:
    """The region of interest where it can be laid over a mask; its problems are added."""
    if not row.roi:
        return None
    if table.real(row.roi) in {table.real(c) for c in table.masks(row)}:
        problems.append(
            Problem(
                "roi-is-mask",
                row.line,
                row.roi,
                "the region of interest is the file of the mask, so that only lesions are seen",
                "name a mask of the organ, or leave the region of interest out",
            )
        )
        return None
    try:
        file = open_volume_mask(table.resolve(row.roi), "nonzero")
        roi, its = file.marked("nonzero"), file.frame
    except DataError as e:
        problems.append(file_problem("roi", row, row.roi, table, e))
        return None
    problems += _off_grid("roi", row, row.roi, its, grid, leeways)
    if not roi.any():
        problems.append(
            Problem(
                "roi-empty",
                row.line,
                row.roi,
                "the region of interest is empty: every voxel is 0",
                "correct the file, or leave the column out to take the whole volume",
            )
        )
        return None
    return roi


def _look_at_mask(
    row: Row,
    table: Table,
    data: DataConfig,
    labels: Labels | None,
    grid: Frame | None,
    roi: np.ndarray | None,
    mask_is_image: bool,
    problems: list[Problem],
    leeways: Leeways,
) -> MaskLook | None:
    """How the mask lies in its volume, all files together; its problems are added."""
    if mask_is_image:
        problems.append(
            Problem(
                "mask-is-image",
                row.line,
                row.mask,
                "the mask is the file of an image",
                "name the mask, or leave it blank",
            )
        )
        return None
    masks: list[np.ndarray] = []
    files: list[VolumeMaskFile] = []
    cells = table.masks(row)
    for cell in cells:
        try:
            file = open_volume_mask(table.resolve(cell), data.mask_rule)
            part = file.marked(data.mask_rule)
        except DataError as e:
            problems.append(file_problem("mask", row, cell, table, e))
            continue
        masks.append(part)
        files.append(file)
        if grid is None or file.frame.shape == grid.shape:  # of another size: resampled, thus soft
            problems += edge_problems(row, cell, file, part, data.mask_rule, unit="voxels")
        problems += _off_grid("mask", row, cell, file.frame, grid, leeways)
    if not can_be_joined(masks, cells):
        return None
    mask = union(masks)
    values = all_values([f.values for f in files])
    problems += mask_content_problems(row, mask, values, data, labels, unit="voxels")
    problems += _outside_roi(row, mask, roi)
    return look_at_mask(files, mask, data.mask_rule)


def _outside_roi(row: Row, mask: np.ndarray, roi: np.ndarray | None) -> Iterator[Problem]:
    if roi is None or roi.shape != mask.shape:
        return
    marked, outside = int(mask.sum()), int((mask & ~roi).sum())
    if outside:
        whole = outside == marked
        yield Problem(
            "lesion-outside-roi",
            row.line,
            row.mask,
            f"{100 * outside / marked:.3g} % of the mask ({outside} of {marked} voxels) lies "
            f"outside the region of interest {row.roi}",
            "correct one of the two files; what lies outside is not sampled",
            "error" if whole else "warning",
        )
