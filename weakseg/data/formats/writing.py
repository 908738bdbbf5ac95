"""Masks in the format that goes with their image."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike

from weakseg.data.formats.registry import IMAGES, formats_of


def write_mask(path: Path, mask: ArrayLike, image: Path | None = None) -> None:
    """Write a mask, whole or not at all.

    Beside a 2D image as 8-bit PNG, 0 and 255; beside a volume as NIfTI, 0 and 1 in 8 bits, with
    the volume's place in the patient: affines and their codes, voxel sizes and units.

    Parameters
    ----------
    path : Path
        Ends in ``.png`` or ``.nii.gz``, see `mask_suffix`; its folder is made where it is missing.
    mask : (M, N) or (X, Y, Z) array_like of bool
        Numbers count as lesion unless they are 0.
    image : Path, optional
        The file that the mask belongs to; a 2D image where it is left out.

    Raises
    ------
    ValueError
        If the mask of an image is not two-dimensional, or holds no pixel; if the mask of a volume
        has not the volume's shape, or the path another ending.
    DataError
        If a volume's place cannot be read.
    """
    formats = IMAGES if image is None else formats_of(image)
    formats.masks.write(path, np.asarray(mask) != 0, path if image is None else image)


def mask_suffix(image: Path) -> str:
    """The ending of a mask's file beside an image or a volume."""
    return formats_of(image).mask_suffix
