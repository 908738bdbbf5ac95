"""PNG files: their chunks are counted and their checksums compared, which Pillow leaves undone.

Pillow neither compares the checksums of the pixels nor asks whether they fill the image, and
decodes all of a file to learn its orientation.
"""

from __future__ import annotations

import io
import os
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

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
from weakseg.data.formats.samples import (
    ORIENTATION,
    from_opencv,
    opencv_samples,
    pillow_pixels,
)
from weakseg.runs import write_bytes

MAX_CHUNKS = 100_000
"""Encoders that cut the pixels finely write chunks of 8 KiB: 40,000 of the largest image."""
MAX_OTHERS = 1000
"""Chunks that hold no pixels; programs write some dozens."""

_SAMPLES = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
_DEPTHS = {0: (1, 2, 4, 8, 16), 2: (8, 16), 3: (1, 2, 4, 8), 4: (8, 16), 6: (8, 16)}
# First row and column, and steps between rows and columns, of the seven passes of Adam7.
_PASSES = (
    *((0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4)),
    *((2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1)),
)
_SIGN = b"\x89PNG\r\n\x1a\n"
_TEXTS = (b"tEXt", b"zTXt", b"iTXt")
_TELLING = (b"Raw profile type exif\0", b"XML:com.adobe.xmp\0")  # texts by their keywords
_PIECE = 2**20
_KEPT = 2**24
"""Bytes of a file, and of its unpacked rows, that are kept: unpacking takes most of the time, and
is done once so."""


