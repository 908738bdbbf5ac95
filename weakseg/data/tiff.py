"""TIFF files: tifffile where it has the codec, else OpenCV for deep samples and Pillow."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path
from typing import IO, Any, Literal

import numpy as np
from numpy.typing import NDArray

from weakseg.data.pixels import MAX_PIXELS, Pixels, stack, too_large, upright
from weakseg.data.samples import opencv_samples, pillow_pixels
from weakseg.errors import DataError

_JPEG = (6, 7, 33007, 34892)
"""Compression tags that stand for JPEG with loss."""


def _tiff(f: IO[bytes]) -> Any:
    from tifffile import TiffFile

    return TiffFile(f)


def _only_page(tiff: Any, path: Path) -> Any:
    # Reduced copies of the same image, as scanners write them, do not make a stack.
    pages = [p for p in tiff.pages if not int(p.subfiletype) & 1] or list(tiff.pages)
    if not pages:
        raise ValueError("the file holds no image")
    if len(pages) > 1:
        raise stack(path, f"{len(pages)} pages")
    page = pages[0]
    if page.imagedepth > 1:
        raise stack(path, f"{page.imagedepth} slices in one page")
    # ImageJ describes slices that lie behind the first page's pixels without pages of their own.
    whole = max((s.size for s in tiff.series if s.keyframe is page.keyframe), default=page.size)
    if whole > page.size > 0:
        raise stack(path, f"{whole // page.size} slices in one page")
    if page.imagelength * page.imagewidth > MAX_PIXELS:
        raise too_large(path, (page.imagelength, page.imagewidth))
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


def tiff_size(f: IO[bytes], path: Path) -> tuple[tuple[int, int], int]:
    """(height, width) as stored, and the orientation."""
    with _tiff(f) as tiff:
        page = _only_page(tiff, path)
        return (page.imagelength, page.imagewidth), _tiff_orientation(page)


def decode_tiff(data: bytes, path: Path) -> Pixels:
    """The samples of a TIFF file."""
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
                return upright(_tiff_pixels(page, np.asarray(page.asarray())), turn)
            except ValueError as e:
                if "imagecodecs" not in str(e):
                    raise
            if deep:
                values = opencv_samples(_as_stored(data, page))
                if values.dtype != page.dtype.newbyteorder("=") or values.size != page.size:
                    raise ValueError("samples of this kind cannot be decoded whole")
                return upright(_tiff_pixels(page, values), turn)
    from PIL import Image

    image = Image.open(io.BytesIO(data), formats=("TIFF",))
    image.load()  # turns a TIFF upright itself
    pixels = pillow_pixels(image, 8)
    if image.mode == "P" and plain:
        pixels = replace(pixels, bits=page.bitspersample)
    return replace(pixels, orientation=turn, lossy=int(page.compression) in _JPEG)


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
    alpha, lossy, over_black = None, int(page.compression) in _JPEG, False
    if values.shape[2] in (2, 4):
        # 2: straight opacity. 1: already multiplied, which is how it looks over black.
        if page.extrasamples and int(page.extrasamples[0]) in (1, 2):
            alpha = np.ascontiguousarray(values[..., -1])
            over_black = int(page.extrasamples[0]) == 1
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
    return Pixels(values, page.bitspersample, alpha, over_black=over_black, lossy=lossy)
