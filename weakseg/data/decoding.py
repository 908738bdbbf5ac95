"""From a file to raw samples, without losing bits: what no single library does for every type.

Pillow cuts 16-bit colour to 8 bits, tifffile needs extra codecs for LZW and JPEG, and OpenCV drops
palettes; each is used for what it keeps whole.
"""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path
from typing import IO, TYPE_CHECKING

from weakseg.data.pixels import MAX_PIXELS, Pixels, damaged, stack, too_large, upright
from weakseg.data.samples import from_opencv, pillow_pixels
from weakseg.data.tiff import decode_tiff, tiff_size
from weakseg.errors import DataError

if TYPE_CHECKING:
    from PIL import Image

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
    (128, b"DICM", "a DICOM file", "export it as 16-bit PNG or TIFF"),
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


def decode(path: Path) -> Pixels:
    """Read a PNG, JPEG or TIFF file.

    Raises
    ------
    DataError
        If the file is missing, empty, damaged, no image, a stack, or larger than `MAX_PIXELS`.
    """
    data = _contents(path)
    kind = _kind(data[:512], path)
    try:
        return decode_tiff(data, path) if kind == "tiff" else _from_pillow(data, path)
    except DataError:
        raise
    except Exception as e:  # decoders raise whatever comes to their mind
        raise damaged(path, e) from None


def image_size(path: Path) -> tuple[int, int]:
    """(height, width) in pixels of an upright image, from the header alone.

    Raises
    ------
    DataError
        If the file is missing, empty, no image, a stack, or larger than `MAX_PIXELS`. Damage
        behind the header goes unseen.
    """
    with open_file(path) as f:
        kind = _kind(f.read(512), path)
        f.seek(0)
        try:
            if kind == "tiff":
                shape, turn = tiff_size(f, path)
            else:
                image = _pillow(f, path)
                shape, turn = (image.height, image.width), _orientation(image)
        except DataError:
            raise
        except Exception as e:  # as above
            raise damaged(path, e) from None
    return (shape[1], shape[0]) if turn >= 5 else shape


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
        if path.exists() and not path.is_file():
            raise DataError(
                "An image was expected, but the path is a folder or a device.",
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


def _contents(path: Path) -> bytes:
    with open_file(path) as f:
        return f.read()


def _kind(head: bytes, path: Path) -> str:
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
    for at, magic, name, remedy in _OTHERS:
        if head[at:].startswith(magic):
            return name, remedy
    return None


# PNG and JPEG


def _pillow(f: IO[bytes], path: Path) -> Image.Image:
    from PIL import Image

    image = Image.open(f, formats=("PNG", "JPEG", "TIFF"))
    if image.width * image.height > MAX_PIXELS:
        raise too_large(path, (image.height, image.width))
    frames = getattr(image, "n_frames", 1)
    if frames > 1 and image.format != "MPO":  # a phone's MPO: the photo and its thumbnails
        raise stack(path, f"{frames} frames")
    return image


def _orientation(image: Image.Image) -> int:
    try:
        return int(image.getexif().get(0x0112, 1))
    except Exception:  # a broken tag is no reason to refuse an image
        return 1


def _from_pillow(data: bytes, path: Path) -> Pixels:
    image = _pillow(io.BytesIO(data), path)
    image.load()
    turn = _orientation(image)
    # The first chunk of a PNG holds bit depth and colour type at these bytes.
    depth, colour = (data[24], data[25]) if image.format == "PNG" else (8, -1)
    if depth == 16 and colour != 0:
        return upright(from_opencv(data), turn)
    pixels = replace(pillow_pixels(image, depth), lossy=image.format in ("JPEG", "MPO"))
    return upright(pixels, turn)
