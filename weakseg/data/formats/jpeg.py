"""JPEG files, and whether their data fill the image: Pillow shows grey where they do not.

libjpeg only warns of data that end early, or that it cannot make sense of, and Pillow drops its
warnings; simplejpeg hands them on. Scans that a progressive file lacks are counted here.
"""

from __future__ import annotations

import io
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO

import numpy as np

from weakseg.data.formats.base import Format, Frame
from weakseg.data.formats.pixels import Pixels, check_file_size, check_size, upright, upright_frame
from weakseg.data.formats.samples import exif_orientation, pillow_pixels

MAX_SEGMENTS = 10_000
MAX_SCANS = 128
"""Usual progressive files have 10; each costs as much as decoding the image."""

_MARKER = re.compile(rb"\xff[\x01-\xcf\xd8-\xfe]")  # no stuffed zero, no restart, no filling
_PADDINGS = (b"\xaa" * 256, b"\x55" * 256, b"\xb6\xdb\x6d" * 85)
_SCAN, _END = 0xDA, 0xD9
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_PROGRESSIVE = (0xC2, 0xC6, 0xCA, 0xCE)
_PIXELS_A_BIT = 64  # no block of 64 pixels takes less than one


@dataclass(frozen=True)
class _Header:
    """What a JPEG's header says of its image."""

    height: int
    width: int
    components: tuple[int, ...]
    progressive: bool


def inspect_jpeg(f: IO[bytes], path: Path) -> Frame:
    """The frame, from the first header."""
    from PIL import Image

    frame = _first_header(f, path)
    f.seek(0)
    turn = exif_orientation(Image.open(f, formats=("JPEG",)))
    return upright_frame(frame.height, frame.width, turn)


def decode_jpeg(f: IO[bytes], path: Path) -> Pixels:
    """The samples of a JPEG file; of a phone's MPO the photo."""
    from PIL import Image

    _first_header(f, path)
    check_file_size(f, path)
    f.seek(0)
    data = f.read()
    refuse_unfilled(data)
    image = Image.open(io.BytesIO(data), formats=("JPEG",))
    image.load()
    return upright(replace(pillow_pixels(image, 8), lossy=True), exif_orientation(image))


def refuse_unfilled(data: bytes) -> tuple[int, int]:
    """Raise a ValueError where a JPEG stream does not fill its image, or libjpeg warns of it.

    Returns
    -------
    (height, width)
    """
    import simplejpeg

    frame = _complete(data)
    if len(frame.components) not in (1, 3, 4):
        raise ValueError(f"JPEG data of {len(frame.components)} channels cannot be checked")
    if len(data) * 8 * _PIXELS_A_BIT < frame.height * frame.width:
        raise ValueError("the JPEG data are too short for its size")
    try:
        # At an eighth of the size everything is unpacked, and little computed.
        simplejpeg.decode_jpeg(data, "GRAY", min_height=1, min_width=1, min_factor=1)
    except ValueError as e:
        if "subsampling level" not in str(e):
            raise
        _refuse_by_pixels(data)  # a rare one, which libjpeg reads and simplejpeg does not
    return frame.height, frame.width


def _refuse_by_pixels(data: bytes) -> None:
    """Decode with other bytes behind each scan: where they show, the scan is too short."""
    from PIL import Image

    plain = np.asarray(Image.open(io.BytesIO(data)))
    for padding in _PADDINGS:
        padded = np.asarray(Image.open(io.BytesIO(_padded(data, padding))))
        if not np.array_equal(plain, padded):
            raise ValueError("the JPEG data end before the image does")


def _padded(data: bytes, padding: bytes) -> bytes:
    parts, at = [], 0
    for marker, _, end in _segments(data):
        if marker == _SCAN:
            following = _MARKER.search(data, end)
            here = following.start() if following else len(data)
            parts += [data[at:here], padding]
            at = here
    return b"".join([*parts, data[at:]])


