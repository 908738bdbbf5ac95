"""Whether the strips or tiles of a TIFF page are all there, and hold what they should.

Libraries fill with zeros what is missing, or guess where it may lie.
"""

from __future__ import annotations

import math
import zlib
from typing import IO, Any, NamedTuple

from weakseg.data.formats.fax import FAX, refuse_changed
from weakseg.data.formats.jpeg import refuse_unfilled

NONE, JPEG, PACKBITS = 1, 7, 32773
DEFLATE = (8, 32946)
BOUNDED = (NONE, *DEFLATE, PACKBITS)
"""Compressions whose unpacked size is compared here, so that tifffile may unpack them."""

MAX_SEGMENTS = 2**20
"""Strips or tiles: an image of the largest size in tiles of 16 × 16 has a third of that."""

_OFFSETS = {True: 324, False: 273}  # of tiles, of strips
_COUNTS = {True: 325, False: 279}
_FIRST_BYTE = 8  # behind the file's header
_YCBCR, _SUBSAMPLING = 6, 530
_NOTHING = 128  # PackBits' code for no operation


class _Segment(NamedTuple):
    """What a strip or tile should hold.

    Attributes
    ----------
    rows, columns : int
        Of the image that lie in it.
    coded : (rows, columns)
        Of all that is coded: tiles reach beyond the image.
    least, most : int
        Bytes of those when unpacked, and of a whole segment.
    """

    rows: int
    columns: int
    coded: tuple[int, int]
    least: int
    most: int


def refuse_missing_data(page: Any, f: IO[bytes]) -> None:
    """Raise a ValueError where a strip or tile is missing, cut, or too short for its rows.

    Parameters
    ----------
    page : tifffile.TiffPage
        Of one slice.
    f : file
        The same file.
    """
    what = "tile" if page.is_tiled else "strip"
    wanted = math.prod(page.chunked)
    if wanted > MAX_SEGMENTS:
        raise ValueError(f"the image is cut into {wanted} {what}s")
    offsets, counts = _listed(page, _OFFSETS), _listed(page, _COUNTS)
    if len(offsets) != wanted or len(counts) != wanted:
        there = min(len(offsets), len(counts))
        raise ValueError(f"{there} {what}s are listed where the image takes {wanted}")
    size = page.parent.filehandle.size
    for k, (offset, count) in enumerate(zip(offsets, counts, strict=True)):
        name = f"{what} {k + 1} of {wanted}"
        if offset < _FIRST_BYTE or count < 1:
            raise ValueError(f"{name} is missing")
        if offset + count > size:
            raise ValueError(f"{name} lies beyond the end of the file")
        _check_segment(page, f, offset, count, _segment(page, k), name)


def _listed(page: Any, codes: dict[bool, int]) -> tuple[int, ...]:
    """The values of a tag as they are stored, which tifffile's own attributes mend."""
    tag = page.tags.get(codes[page.is_tiled])
    if tag is None:
        return ()
    return tuple(tag.value) if isinstance(tag.value, tuple | list) else (int(tag.value),)


def _segment(page: Any, index: int) -> _Segment:
    height, width = page.imagelength, page.imagewidth
    full_rows, full_columns = min(page.rowsperstrip or height, height), width
    if page.is_tiled:
        full_rows, full_columns = page.tilelength, page.tilewidth
    down, across = -(-height // full_rows), -(-width // full_columns)
    row, column = index // across % down, index % across
    rows = min(full_rows, height - row * full_rows)
    columns = min(full_columns, width - column * full_columns)
    return _Segment(
        rows,
        columns,
        (full_rows if page.is_tiled else rows, full_columns),
        _bytes(page, rows, columns),
        _bytes(page, full_rows, full_columns),
    )


def _bytes(page: Any, rows: int, columns: int) -> int:
    """What so many pixels take, unpacked."""
    samples = page.samplesperpixel if page.planarconfig == 1 else 1
    if page.photometric == _YCBCR and samples == 3:
        # Units of some brightnesses that share one pair of colours; TIFF 6.0, section 21.
        tag = page.tags.get(_SUBSAMPLING)
        across, down = (2, 2) if tag is None else (int(v) for v in tag.value)
        return -(-rows // down) * -(-columns // across) * (across * down + 2)
    return rows * -(-columns * samples * page.bitspersample // 8)


def _check_segment(
    page: Any, f: IO[bytes], offset: int, count: int, segment: _Segment, name: str
) -> None:
    kind = page.compression
    if kind == NONE:
        whole, stored = segment.most if page.is_tiled else segment.least, count
    elif kind in (*DEFLATE, *FAX, PACKBITS, JPEG):
        f.seek(offset)
        data = f.read(count)
        whole, stored = segment.least, _held(page, data, segment)
    else:
        return  # libtiff tells of LZW and most others
    if kind == NONE and stored >= 2 * segment.most:
        raise ValueError(f"{name} holds {stored} bytes where its pixels take {segment.most}")
    if stored < whole:
        raise ValueError(f"{name} is cut off: {stored} of {whole} bytes")


def _held(page: Any, data: bytes, segment: _Segment) -> int:
    """Bytes of the image that compressed data hold."""
    if page.compression in DEFLATE:
        return _inflated(data, segment.most)
    if page.compression == PACKBITS:
        return _unpacked(data, segment.most)
    if page.compression in FAX:
        refuse_changed(page, data, segment.coded)
        return segment.least
    tables = page.tags.get(347)
    stream = data if tables is None else bytes(tables.value)[:-2] + data[2:]
    height, width = refuse_unfilled(stream)
    return segment.least if height >= segment.rows and width >= segment.columns else 0


def _inflated(data: bytes, most: int) -> int:
    unpack = zlib.decompressobj()
    length = len(unpack.decompress(data, most + 1))
    if length > most:
        raise ValueError("a strip or tile unpacks to more than its rows")
    return length


def _unpacked(data: bytes, most: int) -> int:
    at = length = 0
    while at < len(data):
        code = data[at]
        if code < _NOTHING:
            length += min(code + 1, len(data) - at - 1)
            at += code + 2
        else:
            length += 257 - code if code > _NOTHING and at + 1 < len(data) else 0
            at += 1 + (code > _NOTHING)
        if length > most:
            raise ValueError("a strip or tile unpacks to more than its rows")
    return length
