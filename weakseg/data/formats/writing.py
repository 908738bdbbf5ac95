"""Masks in the format that goes with their image."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from weakseg.data.formats.base import Formats
from weakseg.data.formats.reading import format_of, read_frame
from weakseg.data.formats.registry import IMAGES, formats_of
from weakseg.disk import as_path
from weakseg.errors import ArgumentError


def write_mask(path: Path, mask: ArrayLike, image: Path | None = None) -> None:
    """Write a mask, whole or not at all.

    Beside a 2D image as 8-bit PNG, 0 and 255; beside a volume as NIfTI, 0 and 1 in 8 bits, with
    the volume's place in the patient: affines and their codes, voxel sizes and units; of a DICOM
    series the scanner's coordinates.

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
    path = as_path(path)
    image = None if image is None else as_path(image)
    formats = IMAGES if image is None else formats_of(image)
    values = np.asarray(mask)
    if values.dtype.kind not in "buif":
        kind = values.dtype if isinstance(mask, np.ndarray) else type(mask).__name__
        raise ArgumentError(
            "mask is no array of booleans or numbers.", where="mask", found=str(kind)
        )
    marked = values if values.dtype == bool else values != 0
    write_like(path, marked, path if image is None else image, formats)


def write_like(path: Path, values: NDArray[Any], image: Path, formats: Formats[Any]) -> None:
    """Write an array in the format of masks, with the place of an image or a volume.

    Parameters
    ----------
    path : Path
    values : ndarray
        Booleans are a mask.
    image : Path
        Of one of ``formats``.
    formats : Formats

    Raises
    ------
    ValueError, DataError
        As `write_mask`.
    """
    own = formats is IMAGES or format_of(image, formats) is formats.masks
    formats.masks.write(path, values, image if own else read_frame(image, formats))


def mask_suffix(image: Path) -> str:
    """The ending of a mask's file beside an image or a volume."""
    return formats_of(image).mask_suffix
