"""From a file to raw samples, without losing bits: what no single library does for every type.

Pillow cuts 16-bit colour to 8 bits, tifffile needs extra codecs for LZW and JPEG, and OpenCV drops
palettes; each is used for what it keeps whole.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from weakseg.data.formats.dicom import DICOM, DICOM_REMEDY, folder_error, is_dicom
from weakseg.data.formats.jpeg import decode_jpeg, jpeg_size
from weakseg.data.formats.pixels import MAX_PIXELS, Pixels, damaged
from weakseg.data.formats.png import decode_png, png_size
from weakseg.data.formats.tiff import decode_tiff, tiff_size
from weakseg.errors import DataError

__all__ = [
    "DECODERS",
    "IMAGE_SUFFIXES",
    "MAX_PIXELS",
    "MISSING",
    "VOLUME_SUFFIXES",
    "Pixels",
    "decode",
    "empty_file",
    "foreign_kind",
    "image_size",
    "is_volume",
    "open_file",
]

IMAGE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".tif", ".tiff"})
VOLUME_SUFFIXES = (".nii", ".nii.gz")

DECODERS = 4
"""Threads that decode images."""

MISSING = "The file does not exist."

_MAGIC = (
    (b"\x89PNG\r\n\x1a\n", "png"),
    (b"\xff\xd8\xff", "jpeg"),
    (b"II*\0", "tiff"),
    (b"MM\0*", "tiff"),
    (b"II+\0", "tiff"),
    (b"MM\0+", "tiff"),
)
_AS_PNG = "save it as PNG"
_AS_VOLUME = (
    "list volumes (.nii, .nii.gz) in a manifest of volumes alone, or export their slices as 16-bit "
    "PNG or TIFF"
)
_OTHERS = (
    (0, b"version https://git-lfs", "a Git LFS pointer", "fetch the file itself: git lfs pull"),
    (344, b"n+1\0", "a NIfTI volume", _AS_VOLUME),
    (4, b"n+2\0", "a NIfTI volume", _AS_VOLUME),
    (0, b"\x1f\x8b", "gzip data, perhaps a NIfTI volume", _AS_VOLUME),
    (0, b"GIF8", "a GIF", _AS_PNG),
    (0, b"BM", "a BMP", _AS_PNG),
    (0, b"RIFF", "a WebP or another RIFF file", _AS_PNG),
    (0, b"\0\0\0\x0cjP  ", "a JPEG 2000", _AS_PNG),
    (0, b"%PDF", "a PDF", _AS_PNG),
    (0, b"<", "HTML or XML text", "if a download went wrong, fetch the file again"),
)


_DECODE = {"png": decode_png, "jpeg": decode_jpeg, "tiff": decode_tiff}
_SIZE = {"png": png_size, "jpeg": jpeg_size, "tiff": tiff_size}


def decode(path: Path) -> Pixels:
    """Read a PNG, JPEG or TIFF file; its header is judged before more is read.

    Raises
    ------
    DataError
        If the file is missing, empty, damaged, no image, a stack, or too large (`check_size`,
        `check_file_size`); also where a decoder would only warn, or leave pixels unfilled.
    """
    with open_file(path) as f, _errors_of(path):
        pixels = _DECODE[_kind(f, path)](f, path)
        if pixels.values.size == 0 or pixels.values.ndim not in (2, 3):
            raise ValueError(f"samples of the shape {pixels.values.shape} were decoded")
    return pixels


def image_size(path: Path) -> tuple[int, int]:
    """(height, width) in pixels of an upright image, from the header alone.

    Raises
    ------
    DataError
        If the file is missing, empty, no image, a stack, or too large (`check_size`). Damage
        behind the header goes unseen.
    """
    with open_file(path) as f, _errors_of(path):
        shape, turn = _SIZE[_kind(f, path)](f, path)
    return (shape[1], shape[0]) if turn in range(5, 9) else shape


@contextmanager
def _errors_of(path: Path) -> Iterator[None]:
    """What a decoder raises, which may be anything, as a DataError."""
    try:
        yield
    except (DataError, ImportError):
        raise
    except Exception as e:
        raise damaged(path, e) from None


def is_volume(path: Path | str) -> bool:
    """Whether a file's name is a volume's: it ends in one of `VOLUME_SUFFIXES`, in any case."""
    return str(path).lower().endswith(VOLUME_SUFFIXES)


def open_file(path: Path) -> IO[bytes]:
    """Open an image or a volume for reading.

    Raises
    ------
    DataError
        If it is missing (with the message `MISSING`), no file, or may not be read.
    """
    try:
        if path.is_dir():
            raise folder_error(path)
        if path.exists() and not path.is_file():
            raise DataError(
                "An image was expected, but the path is a device.",
                where=str(path),
                fix="name the image file itself",
            )
        return path.open("rb")
    except FileNotFoundError:
        raise DataError(MISSING, where=str(path), fix="check its name and folder") from None
    except (OSError, ValueError) as e:
        raise DataError(
            "The file cannot be opened.",
            where=str(path),
            found=getattr(e, "strerror", None) or str(e),
            fix="check its name and its permissions",
        ) from None


def _kind(f: IO[bytes], path: Path) -> str:
    head = f.read(512)
    if not head:
        raise empty_file(path)
    for magic, kind in _MAGIC:
        if head.startswith(magic):
            return kind
    found, fix = foreign_kind(head) or ("a file of another kind", _AS_PNG)
    raise DataError(
        "The file is not a PNG, JPEG or TIFF image.", where=str(path), found=found, fix=fix
    )


def empty_file(path: Path) -> DataError:
    """The error for a file without a byte."""
    return DataError("The file is empty.", where=str(path), found="0 bytes", fix="copy it again")


def foreign_kind(head: bytes) -> tuple[str, str] | None:
    """What a file that is no PNG, JPEG or TIFF is, and the way out; None where it is not known."""
    if is_dicom(head):
        return DICOM, DICOM_REMEDY
    for at, magic, name, remedy in _OTHERS:
        if head[at:].startswith(magic):
            return name, remedy
    return None
