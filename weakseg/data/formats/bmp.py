"""BMP files: 1 to 32 bits a pixel, run-length coded or not, bottom up or top down.

They are unpacked here: Pillow takes some palettes of greys for samples of another depth and fills
what run-length codes leave out, and OpenCV drops palettes.
"""

from __future__ import annotations

import os
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import NDArray

from weakseg.data.formats.base import Format, Frame, image_frame
from weakseg.data.formats.pixels import Pixels, check_file_size, check_size

_FILE_HEADER = 14
_OS2, _OS2_LATER = 12, 64  # headers of OS/2; palettes of the first have three bytes a colour
_HEADERS = (_OS2, 16, 40, 52, 56, 64, 108, 124)
_WITH_MASKS = (52, 56, 108, 124)  # headers that hold the masks of bits themselves
_NONE, _RLE8, _RLE4, _MASKS, _ALPHA_MASKS = 0, 1, 2, 3, 6
_OF_RLE = {_RLE8: 8, _RLE4: 4}
_EMBEDDED = {4: "JPEG", 5: "PNG"}
_END_OF_ROW, _END, _SKIP = 0, 1, 2
_USUAL = {16: (0x7C00, 0x3E0, 0x1F, 0), 32: (0xFF0000, 0xFF00, 0xFF, 0)}  # red, green, blue, alpha


@dataclass(frozen=True)
class _Header:
    """What a BMP says of its pixels; masks of bits are for red, green, blue and opacity."""

    width: int
    height: int
    top_down: bool
    bits: int
    compression: int
    masks: tuple[int, int, int, int]
    palette_at: int
    colours: int
    pixels_at: int

    @property
    def stride(self) -> int:
        """Bytes of a row, which ends on a multiple of four."""
        return (self.width * self.bits + 31) // 32 * 4


def inspect_bmp(f: IO[bytes], path: Path) -> Frame:
    """The frame, from the header."""
    header = _header(f, path)
    return image_frame(header.height, header.width)


def decode_bmp(f: IO[bytes], path: Path) -> Pixels:
    """The samples of a BMP file; indices where the pixels have colours of a palette."""
    header = _header(f, path)
    check_file_size(f, path)
    f.seek(header.pixels_at)
    if header.compression in _OF_RLE:
        rows = _unpacked(f.read(), header)
    else:
        rows = _samples(_rows(f.read(header.stride * header.height), header), header)
    if not header.top_down:
        rows = rows[::-1]
    if header.bits <= 8:
        return Pixels(np.ascontiguousarray(rows), header.bits, colours=_palette(f, header))
    colours = np.ascontiguousarray(rows[..., :3])
    alpha = np.ascontiguousarray(rows[..., 3]) if header.masks[3] else None
    # Programs that know no opacity leave its bits 0: who sees nothing then, sees no image.
    return Pixels(colours, 8, alpha if alpha is not None and alpha.any() else None)


def _header(f: IO[bytes], path: Path) -> _Header:
    f.seek(0)
    head = f.read(_FILE_HEADER + max(_HEADERS))
    size = int.from_bytes(head[14:18], "little")
    if size not in _HEADERS or len(head) < _FILE_HEADER + size:
        raise ValueError("the BMP's header is damaged")
    compression = colours = 0
    if size == _OS2:
        width, height, planes, bits = struct.unpack_from("<HHHH", head, 18)
    else:
        width, height, planes, bits = struct.unpack_from("<iiHH", head, 18)
    if size >= 40:
        compression, _, _, _, colours = struct.unpack_from("<IIiiI", head, 30)
    if compression in _EMBEDDED and size != _OS2_LATER:  # which means others by these numbers
        raise ValueError(f"the BMP is only the shell of a {_EMBEDDED[compression]} file")
    deep = bits in (16, 32) and compression in (_NONE, _MASKS, _ALPHA_MASKS)
    flat = bits in (1, 2, 4, 8, 24) and compression == _NONE
    if planes != 1 or not (deep or flat or bits == _OF_RLE.get(compression)):
        raise ValueError(f"a BMP of {bits} bits a pixel and the compression {compression}")
    if width < 0 or (height < 0 and compression in _OF_RLE):
        raise ValueError("the BMP's header is damaged")
    masks, after = _masks(f, head, size, bits, compression)
    check_size(path, (abs(height), width), 1 if bits <= 8 else 4 if masks[3] else 3, 1)
    pixels_at = int.from_bytes(head[10:14], "little")
    in_file = f.seek(0, os.SEEK_END)
    if not after <= pixels_at < in_file:
        raise ValueError("the BMP has no pixels where its header says")
    room = (pixels_at - after) // (3 if size == _OS2 else 4)
    wanted = min(colours or 2**bits, 2**bits) if bits <= 8 else 0
    if bits <= 8 and not min(wanted, room):
        raise ValueError("the BMP has no palette")
    return _Header(
        width=width,
        height=abs(height),
        top_down=height < 0,
        bits=bits,
        compression=compression,
        masks=masks,
        palette_at=after,
        colours=min(wanted, room),
        pixels_at=pixels_at,
    )


