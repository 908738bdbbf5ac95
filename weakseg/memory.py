"""How the C library deals with the memory of large tensors on CPUs."""

from __future__ import annotations

import contextlib
import ctypes
import os
import platform
import threading

KEPT = 2**30
"""Bytes: freed memory is kept for the next tensor up to here, and larger blocks go back at once."""
LARGE = 2**26
"""Bytes: the same where volumes are segmented."""

_segments_volumes = threading.Event()
"""Whether `give_large_back` counts, in the whole process as the C library's settings do."""

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # malloc.h
_OWN = ("MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_", "GLIBC_TUNABLES")


def keep_freed_memory() -> None:
    """Let glibc keep the memory of freed tensors for the next ones.

    By itself it takes every block above 32 MB anew from the system, which has to clear each page:
    with batches whose activations are larger, a forward pass took up to 1.7 times as long
    (`benchmarks/allocator.py`). Nothing is done with another C library, nor where the environment
    says how memory is kept, nor after `give_large_back` until a training begins.
    """
    if not _segments_volumes.is_set():
        _hold(KEPT)


def keep_for_training() -> None:
    """`keep_freed_memory`, also where volumes were segmented before."""
    _segments_volumes.clear()
    keep_freed_memory()


def give_large_back() -> None:
    """Let glibc give blocks above `LARGE` back, where volumes are segmented one after another.

    Those of a large volume are as large as itself, and what is kept of them between others is lost
    room: 0.9 GB of a volume of 512 × 512 × 400.
    """
    _segments_volumes.set()
    _hold(LARGE)


def give_free_back() -> None:
    """Let glibc give what it keeps of freed blocks back, before other work needs the room."""
    if platform.libc_ver()[0] == "glibc" and not any(name in os.environ for name in _OWN):
        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL(None).malloc_trim(0)


def _hold(limit: int) -> None:
    if platform.libc_ver()[0] != "glibc" or any(name in os.environ for name in _OWN):
        return
    with contextlib.suppress(OSError, AttributeError):  # a C library without it
        libc = ctypes.CDLL(None)
        libc.mallopt(_M_MMAP_THRESHOLD, limit)
        libc.mallopt(_M_TRIM_THRESHOLD, limit)
