"""From a file to raw samples, without losing bits: what no single library does for every type.

Pillow cuts 16-bit colour to 8 bits, tifffile needs extra codecs for LZW and JPEG, and OpenCV drops
palettes; each is used for what it keeps whole.
"""

from __future__ import annotations

import io
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from weakseg.errors import DataError, first_line

if TYPE_CHECKING:
    from PIL import Image

IMAGE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".tif", ".tiff"})
VOLUME_SUFFIXES = (".nii", ".nii.gz")

MAX_PIXELS = 89_478_485
"""Larger images are refused, as a small file can claim to be huge; Pillow's own limit."""

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
        Opacity, 0 to the type's maximum, where samples are not multiplied by it yet.
    colours : (K, 3) ndarray of uint8, optional
        The palette, laid over black where it is transparent.
    """

    values: NDArray[Any]
    bits: int
    alpha: NDArray[Any] | None = None
    colours: NDArray[np.uint8] | None = None


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
        return _from_tiff(data, path) if kind == "tiff" else _from_pillow(data, path)
    except DataError:
        raise
    except Exception as e:  # decoders raise whatever comes to their mind
        raise _damaged(path, e) from None


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
                with _tiff(f) as tiff:
                    page = _only_page(tiff, path)
                    shape, turn = (page.imagelength, page.imagewidth), _tiff_orientation(page)
            else:
                image = _pillow(f, path)
                shape, turn = (image.height, image.width), _orientation(image)
        except DataError:
            raise
        except Exception as e:  # as above
            raise _damaged(path, e) from None
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


def _damaged(path: Path, e: Exception) -> DataError:
    if type(e).__name__ == "DecompressionBombError":
        return _too_large(path, None)
    return DataError(
        "The image is damaged or of a variant that cannot be decoded.",
        where=str(path),
        found=first_line(e),
        fix="copy the file again from its source, or save it as PNG with another program",
    )


def _too_large(path: Path, shape: tuple[int, int] | None) -> DataError:
    return DataError(
        "The image is too large.",
        where=str(path),
        found=f"{shape[0]} × {shape[1]} pixels" if shape else None,
        expected=f"at most {MAX_PIXELS / 1e6:.0f} million pixels",
        fix="shrink it, or cut it into tiles",
    )


def _stack(path: Path, found: str) -> DataError:
    return DataError(
        "The file is a stack of several images.",
        where=str(path),
        found=found,
        expected="one two-dimensional image",
        fix="split the stack into one file a slice, and give each a row of the manifest",
    )


def _upright(pixels: Pixels, orientation: int) -> Pixels:
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
    return replace(pixels, values=turn(pixels.values), alpha=alpha)


# PNG and JPEG


def _pillow(f: IO[bytes], path: Path) -> Image.Image:
    from PIL import Image

    image = Image.open(f, formats=("PNG", "JPEG", "TIFF"))
    if image.width * image.height > MAX_PIXELS:
        raise _too_large(path, (image.height, image.width))
    frames = getattr(image, "n_frames", 1)
    if frames > 1 and image.format != "MPO":  # a phone's MPO: the photo and its thumbnails
        raise _stack(path, f"{frames} frames")
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
        return _upright(_from_opencv(data), turn)
    return _upright(_pillow_pixels(image, depth), turn)


def _pillow_pixels(image: Image.Image, depth: int) -> Pixels:
    if image.mode == "P":
        return Pixels(np.asarray(image), depth, colours=_palette(image))
    if image.mode == "1":
        depth, values = 1, np.asarray(image).astype(np.uint8)
    elif image.mode == "L" and depth < 8:  # Pillow spreads 2 and 4 bits over 0 to 255
        values = np.asarray(image) // np.uint8(255 // (2**depth - 1))
    elif image.mode in ("LA", "RGBA"):
        both = np.asarray(image)
        colours = both[..., 0] if image.mode == "LA" else both[..., :3]
        return Pixels(np.ascontiguousarray(colours), 8, np.ascontiguousarray(both[..., -1]))
    elif image.mode in ("L", "RGB", "F", "I") or image.mode.startswith("I;16"):
        values = np.asarray(image)
        values = values.astype(values.dtype.newbyteorder("="), copy=False)
    else:  # CMYK, Lab and their like
        values = np.asarray(image.convert("RGB"))
    clear = image.info.get("transparency")
    if not isinstance(clear, int | tuple):
        return Pixels(values, depth)
    hidden = values == np.asarray(clear)
    hidden = hidden.all(axis=2) if hidden.ndim == 3 else hidden
    top = np.iinfo(values.dtype).max if np.issubdtype(values.dtype, np.integer) else 1
    return Pixels(values, depth, np.where(hidden, 0, top).astype(values.dtype))


def _palette(image: Image.Image) -> NDArray[np.uint8]:
    colours = np.array(image.getpalette("RGB"), dtype=np.uint8).reshape(-1, 3)
    clear = image.info.get("transparency")
    if clear is None:
        return colours
    alpha = np.full(len(colours), 255, dtype=np.uint16)
    if isinstance(clear, int):
        alpha[clear : clear + 1] = 0
    else:
        some = np.frombuffer(clear, dtype=np.uint8)[: len(alpha)]
        alpha[: len(some)] = some
    return ((colours * alpha[:, None] + 127) // 255).astype(np.uint8)


def _from_opencv(data: bytes) -> Pixels:
    values = _opencv_samples(data)
    bits = values.dtype.itemsize * 8
    if values.ndim == 2:
        return Pixels(values, bits)
    alpha = np.ascontiguousarray(values[..., 3]) if values.shape[2] == 4 else None
    return Pixels(np.ascontiguousarray(values[..., :3]), bits, alpha)


def _opencv_samples(data: bytes) -> NDArray[Any]:
    """Samples as OpenCV decodes them, red first: (M, N), (M, N, 3) or (M, N, 4)."""
    import cv2

    image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if image is None:
        raise ValueError("the pixels cannot be decoded")
    return image if image.ndim == 2 else image[..., [2, 1, 0, 3][: image.shape[2]]]


# TIFF


def _tiff(f: IO[bytes]) -> Any:
    from tifffile import TiffFile

    return TiffFile(f)


def _only_page(tiff: Any, path: Path) -> Any:
    # Reduced copies of the same image, as scanners write them, do not make a stack.
    pages = [p for p in tiff.pages if not int(p.subfiletype) & 1] or list(tiff.pages)
    if not pages:
        raise ValueError("the file holds no image")
    if len(pages) > 1:
        raise _stack(path, f"{len(pages)} pages")
    page = pages[0]
    if page.imagedepth > 1:
        raise _stack(path, f"{page.imagedepth} slices in one page")
    # ImageJ describes slices that lie behind the first page's pixels without pages of their own.
    whole = max((s.size for s in tiff.series if s.keyframe is page.keyframe), default=page.size)
    if whole > page.size > 0:
        raise _stack(path, f"{whole // page.size} slices in one page")
    if page.imagelength * page.imagewidth > MAX_PIXELS:
        raise _too_large(path, (page.imagelength, page.imagewidth))
    if page.samplesperpixel > 4 or (page.samplesperpixel == 2 and not page.extrasamples):
        raise DataError(
            "The image has more channels than a grey or colour image.",
            where=str(path),
            found=f"{page.samplesperpixel} channels",
            expected="1 (grey) or 3 (red, green, blue), and opacity",
            fix="save the channel that matters as an image of its own",
        )
    return page


def _tiff_orientation(page: Any) -> int:
    tag = page.tags.get(274)
    return int(tag.value) if tag is not None else 1


def _from_tiff(data: bytes, path: Path) -> Pixels:
    with _tiff(io.BytesIO(data)) as tiff:
        page = _only_page(tiff, path)
        turn, deep = _tiff_orientation(page), page.bitspersample > 8
        plain = page.photometric in (0, 1, 2, 3) and page.bitspersample in (1, 8, 16, 32, 64)
        # Damage must not be mistaken for a codec that tifffile lacks.
        ends = (o + n for o, n in zip(page.dataoffsets, page.databytecounts, strict=True))
        if max(ends) > len(data):
            raise ValueError("the file is truncated")
        if plain:
            try:
                return _upright(_tiff_pixels(page, np.asarray(page.asarray())), turn)
            except ValueError as e:
                if "imagecodecs" not in str(e):
                    raise
            if deep:
                values = _opencv_samples(_as_stored(data, page))
                if values.dtype != page.dtype.newbyteorder("=") or values.size != page.size:
                    raise ValueError("samples of this kind cannot be decoded whole")
                return _upright(_tiff_pixels(page, values), turn)
    image = _pillow(io.BytesIO(data), path)
    image.load()  # turns a TIFF upright itself
    pixels = _pillow_pixels(image, 8)
    if image.mode == "P" and plain:
        return replace(pixels, bits=page.bitspersample)
    return pixels


def _as_stored(data: bytes, page: Any) -> bytes:
    """The file without what OpenCV would do to some types of samples and not to others.

    It turns deep samples upright, but never inverts them where white is zero: both are left to
    us, so the tags are set to upright, and to grey where black is zero.
    """
    plain = bytearray(data)
    order: Literal["little", "big"] = "little" if page.parent.byteorder == "<" else "big"
    for code in (274, 262):
        tag = page.tags.get(code)
        if tag is None or (code == 262 and page.photometric == 2):
            continue
        size = tag.valuebytecount // tag.count
        plain[tag.valueoffset : tag.valueoffset + size] = (1).to_bytes(size, order)
    return bytes(plain)


def _tiff_pixels(page: Any, values: NDArray[Any]) -> Pixels:
    """Pixels of a page's samples, as they are stored."""
    shape = (page.imagelength, page.imagewidth)
    if page.planarconfig == 2 and values.ndim == 3 and values.shape[1:] == shape:
        values = np.moveaxis(values, 0, -1)
    values = values.reshape(*shape, -1)
    if not (values.dtype == bool or np.issubdtype(values.dtype, np.integer)) and not (
        np.issubdtype(values.dtype, np.floating)
    ):
        raise ValueError(f"samples of type {values.dtype} are no intensities")
    values = values.astype(values.dtype.newbyteorder("="), copy=False)
    alpha = None
    if values.shape[2] in (2, 4):
        # 2: straight opacity. 1: already multiplied, which is how it looks over black.
        if page.extrasamples and int(page.extrasamples[0]) == 2:
            alpha = np.ascontiguousarray(values[..., -1])
        values = values[..., :-1]
    values = np.ascontiguousarray(values[..., 0] if values.shape[2] == 1 else values)
    if page.photometric == 3:
        colours = (np.asarray(page.colormap).T >> 8).astype(np.uint8)
        return Pixels(values, page.bitspersample, colours=colours)
    if values.dtype == bool:
        values = values.astype(np.uint8)
    if page.photometric == 0 and not np.issubdtype(values.dtype, np.floating):
        top = 1 if page.bitspersample == 1 else np.iinfo(values.dtype).max
        values = (top - values).astype(values.dtype)
    return Pixels(values, page.bitspersample, alpha)