def _masks(
    f: IO[bytes], head: bytes, size: int, bits: int, compression: int
) -> tuple[tuple[int, int, int, int], int]:
    """The masks of a pixel's bits, and where the header ends with them."""
    after = _FILE_HEADER + size
    if compression not in (_MASKS, _ALPHA_MASKS):
        return _USUAL.get(bits, (0, 0, 0, 0)), after
    number = 4 if compression == _ALPHA_MASKS or size >= 56 else 3
    f.seek(_FILE_HEADER + 40)
    data = f.read(4 * number)
    if len(data) < 4 * number:
        raise ValueError("the BMP's header is damaged")
    masks = [*struct.unpack(f"<{number}I", data), 0]
    if size not in _WITH_MASKS:
        after += 4 * number
    gaps = any(_most(m) & (_most(m) + 1) for m in masks)
    if not all(masks[:3]) or gaps or any(m >> bits for m in masks):
        raise ValueError("the masks of the BMP's bits are damaged")
    return (masks[0], masks[1], masks[2], masks[3]), after


def _palette(f: IO[bytes], header: _Header) -> NDArray[np.uint8]:
    """(K, 3) red, green and blue."""
    f.seek(_FILE_HEADER)
    width = 3 if int.from_bytes(f.read(4), "little") == _OS2 else 4
    f.seek(header.palette_at)
    stored = np.frombuffer(f.read(width * header.colours), np.uint8).reshape(-1, width)
    return np.ascontiguousarray(stored[:, 2::-1])


def _rows(data: bytes, header: _Header) -> NDArray[np.uint8]:
    """(height, bytes) of the rows as stored, without what fills them up."""
    wanted = header.stride * header.height
    if len(data) < wanted:
        raise ValueError(f"the BMP's pixels are cut off: {len(data)} of {wanted} bytes")
    rows = np.frombuffer(data, np.uint8).reshape(header.height, header.stride)
    return rows[:, : (header.width * header.bits + 7) // 8]


def _samples(rows: NDArray[np.uint8], header: _Header) -> NDArray[np.uint8]:
    """(height, width) indices, or (height, width, 3 or 4) samples of 8 bits."""
    if header.bits < 8:
        single = np.unpackbits(rows, axis=1).reshape(header.height, -1, header.bits)
        weights = (1 << np.arange(header.bits)[::-1]).astype(np.uint8)
        return (single @ weights)[:, : header.width]
    if header.bits == 8:
        return rows
    if header.bits == 24:
        return rows.reshape(header.height, header.width, 3)[..., ::-1]
    pixels = np.ascontiguousarray(rows).view(f"<u{header.bits // 8}")
    return np.dstack([_spread(pixels, mask) for mask in header.masks if mask])


def _most(mask: int) -> int:
    """A mask's largest value: its bits, moved to the lowest place."""
    return mask // (mask & -mask) if mask else 0


def _spread(pixels: NDArray[np.unsignedinteger], mask: int) -> NDArray[np.uint8]:
    """The bits of a mask, spread over 0 to 255."""
    most = _most(mask)
    low = mask.bit_length() - most.bit_length()
    values = (pixels & pixels.dtype.type(mask)) >> pixels.dtype.type(low)
    if most == 255:
        return values.astype(np.uint8)
    wide = values.astype(np.uint32 if most < 2**16 else np.uint64)
    return ((wide * 255 + most // 2) // most).astype(np.uint8)


def _unpacked(data: bytes, header: _Header) -> NDArray[np.uint8]:
    """(height, width) indices of run-length codes, which have to fill every row."""
    width, halves = header.width, header.bits == 4
    rows = np.zeros((header.height, width), np.uint8)
    row = column = at = 0
    while at + 1 < len(data):
        count, code = data[at], data[at + 1]
        at += 2
        if count == 0 and code == _SKIP:
            raise ValueError("the BMP's run-length codes leave pixels out")
        if count == 0 and code in (_END_OF_ROW, _END):
            full = column == width
            row, column = row + full, 0 if full else column
            if code == _END and row >= header.height and not column:
                return rows
            if code == _END or not full:
                raise ValueError("the BMP's run-length codes do not fill the image")
            continue
        length = count or code
        if row >= header.height or column + length > width:
            raise ValueError("the BMP's run-length codes leave the image")
        if count:
            run = np.array([code >> 4, code & 15] if halves else [code], np.uint8)
            rows[row, column : column + length] = np.resize(run, length)
        else:
            size = (length + 1) // 2 if halves else length
            literal = np.frombuffer(data[at : at + size], np.uint8)
            if len(literal) < size:
                break
            if halves:
                literal = np.column_stack([literal >> 4, literal & 15]).ravel()[:length]
            rows[row, column : column + length] = literal
            at += size + size % 2  # literals end on an even byte
        column += length
    raise ValueError("the BMP's run-length codes are cut off")


BMP: Format[Pixels] = Format(
    "BMP",
    (".bmp",),
    guess=lambda head, _: head.startswith(b"BM"),
    inspect=inspect_bmp,
    read=decode_bmp,
)
