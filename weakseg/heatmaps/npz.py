"""Small ``.npz`` files, byte for byte as `numpy.savez` writes them, in a fraction of its time.

A heatmap's file is mostly headers. numpy and `zipfile` make and read each anew, which takes longer
than all the rest; here the header of an array is made once for its type and shape.
"""

from __future__ import annotations

import ast
import io
import struct
import zipfile
import zlib
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

# Of a ZIP (PKWARE's APPNOTE 6.3: 4.3.7, 4.5.3, 4.3.12, 4.3.16).
_LOCAL, _SIZES = struct.Struct("<4s5H3L2H"), struct.Struct("<2H2Q")
_LISTED, _END = struct.Struct("<4s6H3L5H2L"), struct.Struct("<4s4H2LH")
_VERSION = 45
"""With sizes of 64 bits, which numpy asks for whatever the size."""
_DAY = 1 << 5 | 1  # the first of January 1980, as zipfile has it of a file without a date
_MODE = 0o600 << 16
_THERE = 0xFFFFFFFF  # for a size that is told with 64 bits
_SYSTEM = zipfile.ZipInfo("").create_system
_MAGIC = b"\x93NUMPY\1\0"


def pack(arrays: Mapping[str, NDArray[Any]]) -> bytes:
    """What ``numpy.savez(file, **arrays)`` writes, of arrays of numbers or text below 4 GB."""
    return _zipped({f"{name}.npy": _member(array) for name, array in arrays.items()})


def unpack(data: bytes) -> dict[str, NDArray[Any]] | None:
    """The arrays of a file of `pack`, not writeable; None of any other, so of a damaged one."""
    members: dict[str, bytes] = {}
    at = 0
    try:
        while data.startswith(b"PK\3\4", at):
            length = _LOCAL.unpack_from(data, at)[-2]
            name = at + _LOCAL.size
            _, _, size, _ = _SIZES.unpack_from(data, name + length)
            begin = name + length + _SIZES.size
            at = begin + size
            members[data[name : name + length].decode("ascii")] = data[begin:at]
        # All else of the file, its checksums as well, follows from what is in it.
        if _zipped(members) != data:
            return None
        return {name.removesuffix(".npy"): _array(of) for name, of in members.items()}
    except (ValueError, TypeError, KeyError, SyntaxError, struct.error):
        return None


def _zipped(members: Mapping[str, bytes]) -> bytes:
    """A ZIP of files that are stored as they are."""
    parts, listed, at = list[bytes](), list[bytes](), 0
    for text, content in members.items():
        name, size = text.encode("ascii"), len(content)
        about = (_VERSION, 0, 0, 0, _DAY, zlib.crc32(content))
        sizes = _SIZES.pack(1, _SIZES.size - 4, size, size)
        local = _LOCAL.pack(b"PK\3\4", *about, _THERE, _THERE, len(name), len(sizes))
        by = _SYSTEM << 8 | _VERSION
        entry = (size, size, len(name), 0, 0, 0, 0, _MODE, at)
        listed += [_LISTED.pack(b"PK\1\2", by, *about, *entry), name]
        parts += [local, name, sizes, content]
        at += len(local) + len(name) + len(sizes) + size
    table, count = b"".join(listed), len(members)
    end = _END.pack(b"PK\5\6", 0, 0, count, count, len(table), at, 0)
    return b"".join([*parts, table, end])


def _member(array: NDArray[Any]) -> bytes:
    """An array as `numpy.save` writes it."""
    by_columns = array.flags.f_contiguous and not array.flags.c_contiguous
    header = _header(array.dtype.str, by_columns, array.shape)
    return header + array.tobytes("F" if by_columns else "C")


@lru_cache(256)
def _header(kind: str, by_columns: bool, shape: tuple[int, ...]) -> bytes:
    f = io.BytesIO()
    npy.write_array_header_1_0(f, {"descr": kind, "fortran_order": by_columns, "shape": shape})
    return f.getvalue()


def _array(member: bytes) -> NDArray[Any]:
    begin = len(_MAGIC) + 2
    end = begin + int.from_bytes(member[len(_MAGIC) : begin], "little")
    kind, by_columns, shape = _described(member[:end])
    return np.frombuffer(member, kind, offset=end).reshape(shape, order="F" if by_columns else "C")


@lru_cache(256)
def _described(header: bytes) -> tuple[np.dtype[Any], bool, tuple[int, ...]]:
    """What `_header` was given.

    Raises
    ------
    ValueError
        For what it gave not.
    """
    said = ast.literal_eval(header[len(_MAGIC) + 2 :].decode("latin-1"))
    kind, by_columns, shape = str(said["descr"]), bool(said["fortran_order"]), said["shape"]
    if np.dtype(kind).hasobject or header != _header(kind, by_columns, shape):
        raise ValueError("not the header of an array of numbers or text")
    return np.dtype(kind), by_columns, shape
