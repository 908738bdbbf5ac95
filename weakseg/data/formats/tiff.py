"""TIFF files: tifffile where it has the codec, else OpenCV for deep samples and Pillow."""

from __future__ import annotations

import json
import logging
import math
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import IO, Any, Literal

import numpy as np
from numpy.typing import NDArray

from weakseg.data.formats.base import Format, Frame
from weakseg.data.formats.pixels import (
    Pixels,
    check_file_size,
    check_size,
    stack,
    upright,
    upright_frame,
)
from weakseg.data.formats.samples import ORIENTATION, opencv_samples, pillow_pixels
from weakseg.data.formats.tiff_data import BOUNDED, refuse_missing_data
from weakseg.data.formats.tiff_directories import directories
from weakseg.errors import DataError

logging.getLogger("tifffile").addHandler(logging.NullHandler())  # else it prints what it mends

_JPEG = (6, 7, 33007, 34892)
"""Compression tags that stand for JPEG with loss."""

_SIGNS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_PHOTOMETRIC = 262
_METAMORPH_PLANES = 33629  # its tag counts the slices behind the first one's pixels
_IMAGEJ_SLICES = re.compile(r"ImageJ=.*^images=(\d+)", re.DOTALL | re.MULTILINE)


def inspect_tiff(f: IO[bytes], path: Path) -> Frame:
    """The frame, from the directories."""
    with _only_page(f, path) as page:
        return upright_frame(page.imagelength, page.imagewidth, _orientation(page))


def decode_tiff(f: IO[bytes], path: Path) -> Pixels:
    """The samples of a TIFF file."""
    with _only_page(f, path) as page:
        check_file_size(f, path)
        refuse_missing_data(page, f)
        turn, deep = _orientation(page), page.bitspersample > 8
        plain = page.photometric in (0, 1, 2, 3) and page.bitspersample in (1, 8, 16, 32, 64)
        if plain and page.compression in BOUNDED:
            try:
                return upright(_tiff_pixels(page, np.asarray(page.asarray())), turn)
            except ValueError as e:
                if "imagecodecs" not in str(e):
                    raise
        if plain and deep:
            f.seek(0)
            values = opencv_samples(_as_stored(f.read(), page))
            if values.dtype != page.dtype.newbyteorder("=") or values.size != page.size:
                raise ValueError("samples of this kind cannot be decoded whole")
            return upright(_tiff_pixels(page, values), turn)
        return _from_pillow(f, page, turn)


def _from_pillow(f: IO[bytes], page: Any, turn: int) -> Pixels:
    from PIL import Image

    f.seek(0)
    image = Image.open(f, formats=("TIFF",))
    image.seek(page.index)
    image.load()  # turns a TIFF upright itself
    shape = (page.imagelength, page.imagewidth)
    if (image.height, image.width) != (shape[::-1] if turn in range(5, 9) else shape):
        raise ValueError("another size was decoded than the header says")
    pixels = pillow_pixels(image, 8)
    # Fewer bits are spread over 8 by Pillow, but for the indices of palettes.
    if image.mode == "P":
        pixels = replace(pixels, bits=page.bitspersample)
    return replace(pixels, orientation=turn, lossy=int(page.compression) in _JPEG)


@contextmanager
def _only_page(f: IO[bytes], path: Path) -> Iterator[Any]:
    """tifffile's page of the one image, judged by its header."""
    from tifffile import TiffFile

    pages = directories(f, path)
    # Reduced copies of the same image, as scanners write them, do not make a stack.
    images = [d for d in pages if not d.reduced] or pages
    if not images:
        raise ValueError("the file holds no image")
    if len(images) > 1:
        raise stack(path, f"{len(images)} pages")
    f.seek(0)
    with TiffFile(f) as tiff:
        page = tiff.pages[images[0].index]
        if page.offset != images[0].offset:
            raise ValueError("the directories of the TIFF cannot be followed")
        _refuse_kind(page, path)
        if slices := _slices(page, tiff.filehandle.size):
            raise stack(path, f"{slices} slices in one page")
        yield page


