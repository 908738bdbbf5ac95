"""True masks of cases: what one file marks, or several together."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from weakseg.data.cases import MaskFiles
from weakseg.data.formats.base import Frame
from weakseg.data.formats.dicom.identity import public_path, told_beside
from weakseg.data.formats.registry import VOLUMES, formats_of
from weakseg.data.images import read_mask
from weakseg.data.mask_rules import MaskRule
from weakseg.data.volumes import read_volume_mask
from weakseg.errors import DataError

__all__ = ["read_true_mask", "union"]


def read_true_mask(
    files: MaskFiles,
    rule: MaskRule = "nonzero",
    image: Path | None = None,
    frame: Frame | None = None,
) -> NDArray[np.bool_]:
    """The true mask of an image or a volume: all that its files mark.

    Parameters
    ----------
    files : Path or tuple of Path
        `Case.mask`, where there is one.
    rule : {"nonzero", "half", "dark"} or sequence of int
        As for `weakseg.data.images.read_mask`; it counts in each file.
    image : Path, optional
        The file that the mask belongs to; a 2D image where it is left out.
    frame : Frame, optional
        Where given, every file of a volume's mask has to lie on it.

    Returns
    -------
    (M, N) or (X, Y, Z) ndarray of bool

    Raises
    ------
    DataError
        As `read_mask` or `weakseg.data.volumes.read_volume_mask`, and where two files have
        different sizes.
    """
    paths = _each(files)
    if image is not None and formats_of(image) is VOLUMES:
        return _joined([read_volume_mask(p, rule, frame, image=image) for p in paths], paths, image)
    masks = []
    for path in paths:
        with told_beside(path, image):
            masks.append(read_mask(path, rule))
    return _joined(masks, paths, image)


def union(masks: Sequence[NDArray[np.bool_]]) -> NDArray[np.bool_]:
    """What any of some masks of one shape marks; at least one."""
    return masks[0] if len(masks) == 1 else np.logical_or.reduce(masks)


def _each(files: MaskFiles) -> tuple[Path, ...]:
    return (files,) if isinstance(files, Path) else files


def _joined(
    masks: Sequence[NDArray[np.bool_]], paths: Sequence[Path], image: Path | None
) -> NDArray[np.bool_]:
    for mask, path in zip(masks, paths, strict=True):
        if mask.shape != masks[0].shape:
            raise DataError(
                "Two masks of one image have different sizes.",
                where=" beside ".join(public_path(p, beside=image) for p in (path, paths[0])),
                found=" and ".join(" × ".join(map(str, m.shape)) for m in (mask, masks[0])),
                fix="export both on the image's own grid",
            )
    return union(masks)