@dataclass(frozen=True)
class _Header:
    """The first chunk of a PNG."""

    width: int
    height: int
    depth: int
    colour: int
    interlaced: bool

    def raw_size(self) -> int:
        """Bytes of all rows, each with the number of its filter."""
        passes = _PASSES if self.interlaced else ((0, 0, 1, 1),)
        bits = _SAMPLES[self.colour] * self.depth
        total = 0
        for row, column, down, across in passes:
            rows = -(-(self.height - row) // down)
            columns = -(-(self.width - column) // across)
            if rows > 0 and columns > 0:
                total += rows * (1 + -(-columns * bits // 8))
        return total


@dataclass(frozen=True)
class _Chunk:
    name: bytes
    at: int
    length: int


def inspect_png(f: IO[bytes], path: Path) -> Frame:
    """The frame, from all chunks but those of the pixels."""
    header = _header(f, path)
    chunks = list(_chunks(f))
    _refuse_animation(f, chunks, path)
    return upright_frame(header.height, header.width, _orientation(f, chunks))


def decode_png(f: IO[bytes], path: Path) -> Pixels:
    """The samples of a PNG file."""
    from PIL import Image

    header = _header(f, path)
    check_file_size(f, path)
    if f.seek(0, os.SEEK_END) <= _KEPT:  # many short looks take as long as to unpack a small file
        f.seek(0)
        f = io.BytesIO(f.read())
    chunks = list(_chunks(f))
    if chunks[-1].name != b"IEND":
        raise ValueError("the PNG has no end")
    _refuse_animation(f, chunks, path)
    turn = _orientation(f, chunks)
    rows = _check_pixels(f, chunks, header)
    f.seek(0)
    if header.depth == 16 and header.colour != 0:
        return upright(from_opencv(f.read()), turn)
    if rows is not None and (plain := _plain(f, rows, chunks, header)) is not None:
        return upright(Pixels(plain, 8), turn)
    image = Image.open(f if rows is None else _repacked(f, chunks, rows), formats=("PNG",))
    image.load()
    return upright(pillow_pixels(image, header.depth), turn)


def _header(f: IO[bytes], path: Path) -> _Header:
    f.seek(8)
    data = f.read(25)
    if len(data) < 25 or data[:8] != b"\0\0\0\x0dIHDR":
        raise ValueError("the PNG's header is damaged")
    width, height = int.from_bytes(data[8:12], "big"), int.from_bytes(data[12:16], "big")
    depth, colour, interlaced = data[16], data[17], data[20]
    if depth not in _DEPTHS.get(colour, ()) or any(data[18:20]) or interlaced > 1:
        raise ValueError("the PNG's header is damaged")
    check_size(path, (height, width), _SAMPLES[colour], 2 if depth == 16 else 1)
    return _Header(width, height, depth, colour, bool(interlaced))


def _chunks(f: IO[bytes]) -> Iterator[_Chunk]:
    """Every chunk up to the end of the image; contents are passed over."""
    size = f.seek(0, os.SEEK_END)
    at, others = 8, 0
    for _ in range(MAX_CHUNKS):
        f.seek(at)
        head = f.read(8)
        length = int.from_bytes(head[:4], "big")
        if len(head) < 8 or at + 12 + length > size:
            raise ValueError("the PNG is truncated")
        if not head[4:].isalpha():
            raise ValueError("a chunk of the PNG has no name")
        others += head[4:] != b"IDAT"
        if others > MAX_OTHERS:
            raise ValueError(f"the PNG has more than {MAX_OTHERS} chunks that hold no pixels")
        yield _Chunk(head[4:], at + 8, length)
        if head[4:] == b"IEND":
            return
        at += 12 + length
    raise ValueError(f"the PNG has more than {MAX_CHUNKS} chunks")


def _refuse_animation(f: IO[bytes], chunks: list[_Chunk], path: Path) -> None:
    for chunk in chunks:
        if chunk.name == b"acTL":
            f.seek(chunk.at)
            frames = int.from_bytes(f.read(min(chunk.length, 4)), "big")
            if frames > 1:
                raise stack(path, f"{frames} frames")


def _orientation(f: IO[bytes], chunks: list[_Chunk]) -> int:
    """What Pillow finds in the chunks that may tell it, wherever they stand; else 1."""
    from PIL import Image

    turning = [c for c in chunks if c.length <= _PIECE and _may_turn(f, c)]
    if not turning:
        return 1
    turning += [c for c in chunks if c.name == b"IEND"]
    f.seek(0)
    without_pixels = [f.read(33)]
    for chunk in turning:
        f.seek(chunk.at - 8)
        without_pixels.append(f.read(chunk.length + 12))
    try:
        image = Image.open(io.BytesIO(b"".join(without_pixels)), formats=("PNG",))
        return int(Image.Image.getexif(image).get(ORIENTATION, 1))  # PNG's own wants the pixels
    except Exception:  # a broken tag is no reason to refuse an image
        return 1


def _may_turn(f: IO[bytes], chunk: _Chunk) -> bool:
    if chunk.name not in _TEXTS:
        return chunk.name == b"eXIf"
    f.seek(chunk.at)
    return f.read(max(map(len, _TELLING))).startswith(_TELLING)


def _check_pixels(f: IO[bytes], chunks: list[_Chunk], header: _Header) -> bytes | None:
    """Compare all checksums, and the number of bytes that the pixels unpack to.

    Returns
    -------
    bytes or None
        The rows as they are unpacked, each with the number of its filter; None of large images.
    """
    wanted, unpacked = header.raw_size(), 0
    rows: list[bytes] | None = [] if wanted <= _KEPT else None
    unpack = zlib.decompressobj()
    for chunk in chunks:
        f.seek(chunk.at - 4)
        crc = zlib.crc32(f.read(4))
        for piece in _pieces(f, chunk.length):
            crc = zlib.crc32(piece, crc)
            if chunk.name == b"IDAT":
                for part in _unpacked(unpack, piece):
                    unpacked += len(part)
                    if unpacked > wanted:
                        raise ValueError("the PNG holds more pixels than its header says")
                    if rows is not None:
                        rows.append(part)
        if crc != int.from_bytes(f.read(4), "big"):
            raise ValueError(f"the checksum of a PNG chunk ({chunk.name!r}) does not agree")
    if unpacked != wanted or not unpack.eof:
        raise ValueError("the pixels of the PNG do not fill the image")
    return None if rows is None else b"".join(rows)


def _pieces(f: IO[bytes], length: int) -> Iterator[bytes]:
    for at in range(0, length, _PIECE):
        yield f.read(min(_PIECE, length - at))


def _unpacked(unpack: zlib._Decompress, piece: bytes) -> Iterator[bytes]:
    """What a piece unpacks to; with little memory, however much it is."""
    while True:
        part = unpack.decompress(piece, _PIECE)
        yield part
        piece = unpack.unconsumed_tail
        if not piece and len(part) < _PIECE:
            return


def _plain(
    f: IO[bytes], rows: bytes, chunks: list[_Chunk], header: _Header
) -> NDArray[np.uint8] | None:
    """The samples of 8-bit grey of which the file tells nothing else; None of other files.

    Rows without a filter, as many masks are stored, need no decoder, which would take longer than
    all that is asked of them; for others OpenCV takes half as long as Pillow.
    """
    if (header.depth, header.colour, header.interlaced) != (8, 0, False):
        return None
    if [c.name for c in chunks if c.name != b"IDAT"] != [b"IHDR", b"IEND"]:
        return None
    lines = np.frombuffer(rows, dtype=np.uint8).reshape(header.height, 1 + header.width)
    if lines[:, 0].any():
        return opencv_samples(_repacked(f, chunks, rows).getvalue())
    return lines[:, 1:].copy()


def _repacked(f: IO[bytes], chunks: list[_Chunk], rows: bytes) -> io.BytesIO:
    """The same PNG with its rows stored, which costs Pillow nothing to unpack."""
    parts, stored = [_SIGN], False
    for chunk in chunks:
        if chunk.name != b"IDAT":
            f.seek(chunk.at - 8)
            parts.append(f.read(chunk.length + 12))
        elif not stored:
            data = zlib.compress(rows, 0)
            sum_of = zlib.crc32(data, zlib.crc32(chunk.name))
            parts += [len(data).to_bytes(4, "big"), chunk.name, data, sum_of.to_bytes(4, "big")]
            stored = True
    return io.BytesIO(b"".join(parts))


def write_png(path: Path, values: NDArray[Any], like: Path | Frame) -> None:
    """Write booleans as 8-bit grey, 0 and 255; ``like`` tells nothing that a PNG could hold."""
    import cv2

    if values.ndim != 2 or not values.size:
        raise ValueError(f"a mask has the shape (M, N), not {values.shape}")
    _, png = cv2.imencode(".png", np.where(values, np.uint8(255), np.uint8(0)))
    write_bytes(path, png.tobytes(), flushed=False)


PNG: Format[Pixels] = Format(
    "PNG",
    (".png",),
    guess=lambda head, _: head.startswith(_SIGN),
    inspect=inspect_png,
    read=decode_png,
    write=write_png,
)
