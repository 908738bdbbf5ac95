"""Image files with one thing wrong, made from files that a library wrote, or by hand."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import tifffile
from PIL import Image

from tests.data.helpers import noise

SMOOTH = np.add.outer(np.arange(64) * 3, np.arange(48) * 2).astype(np.uint8)
COLOUR = np.stack([SMOOTH, SMOOTH[::-1], noise(1, SMOOTH.shape)], axis=-1)


def jpeg_of(array: np.ndarray = COLOUR, **options: object) -> bytes:
    f = io.BytesIO()
    Image.fromarray(array).save(f, format="JPEG", **options)
    return f.getvalue()


def tiff_of(array: np.ndarray = SMOOTH, **options: object) -> bytes:
    f = io.BytesIO()
    tifffile.imwrite(f, array, **{"rowsperstrip": 16, "metadata": None} | options)
    return f.getvalue()


def pillow_tiff(array: np.ndarray, compression: str, rows: int = 16) -> bytes:
    f = io.BytesIO()
    Image.fromarray(array).save(f, format="TIFF", compression=compression, tiffinfo={278: rows})
    return f.getvalue()


def patched(data: bytes, code: int, values: dict[int, int], page: int = 0) -> bytes:
    """A TIFF with some values of a tag replaced; the tag's count stays."""
    file = bytearray(data)
    with tifffile.TiffFile(io.BytesIO(data)) as tiff:
        tag, order = tiff.pages[page].tags[code], tiff.byteorder
    kind = {3: "H", 4: "I", 16: "Q"}[int(tag.dtype)]
    for k, value in values.items():
        struct.pack_into(order + kind, file, tag.valueoffset + k * struct.calcsize(kind), value)
    return bytes(file)


def recounted(data: bytes, code: int, count: int) -> bytes:
    """A TIFF with another number of values claimed by a tag."""
    with tifffile.TiffFile(io.BytesIO(data)) as tiff:
        tag, order = tiff.pages[0].tags[code], tiff.byteorder
    file = bytearray(data)
    struct.pack_into(order + "I", file, tag.offset + 4, count)
    return bytes(file)


def retyped(data: bytes, code: int, kind: int) -> bytes:
    """A TIFF with another type of a tag's values."""
    with tifffile.TiffFile(io.BytesIO(data)) as tiff:
        tag, order = tiff.pages[0].tags[code], tiff.byteorder
    file = bytearray(data)
    struct.pack_into(order + "H", file, tag.offset + 2, kind)
    return bytes(file)


def chained(data: bytes, targets: list[int]) -> bytes:
    """A TIFF whose directories point at the directories given by index."""
    with tifffile.TiffFile(io.BytesIO(data)) as tiff:
        form = "Q" if tiff.is_bigtiff else "I"
        offsets = [p.offset for p in tiff.pages]
        ends = [
            p.offset + tiff.tiff.tagnosize + len(p.tags) * tiff.tiff.tagsize for p in tiff.pages
        ]
        order = tiff.byteorder
    file = bytearray(data)
    for end, target in zip(ends, targets, strict=True):
        struct.pack_into(order + form, file, end, offsets[target])
    return bytes(file)


def pages(count: int, **options: object) -> bytes:
    f = io.BytesIO()
    with tifffile.TiffWriter(f, **options) as writer:
        for _ in range(count):
            writer.write(SMOOTH[:8, :8], metadata=None)
    return f.getvalue()


def chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def png_of(packed: bytes, extra: bytes = b"", side: int = 8, interlaced: int = 0) -> bytes:
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, interlaced))
    end = chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + header + extra + chunk(b"IDAT", packed) + end


ROWS = (b"\0" + bytes(range(8))) * 8
WHOLE = png_of(zlib.compress(ROWS))


def without_last_scans(data: bytes, keep: int) -> bytes:
    """A progressive JPEG that ends after some scans."""
    starts = [i for i in range(len(data) - 1) if data[i : i + 2] == b"\xff\xda"]
    return data[: starts[keep]] + b"\xff\xd9"


def in_two(data: bytes) -> bytes:
    return data[: len(data) // 2] + b"\xff\xd9"


def endless_segments() -> bytes:
    return b"\xff\xd8" + b"\xff\xe5\0\x02" * 200_000 + jpeg_of()[2:]


def many_scans() -> bytes:
    data = jpeg_of(SMOOTH, progressive=True)
    at = data.rindex(b"\xff\xda")
    return data[:at] + data[at:-2] * 300 + b"\xff\xd9"


def cmyk() -> bytes:
    f = io.BytesIO()
    Image.fromarray(COLOUR).convert("CMYK").save(f, format="JPEG", quality=99)
    return f.getvalue()


def two_channels() -> bytes:
    f = io.BytesIO()
    Image.fromarray(COLOUR).convert("LA").save(f, format="TIFF", compression="jpeg")
    return f.getvalue()


def wrong_pixels() -> bytes:
    stored = zlib.compress(ROWS, 0)  # unpacked, so that a changed byte still unpacks
    data = bytearray(png_of(stored))
    data[data.index(b"IDAT") + 20] ^= 1
    return bytes(data)


def shortened(compression: str, strip: bytes) -> bytes:
    """A TIFF whose second strip is replaced by another."""
    data = tiff_of(compression=compression)
    data = patched(data, 273, {1: len(data)})
    return patched(data, 279, {1: len(strip)}) + strip


def packed(strip: bytes) -> bytes:
    """A TIFF in PackBits whose first strip is replaced by another."""
    data = pillow_tiff(SMOOTH, "packbits")
    data = patched(data, 273, {0: len(data)})
    return patched(data, 279, {0: len(strip)}) + strip


def wrong_code(compression: str) -> bytes:
    data = bytearray(pillow_tiff(noise(1) > 127, compression))
    data[40:44] = bytes(4)  # no code has so many zeros
    return bytes(data)


def cut_strip(data: bytes) -> bytes:
    """A TIFF whose first strip has lost its second half; its size says so."""
    with tifffile.TiffFile(io.BytesIO(data)) as tiff:
        counts = tiff.pages[0].tags[279].value
    return patched(data, 279, {0: (counts if isinstance(counts, int) else counts[0]) // 2})


def sparse(path: Path, head: bytes, size: int) -> Path:
    with path.open("wb") as f:
        f.write(head)
        f.truncate(size)
    return path


def rare_jpeg(scan: bytes) -> bytes:
    """64 × 48 pixels by hand: of its three components the second is the finest, as no library
    writes it. 0 codes a block of the same mean, and its end; 101 a step up, 100 a step down.
    """

    def segment(marker: int, *parts: bytes) -> bytes:
        data = b"".join(parts)
        return struct.pack(">BBH", 0xFF, marker, len(data) + 2) + data

    sampling = bytes([1, 0x11, 0, 2, 0x21, 0, 3, 0x11, 0])
    return b"".join(
        (
            b"\xff\xd8",
            segment(0xDB, b"\0", b"\x08" * 64),  # a change by one is one level
            segment(0xC0, struct.pack(">BHHB", 8, 48, 64, 3), sampling),
            segment(0xC4, b"\0", bytes([1, 1, *[0] * 14]), b"\0\1"),
            segment(0xC4, b"\x10", bytes([1, *[0] * 15]), b"\0"),
            segment(0xDA, bytes([3, 1, 0, 2, 0, 3, 0, 0, 63, 0])),
            scan,
            b"\xff\xd9",
        )
    )
