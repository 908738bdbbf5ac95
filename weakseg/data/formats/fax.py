"""Whether fax-coded bits of a TIFF (CCITT group 3 and 4) are whole.

libtiff says on the terminal that a code is wrong, and goes on with the next row. So the bits are
coded again: what comes out otherwise than it came in was damaged.
"""

from __future__ import annotations

import io
import struct
from typing import Any

import numpy as np

FAX = {2: "tiff_ccitt", 3: "group3", 4: "group4"}
"""TIFF's numbers of these compressions, and Pillow's names."""

_OPTIONS = {3: 292, 4: 293}  # tags with options of the coding
_LONG = 4


def refuse_changed(page: Any, data: bytes, shape: tuple[int, int]) -> None:
    """Raise a ValueError where a strip or tile is no output of an encoder.

    Parameters
    ----------
    page : tifffile.TiffPage
    data : bytes
        Of a strip or tile.
    shape : (rows, columns)
        Of the pixels that it codes.
    """
    from PIL import Image
    from tifffile import TiffFile

    coded = _mirrored(data) if page.fillorder == 2 else data
    options = page.tags.get(_OPTIONS.get(page.compression, 0))
    tags = {} if options is None else {options.code: int(options.value)}
    image = Image.open(io.BytesIO(_tiff_of(coded, shape, page.compression, tags)))
    f = io.BytesIO()
    once = tags | {278: shape[0]}
    image.save(f, format="TIFF", compression=FAX[page.compression], tiffinfo=once)
    f.seek(0)
    with TiffFile(f) as again:
        begin, count = again.pages[0].dataoffsets[0], again.pages[0].databytecounts[0]
    same = f.getvalue()[begin : begin + count]
    if coded.rstrip(b"\0") != same.rstrip(b"\0"):  # zeros fill the last byte, or more
        raise ValueError("the fax-coded bits are damaged, or of a coder that is not known")


def _mirrored(data: bytes) -> bytes:
    bits = np.unpackbits(np.frombuffer(data, np.uint8), bitorder="little")
    return np.packbits(bits).tobytes()


def _tiff_of(data: bytes, shape: tuple[int, int], compression: int, more: dict[int, int]) -> bytes:
    """A TIFF of one strip."""
    rows, columns = shape
    tags = {256: columns, 257: rows, 258: 1, 259: compression, 262: 1, 277: 1, 278: rows}
    tags |= {273: 0, 279: len(data)} | more
    tags[273] = 8 + 2 + 12 * len(tags) + 4
    entries = (struct.pack("<HHII", code, _LONG, 1, tags[code]) for code in sorted(tags))
    head = b"II*\0" + struct.pack("<IH", 8, len(tags))
    return head + b"".join(entries) + bytes(4) + data