def _refuse_kind(page: Any, path: Path) -> None:
    if _PHOTOMETRIC not in page.tags:
        raise ValueError("the TIFF does not tell what its samples mean (tag 262)")
    if page.dtype is None or page.dtype.kind not in "buif":
        raise DataError(
            "The TIFF's type of samples is not supported.",
            where=str(path),
            found=_sample_type(page),
            expected="integers, or floats of 16, 32 or 64 bits",
            fix="save it as PNG or TIFF of 8 or 16 bits with another program",
        )
    shape = (page.imagelength, page.imagewidth)
    check_size(path, shape, page.samplesperpixel, page.dtype.itemsize)
    if page.samplesperpixel > 4 or (page.samplesperpixel == 2 and not page.extrasamples):
        raise DataError(
            "The image has more channels than a grey or colour image.",
            where=str(path),
            found=f"{page.samplesperpixel} channels",
            expected="1 (grey) or 3 (red, green, blue), and opacity",
            fix="save the channel that matters as an image of its own",
        )


def _sample_type(page: Any) -> str:
    if page.dtype is not None:
        return f"{page.dtype.name} samples"
    names = {1: "unsigned integers", 2: "signed integers", 3: "floats", 5: "complex integers"}
    kind = names.get(page.sampleformat, f"the unknown sample format {page.sampleformat}")
    return f"{kind} of {page.bitspersample} bits"


def _slices(page: Any, size: int) -> int:
    """How many slices a page holds where they are more than one, else 0.

    ImageJ, MetaMorph and tifffile describe slices that lie behind the first one's pixels without
    pages of their own. Other programs copy ImageJ's description without the slices.
    """
    if page.imagedepth > 1:
        return int(page.imagedepth)
    if _METAMORPH_PLANES in page.tags:
        planes = int(page.tags[_METAMORPH_PLANES].count)
        return planes if planes > 1 else 0
    text = page.description or ""
    slices = 0
    if said := _IMAGEJ_SLICES.match(text[:10_000]):
        slices = int(said[1][:9])
    elif text.startswith('{"shape":'):
        slices = math.prod(json.loads(text)["shape"]) // max(page.size, 1)
    behind = size - (page.dataoffsets[0] if page.dataoffsets else 0)
    return slices if slices > 1 and behind >= 2 * page.nbytes else 0


def _orientation(page: Any) -> int:
    tag = page.tags.get(ORIENTATION)
    return int(tag.value) if tag is not None else 1


def _as_stored(data: bytes, page: Any) -> bytes:
    """The file without what OpenCV would do to some types of samples and not to others.

    It turns deep samples upright, but never inverts them where white is zero: both are left to
    us, so the tags are set to upright, and to grey where black is zero. Of several directories it
    reads the first, so that becomes the page's.
    """
    plain = bytearray(data)
    order: Literal["little", "big"] = "little" if page.parent.byteorder == "<" else "big"
    first = slice(8, 16) if page.parent.is_bigtiff else slice(4, 8)
    plain[first] = page.offset.to_bytes(first.stop - first.start, order)
    for code in (ORIENTATION, _PHOTOMETRIC):
        tag = page.tags.get(code)
        if tag is None or (code == _PHOTOMETRIC and page.photometric == 2):
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
    if values.dtype == bool:
        values = values.astype(np.uint8)
    if page.photometric == 3:
        colours = (np.asarray(page.colormap).T >> 8).astype(np.uint8)
        return Pixels(values, page.bitspersample, colours=colours)
    if page.photometric == 0 and not np.issubdtype(values.dtype, np.floating):
        top = 1 if page.bitspersample == 1 else np.iinfo(values.dtype).max
        values = (top - values).astype(values.dtype)
    return Pixels(values, page.bitspersample, alpha, over_black=over_black, lossy=lossy)


TIFF: Format[Pixels] = Format(
    "TIFF",
    (".tif", ".tiff"),
    # DICOM's preamble may be a TIFF's header, so that viewers of both read the file.
    guess=lambda head, _: head.startswith(_SIGNS) and head[128:132] != b"DICM",
    inspect=inspect_tiff,
    read=decode_tiff,
)
