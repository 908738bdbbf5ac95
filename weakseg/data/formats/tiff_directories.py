"""The directories of a TIFF file, followed with bounds, before a library walks them without."""

from __future__ import annotations

import os
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import IO, NamedTuple

from weakseg.data.formats.pixels import stack

MAX_DIRECTORIES = 4096
MAX_TAGS = 4096
MAX_COPIES = 2**16
"""Bytes by which the values of a directory's tags may exceed the file, as a few share theirs."""

_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4}
_SIZES |= {16: 8, 17: 8, 18: 8}  # of BigTIFF
_INTEGERS = (1, 3, 4, 6, 8, 9, 13, 16, 17, 18)
_LAYOUT = frozenset({256, 257, 258, 259, 262, 266, 273, 274, 277, 278, 279, 284, 317, 320})
_LAYOUT |= {322, 323, 324, 325, 338, 339}  # tags that say where samples lie, and what they are
_NEW_SUBFILE, _OLD_SUBFILE = 254, 255
_REDUCED_NEW, _REDUCED_OLD = 1, 2


@dataclass(frozen=True)
class Directory:
    """One image of a TIFF file.

    Attributes
    ----------
    index : int
        Its place in the chain of directories.
    offset : int
        Where it begins, in bytes.
    reduced : bool
        Whether it is a small copy of another image.
    """

    index: int
    offset: int
    reduced: bool


class _Form(NamedTuple):
    """How numbers are written: in TIFF, or in BigTIFF."""

    order: str
    number: str
    entry: str
    offset: str


def directories(f: IO[bytes], path: Path) -> list[Directory]:
    """Every directory of a file's chain; no pixel is read.

    Parameters
    ----------
    f : file
        Open for reading in binary, and seekable.
    path : Path
        For the message.

    Raises
    ------
    DataError
        If there are more than `MAX_DIRECTORIES`.
    ValueError
        If they point at each other in a circle, or if one is empty, cut off, or has a tag whose
        value does not lie in the file.
    """
    size = f.seek(0, os.SEEK_END)
    form, offset = _header(f)
    pages: list[Directory] = []
    seen: set[int] = set()
    while offset:
        if offset in seen:
            raise ValueError("the directories of the TIFF point at each other in a circle")
        if len(pages) == MAX_DIRECTORIES:
            raise stack(path, f"more than {MAX_DIRECTORIES} pages")
        seen.add(offset)
        reduced, following = _directory(f, form, offset, size)
        pages.append(Directory(len(pages), offset, reduced))
        offset = following
    return pages


def _header(f: IO[bytes]) -> tuple[_Form, int]:
    f.seek(0)
    head = f.read(16)
    order = "<" if head[:2] == b"II" else ">"
    (version,) = struct.unpack(f"{order}H", head[2:4])
    if version == 42:
        return _Form(order, "H", "HHI4s", "I"), _number(f"{order}I", head[4:8])
    if head[4:8] != struct.pack(f"{order}HH", 8, 0):
        raise ValueError("the header of the BigTIFF is damaged")
    return _Form(order, "Q", "HHQ8s", "Q"), _number(f"{order}Q", head[8:16])


def _number(form: str, data: bytes) -> int:
    if len(data) < struct.calcsize(form):
        raise ValueError("a directory of the TIFF is cut off")
    return int(struct.unpack(form, data)[0])


def _directory(f: IO[bytes], form: _Form, offset: int, size: int) -> tuple[bool, int]:
    """Whether the image is a reduced copy, and where the next directory begins."""
    if offset >= size:
        raise ValueError("a directory of the TIFF lies beyond the end of the file")
    f.seek(offset)
    tags = _number(form.order + form.number, f.read(struct.calcsize(form.order + form.number)))
    if not 0 < tags <= MAX_TAGS:
        raise ValueError(f"a directory of the TIFF claims {tags} tags")
    entry = struct.Struct(form.order + form.entry)
    data = f.read(tags * entry.size)
    if len(data) < tags * entry.size:
        raise ValueError("a directory of the TIFF is cut off")
    reduced, claimed = False, 0
    for code, kind, count, value in entry.iter_unpack(data):
        if code in _LAYOUT and kind not in _INTEGERS:
            raise ValueError(f"TIFF tag {code} is of the wrong type {kind}")
        length = _SIZES.get(kind, 0) * count
        if length > len(value):
            claimed += length
            if _number(form.order + form.offset, value) + length > size:
                raise ValueError(f"the value of TIFF tag {code} lies beyond the end of the file")
        elif code in (_NEW_SUBFILE, _OLD_SUBFILE) and count == 1:
            reduced |= _is_reduced(code, kind, value, form.order)
    if claimed > size + MAX_COPIES:
        raise ValueError("the tags of the TIFF claim more than the file holds")
    return reduced, _number(form.order + form.offset, f.read(struct.calcsize(form.offset)))


def _is_reduced(code: int, kind: int, value: bytes, order: str) -> bool:
    number = int.from_bytes(value[: _SIZES.get(kind, 0)], "little" if order == "<" else "big")
    return bool(number & _REDUCED_NEW) if code == _NEW_SUBFILE else number == _REDUCED_OLD
