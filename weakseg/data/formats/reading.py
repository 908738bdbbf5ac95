"""From a path to a frame or to raw samples; the format is told by the content.

No single library reads every type without losing bits: Pillow cuts 16-bit colour to 8 bits,
tifffile needs extra codecs for LZW and JPEG, and OpenCV drops palettes; each format uses what
keeps it whole.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from pathlib import Path
from typing import IO, Any, TypeVar

from weakseg.data.formats.base import HEAD, Format, Formats, Frame, empty_file, opened
from weakseg.data.formats.nifti import Voxels
from weakseg.data.formats.pixels import Pixels
from weakseg.data.formats.registry import IMAGES, VOLUMES, formats_of, recognise

DECODERS = 4
"""Threads that decode images."""

Samples = TypeVar("Samples")


def decode(path: Path) -> Pixels:
    """Read an image file; its header is judged before more is read.

    Raises
    ------
    DataError
        If the file is missing, empty, damaged, no image, a stack, or too large (`check_size`,
        `check_file_size`); also where a decoder would only warn, or leave pixels unfilled.
    """
    with _opened(path, IMAGES) as f:
        pixels = _format(f, path, IMAGES).read(f, path)
        if pixels.values.size == 0 or pixels.values.ndim not in (2, 3):
            raise ValueError(f"samples of the shape {pixels.values.shape} were decoded")
    return pixels


def decode_volume(path: Path) -> Voxels:
    """Read a volume's file of three dimensions.

    Raises
    ------
    DataError
        If the file is missing, empty, damaged, no volume, half of a pair, of two or more than
        three dimensions, larger than `MAX_VOXELS`, without usable affine, or holds colours or
        complex numbers.
    """
    with _opened(path, VOLUMES) as f:
        return _format(f, path, VOLUMES).read(f, path)


def read_frame(path: Path, formats: Formats[Any] | None = None) -> Frame:
    """Where the samples of a file lie, from its header alone; damage behind it goes unseen.

    Parameters
    ----------
    path : Path
    formats : Formats, optional
        What the file has to be; as its name says where it is left out.

    Raises
    ------
    DataError
        As `decode` and `decode_volume`.
    """
    wanted = formats or formats_of(path)
    with _opened(path, wanted) as f:
        return _format(f, path, wanted).inspect(f, path)


def format_of(path: Path, formats: Formats[Samples]) -> Format[Samples]:
    """The format of a file, by its content; with the errors of `read_frame`."""
    with _opened(path, formats) as f:
        return _format(f, path, formats)


def _opened(path: Path, formats: Formats[Any]) -> AbstractContextManager[IO[bytes]]:
    return opened(path, formats.damaged, formats.packed, formats.folders)


def _format(f: IO[bytes], path: Path, formats: Formats[Samples]) -> Format[Samples]:
    head = f.read(HEAD)
    if not head:
        raise empty_file(path)
    f.seek(0)
    return recognise(head, path, formats)
