"""Raw samples of an image file, upright, and the errors that its decoders share."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from weakseg.data.formats.base import Frame, image_frame
from weakseg.errors import DataError, first_line

MAX_PIXELS = 89_478_485
"""Larger images are refused, as a small file can claim to be huge; Pillow's own limit."""
MAX_BYTES = 2**28
"""Nor may an image's samples take more: as many 8-bit colour pixels as `MAX_PIXELS`."""
MAX_FILE_BYTES = MAX_BYTES + 2**26
"""The same of a file, which may hold a little beside its pixels."""

_MB = 1e6


@dataclass(frozen=True)
class Pixels:
    """Raw samples, upright.

    Attributes
    ----------
    values : (M, N) or (M, N, 3) ndarray
        Samples as stored; indices where there is a palette; 0 to 1, 3 or 15 for 1, 2 or 4 bits.
    bits : int
        Bits a sample.
    alpha : (M, N) ndarray, optional
        Opacity, 0 to its type's maximum.
    colours : (K, 3) ndarray of uint8, optional
        The palette, laid over black where it is transparent.
    over_black : bool
        Whether the samples, or the palette's colours, are multiplied by the opacity already.
    lossy : bool
        Whether samples went through JPEG, which adds to them what was not there.
    orientation : int
        By which orientation tag the samples have been turned upright; 1 where by none.
    """

    values: NDArray[Any]
    bits: int
    alpha: NDArray[Any] | None = None
    colours: NDArray[np.uint8] | None = None
    over_black: bool = False
    lossy: bool = False
    orientation: int = 1


def damaged(path: Path, e: Exception) -> DataError:
    """The error for what no decoder reads to its end."""
    # Pillow's own words name an object in memory.
    unknown = type(e).__name__ == "UnidentifiedImageError"
    return DataError(
        "The image is damaged or of a variant that cannot be decoded.",
        where=str(path),
        found="a header that cannot be understood" if unknown else first_line(e),
        fix="copy the file again from its source, or save it as PNG with another program",
    )


def check_size(path: Path, shape: tuple[int, int], channels: int, sample: int) -> None:
    """Judge an image by its header, before its pixels are read.

    Parameters
    ----------
    path : Path
    shape : (height, width)
    channels : int
        Samples of a pixel.
    sample : int
        Bytes of a sample.

    Raises
    ------
    DataError
        Above `MAX_PIXELS` or `MAX_BYTES`.
    ValueError
        Where a side has no pixel, or a pixel no sample.
    """
    pixels = shape[0] * shape[1]
    if pixels < 1 or channels < 1:
        raise ValueError(f"a size of {shape[0]} × {shape[1]} pixels of {channels} channels")
    if pixels > MAX_PIXELS or pixels * channels * sample > MAX_BYTES:
        size = pixels * channels * sample / _MB
        raise _too_large(
            path,
            f"{shape[0]} × {shape[1]} pixels take {size:.0f} MB of memory",
            f"{MAX_PIXELS / _MB:.0f} million pixels and {MAX_BYTES / _MB:.0f} MB",
        )


def check_file_size(f: IO[bytes], path: Path) -> None:
    """Raise a DataError for a file above `MAX_FILE_BYTES`; call before it is read whole."""
    size = f.seek(0, os.SEEK_END)
    if size > MAX_FILE_BYTES:
        raise _too_large(
            path, f"the file has {size / _MB:.0f} MB", f"{MAX_FILE_BYTES / _MB:.0f} MB"
        )


def _too_large(path: Path, found: str, limit: str) -> DataError:
    # Cause and limit stand in the sentence itself, as some lists show nothing else.
    return DataError(
        f"The image is too large: {found}, and the limit is {limit}.",
        where=str(path),
        fix="shrink it, save it with 8 bits, or cut it into tiles",
    )


def stack(path: Path, found: str) -> DataError:
    """The error for a file of several images."""
    return DataError(
        "The file is a stack of several images.",
        where=str(path),
        found=found,
        expected="one two-dimensional image",
        fix="split the stack into one file a slice, and give each a row of the manifest",
    )


def upright_frame(height: int, width: int, orientation: int) -> Frame:
    """The frame of an image of a stored size, turned as `upright` turns its samples."""
    return image_frame(width, height) if orientation in range(5, 9) else image_frame(height, width)


def upright(pixels: Pixels, orientation: int) -> Pixels:
    """The samples turned as an orientation tag says, 1 to 8; other tags say nothing."""
    if orientation not in range(2, 9):
        return pixels

    def turn(a: NDArray[Any]) -> NDArray[Any]:
        # EXIF 2.3, tag 274: where the stored first row and first column belong.
        if orientation >= 5:
            a = a.swapaxes(0, 1)
        if orientation in (3, 4, 7, 8):
            a = a[::-1]
        if orientation in (2, 3, 6, 7):
            a = a[:, ::-1]
        return np.ascontiguousarray(a)

    alpha = None if pixels.alpha is None else turn(pixels.alpha)
    return replace(pixels, values=turn(pixels.values), alpha=alpha, orientation=orientation)
