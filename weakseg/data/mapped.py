"""Arrays that are kept in a file mapped into memory, not in the process's own memory."""

from __future__ import annotations

import itertools
import math
import mmap
import os
import shutil
import tempfile
import threading
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from weakseg.launch import local_world

LIMIT_BYTES = 16 * 2**30
"""What a store holds at most.

All processes that a launcher has started on a machine hold at most a quarter of what is free on
the disk, too.
"""

ALIGN, PIECE = 64, 2**26
"""Arrays begin at multiples of ``ALIGN`` bytes; the file grows by ``PIECE`` bytes."""


class MappedStore:
    """Keeps arrays in a nameless file; the system drops what it needs no longer from memory.

    The file has no name, so that it is gone when the process is, however that ends.

    Parameters
    ----------
    folder : Path
        On the disk that is used.
    limit : int, optional
        Bytes; default `LIMIT_BYTES`.
    """

    def __init__(self, folder: Path, limit: int | None = None) -> None:
        wanted = LIMIT_BYTES if limit is None else limit
        share = shutil.disk_usage(folder).free // 4 // local_world()
        self.limit = min(wanted, share) // PIECE * PIECE
        self.folder, self._used, self._ready = folder, 0, 0
        self._map: mmap.mmap | None = None
        self._lock = threading.Lock()

    def put(self, array: np.ndarray) -> int | None:
        """Keep an array.

        Parameters
        ----------
        array : ndarray

        Returns
        -------
        int or None
            Where it is, for `get`; None where the store is full.
        """
        at = self._room(array.nbytes)
        if at is not None:
            self._view(at, array.shape, array.dtype)[...] = array
        return at

    def get(self, at: int, shape: Sequence[int], dtype: npt.DTypeLike) -> np.ndarray:
        """What `put` has kept, (*shape), read-only."""
        view = self._view(at, shape, dtype)
        view.flags.writeable = False
        return view

    def keep(self, array: np.ndarray) -> np.ndarray | None:
        """`put` and `get` in one: the array as it is kept, or None where the store is full."""
        views = self.keep_all([array])
        return None if views is None else views[0]

    def keep_all(self, arrays: Sequence[np.ndarray]) -> list[np.ndarray] | None:
        """Keep arrays that are of use only together: all as they are kept, or None, and no rest."""
        ends = list(itertools.accumulate(_aligned(a.nbytes) for a in arrays))
        begin = self._room(ends[-1])
        if begin is None:
            return None
        kept = []
        for at, array in zip([0, *ends], arrays, strict=False):
            self._view(begin + at, array.shape, array.dtype)[...] = array
            kept.append(self.get(begin + at, array.shape, array.dtype))
        return kept

    def zeros(self, shape: Sequence[int], dtype: npt.DTypeLike) -> np.ndarray | None:
        """Zeros, (*shape), that may be written to; None where the store is full."""
        at = self._room(math.prod(shape) * np.dtype(dtype).itemsize)
        return None if at is None else self._view(at, shape, dtype)

    def let_go(self) -> None:
        """Drop all pages from the process's memory; whoever asks for one gets it from the file."""
        if self._map is not None and hasattr(mmap, "MADV_DONTNEED"):
            self._map.madvise(mmap.MADV_DONTNEED)

    def _view(self, at: int, shape: Sequence[int], dtype: npt.DTypeLike) -> np.ndarray:
        assert self._map is not None
        return np.frombuffer(self._map, dtype, math.prod(shape), at).reshape(tuple(shape))

    def _room(self, size: int) -> int | None:
        """Where so many bytes may be written; None where the store is full."""
        with self._lock:
            end = self._used + _aligned(size)
            if end > self.limit:
                return None
            if self._map is None and not self._open():
                return None
            if end > self._ready and not self._grow(end):
                return None
            at, self._used = self._used, end
            return at

    def _open(self) -> bool:
        """Make the file; not every disk, and not every limit of a process, allows one so large."""
        try:
            self._file = tempfile.TemporaryFile(dir=self.folder, prefix=".kept-")  # noqa: SIM115
            self._file.truncate(self.limit)
            self._map = mmap.mmap(self._file.fileno(), self.limit)
        except (OSError, ValueError):
            self.limit = 0
            return False
        return True

    def _grow(self, end: int) -> bool:
        """Take room on the disk: writing to a map of a full disk would kill the process."""
        wanted = min(-(-end // PIECE) * PIECE, self.limit)
        if hasattr(os, "posix_fallocate"):
            try:
                os.posix_fallocate(self._file.fileno(), self._ready, wanted - self._ready)
            except OSError:
                self.limit = self._used
                return False
        self._ready = wanted
        return True


def _aligned(size: int) -> int:
    """Bytes that an array of ``size`` bytes takes up."""
    return -(-max(size, 1) // ALIGN) * ALIGN