def _first_header(f: IO[bytes], path: Path) -> _Header:
    f.seek(2)
    for marker, payload in _leading(f):
        if marker in _FRAMES:
            frame = _frame(marker, payload)
            check_size(path, (frame.height, frame.width), len(frame.components), 1)
            return frame
    raise ValueError("the JPEG has no header of an image")


def _leading(f: IO[bytes]) -> Iterator[tuple[int, bytes]]:
    """Marker and content of each segment up to the first scan."""
    for _ in range(MAX_SEGMENTS):
        head = f.read(2)
        if head == b"\xff\xff":  # bytes that may stand before a marker
            f.seek(-1, os.SEEK_CUR)
            continue
        if len(head) < 2 or head[0] != 0xFF or head[1] in (_SCAN, _END):
            return
        length = int.from_bytes(f.read(2), "big")
        if length < 2:
            raise ValueError("a segment of the JPEG is damaged")
        yield head[1], f.read(length - 2)
    raise ValueError(f"the JPEG has more than {MAX_SEGMENTS} segments")


def _frame(marker: int, payload: bytes) -> _Header:
    if len(payload) < 6 or len(payload) < 6 + 3 * payload[5]:
        raise ValueError("the JPEG's header is cut off")
    height, width = int.from_bytes(payload[1:3], "big"), int.from_bytes(payload[3:5], "big")
    components = tuple(payload[6 : 6 + 3 * payload[5] : 3])
    return _Header(height, width, components, marker in _PROGRESSIVE)


def _complete(data: bytes) -> _Header:
    """The frame of a stream, every coefficient of which some scan brings."""
    frame: _Header | None = None
    missing: dict[int, list[int]] = {}
    scans = 0
    for marker, payload, _ in _segments(data):
        if marker in _FRAMES and frame is None:
            frame = _frame(marker, payload)
            # Of each coefficient the bits that are still to come; 16 where none has come.
            missing = {c: [16] * (64 if frame.progressive else 1) for c in frame.components}
        elif marker == _SCAN:
            scans += 1
            _take(payload, missing)
    if frame is None:
        raise ValueError("the JPEG has no header of an image")
    if scans > MAX_SCANS:
        raise ValueError(f"the JPEG has more than {MAX_SCANS} scans")
    if any(any(bits) for bits in missing.values()):
        raise ValueError("scans of the JPEG are missing")
    return frame


def _segments(data: bytes) -> Iterator[tuple[int, bytes, int]]:
    """Marker, content and end of every segment up to the end of the image."""
    at = 2
    for _ in range(MAX_SEGMENTS):
        marker = _MARKER.search(data, at)
        if marker is None or data[marker.start() + 1] == _END:
            return
        begin = marker.end() + 2
        end = marker.end() + int.from_bytes(data[marker.end() : begin], "big")
        if end < begin:
            raise ValueError("a segment of the JPEG is damaged")
        yield data[marker.start() + 1], data[begin:end], end
        at = end
    raise ValueError(f"the JPEG has more than {MAX_SEGMENTS} segments")


def _take(scan: bytes, missing: dict[int, list[int]]) -> None:
    """Note what a scan brings of its components' coefficients."""
    count = scan[0] if scan else 0
    if len(scan) < 4 + 2 * count:
        raise ValueError("a scan of the JPEG is cut off")
    first, last, bits = scan[1 + 2 * count], scan[2 + 2 * count], scan[3 + 2 * count] & 15
    for component in scan[1 : 1 + 2 * count : 2]:
        left = missing.get(component, [])
        progressive = len(left) == 64
        for k in range(first, min(last, 63) + 1) if progressive else range(len(left)):
            left[k] = bits if progressive else 0


JPEG: Format[Pixels] = Format(
    "JPEG",
    (".jpg", ".jpeg"),
    guess=lambda head, _: head.startswith(b"\xff\xd8\xff"),
    inspect=inspect_jpeg,
    read=decode_jpeg,
)
