"""GIF files of one frame, whose codes have to fill it.

Where codes end early, decoders leave the rest of the image as it is and say nothing; so they are
unpacked and counted here.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import NDArray

from weakseg.data.formats.base import Format, Frame, image_frame
from weakseg.data.formats.pixels import Pixels, check_file_size, check_size, stack

_SIGNS = (b"GIF87a", b"GIF89a")
_SCREEN = 13  # bytes of the header: sign, size, what follows
_IMAGE, _EXTENSION, _END = 0x2C, 0x21, 0x3B
_GRAPHIC = 0xF9  # the extension that names a transparent index
_HAS_PALETTE, _INTERLACED = 0x80, 0x40
_PASSES = ((0, 8), (4, 8), (2, 4), (1, 2))  # first row and step of an interlaced image's passes
_MOST_CODES = 4096


@dataclass(frozen=True)
class _Image:
    """The one frame of a GIF."""

    height: int
    width: int
    interlaced: bool
    palette: bytes
    transparent: int | None
    least_bits: int
    codes: bytes


def inspect_gif(f: IO[bytes], path: Path) -> Frame:
    """The frame, from the header; the blocks are walked through, as they tell a stack."""
    image = _read(f, path)
    return image_frame(image.height, image.width)


def decode_gif(f: IO[bytes], path: Path) -> Pixels:
    """The samples of a GIF file: indices into its palette."""
    image = _read(f, path)
    flat = _unpacked(image.codes, image.least_bits, image.height * image.width)
    values = np.frombuffer(flat, np.uint8).reshape(image.height, image.width)
    if image.interlaced:
        stored, values = values, np.empty_like(values)
        values[[r for first, step in _PASSES for r in range(first, image.height, step)]] = stored
    colours = np.frombuffer(image.palette, np.uint8).reshape(-1, 3)
    clear = image.transparent
    if clear is None:
        return Pixels(values, 8, colours=colours)
    alpha = np.where(values == clear, 0, 255).astype(np.uint8)
    return Pixels(values, 8, alpha, _without(colours, clear), over_black=True)


def _without(colours: NDArray[np.uint8], clear: int) -> NDArray[np.uint8]:
    """A palette over black, where one index is transparent."""
    return np.where(np.arange(len(colours))[:, None] == clear, 0, colours).astype(np.uint8)


def _read(f: IO[bytes], path: Path) -> _Image:
    f.seek(0)
    screen = f.read(_SCREEN)
    if len(screen) < _SCREEN:
        raise ValueError("the GIF's header is cut off")
    width, height = _size(screen, 6)
    check_size(path, (height, width), 1, 1)
    check_file_size(f, path)
    f.seek(0)
    return _walk(f.read(), (height, width), path)


def _size(data: bytes, at: int) -> tuple[int, int]:
    """(width, height) at a place."""
    width, height = struct.unpack_from("<HH", data, at)
    return width, height


def _walk(data: bytes, size: tuple[int, int], path: Path) -> _Image:
    """Through all blocks up to the end, which a file of several frames reaches as well."""
    shared, at = _palette(data, data[10], _SCREEN)
    first, frames, transparent = None, 0, None
    while True:
        kind = data[at] if at < len(data) else None
        if kind == _END:
            break
        if kind == _EXTENSION:
            content, after = _blocks(data, at + 2, keep=data[at + 1 : at + 2] == bytes([_GRAPHIC]))
            if len(content) >= 4 and content[0] & 1:
                transparent = content[3]
            at = after
        elif kind == _IMAGE:
            image, at = _image(data, at + 1, shared, transparent, keep=not frames)
            first, frames, transparent = first or image, frames + 1, None
        elif kind is None:
            raise ValueError("the GIF has no end")
        else:
            raise ValueError(f"the GIF holds a block of the unknown kind {kind}")
    if frames > 1:
        raise stack(path, f"{frames} frames")
    if first is None:
        raise ValueError("the GIF holds no image")
    return _whole(first, size)


def _image(
    data: bytes, at: int, shared: bytes, transparent: int | None, *, keep: bool
) -> tuple[_Image, int]:
    """A frame, the place of whose description is given, and what lies behind it."""
    if at + 9 > len(data):
        raise ValueError("the GIF is cut off")
    (width, height), flags = _size(data, at + 4), data[at + 8]
    own, at = _palette(data, flags, at + 9)
    least_bits = data[at] if at < len(data) else 0
    codes, after = _blocks(data, at + 1, keep=keep)
    interlaced = bool(flags & _INTERLACED)
    return _Image(height, width, interlaced, own or shared, transparent, least_bits, codes), after


def _whole(image: _Image, size: tuple[int, int]) -> _Image:
    """The frame, where it can fill the image."""
    if (image.height, image.width) != size:
        frame = f"{image.height} × {image.width}"
        raise ValueError(f"the frame of {frame} does not fill the image of {size[0]} × {size[1]}")
    if not image.palette:
        raise ValueError("the GIF has no palette")
    if not 2 <= image.least_bits <= 8:
        raise ValueError(f"codes of the GIF begin with {image.least_bits} bits")
    return image


def _palette(data: bytes, flags: int, at: int) -> tuple[bytes, int]:
    """The palette that flags announce, empty where they do not, and what lies behind it."""
    if not flags & _HAS_PALETTE:
        return b"", at
    after = at + 3 * 2 ** ((flags & 7) + 1)
    if after > len(data):
        raise ValueError("the GIF's palette is cut off")
    return data[at:after], after


def _blocks(data: bytes, at: int, *, keep: bool) -> tuple[bytes, int]:
    """The content of blocks up to an empty one, if it is to be kept, and what lies behind them."""
    parts = []
    while at < len(data) and (length := data[at]):
        if keep:
            parts.append(data[at + 1 : at + 1 + length])
        at += 1 + length
    if at >= len(data):
        raise ValueError("the GIF is cut off")
    return b"".join(parts), at + 1


def _unpacked(codes: bytes, least_bits: int, wanted: int) -> bytes:
    """The indices that LZW codes stand for; so many, or a ValueError."""
    clear = 1 << least_bits
    table = [bytes([k]) for k in range(clear)] + [b"", b""]  # which clear the table, and end
    out: list[bytes] = []
    total = buffered = bits = 0
    width, before = least_bits + 1, b""
    for byte in codes:
        buffered |= byte << bits
        bits += 8
        while bits >= width:
            code = buffered & ((1 << width) - 1)
            buffered >>= width
            bits -= width
            if code == clear:
                del table[clear + 2 :]
                width, before = least_bits + 1, b""
                continue
            if code == clear + 1:
                return _counted(out, total, wanted)
            if code < len(table):
                entry = table[code]
            elif code == len(table) and before:
                entry = before + before[:1]
            else:
                raise ValueError("a code of the GIF stands for nothing")
            if before and len(table) < _MOST_CODES:
                table.append(before + entry[:1])
                width = min(len(table).bit_length(), 12)
            out.append(entry)
            total += len(entry)
            if total > wanted:
                return _counted(out, total, wanted)
            before = entry
    return _counted(out, total, wanted)


def _counted(out: list[bytes], total: int, wanted: int) -> bytes:
    if total > wanted:
        raise ValueError("the GIF holds more pixels than its header says")
    if total < wanted:
        raise ValueError(f"the pixels of the GIF do not fill the image: {total} of {wanted}")
    return b"".join(out)


GIF: Format[Pixels] = Format(
    "GIF",
    (".gif",),
    guess=lambda head, _: head.startswith(_SIGNS),
    inspect=inspect_gif,
    read=decode_gif,
)
