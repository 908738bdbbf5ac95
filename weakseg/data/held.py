"""What was read of files, held in memory while there is room."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")


class Held:
    """The latest of what was read of files, until it takes too much room.

    Parameters
    ----------
    limit : int
        Bytes; the last is held whatever its size.
    most : int, optional
        Files, however small: each costs half a kilobyte besides.
    """

    def __init__(self, limit: int, most: int | None = None) -> None:
        self._limit, self._most, self._bytes = limit, most, 0
        self._found: OrderedDict[Any, Any] = OrderedDict()
        self._lock = threading.Lock()
        self._reading: dict[Any, threading.Lock] = {}

    def get(self, path: Path, what: tuple[str, ...], read: Callable[[], T]) -> T:
        """What ``read`` gives, of a file that has not changed since."""
        key = (str(path), what, _version(path))
        with self._lock:
            if key in self._found:
                self._found.move_to_end(key)
                return self._found[key]
            turn = self._reading.setdefault(key, threading.Lock())
        with turn:  # whoever else asks for it waits, and reads nothing
            with self._lock:
                if key in self._found:
                    return self._found[key]
            try:
                value = read()
            except BaseException:  # maybe nobody asks for it again
                with self._lock:
                    self._reading.pop(key, None)
                raise
            with self._lock:
                if key in self._found:  # who came late read it beside another
                    self._bytes -= _size(self._found.pop(key))
                self._found[key] = value
                self._bytes += _size(value)
                self._reading.pop(key, None)
                while len(self._found) > 1 and self._is_full():
                    self._bytes -= _size(self._found.popitem(last=False)[1])
            return value

    def _is_full(self) -> bool:
        many = self._most is not None and len(self._found) > self._most
        return many or self._bytes > self._limit

    def peek(self, path: Path, what: tuple[str, ...]) -> Any:
        """What is held of a file that has not changed since, or None."""
        with self._lock:
            return self._found.get((str(path), what, _version(path)))

    def clear(self) -> None:
        """Forget everything, as a new process has."""
        with self._lock:
            self._found.clear()
            self._bytes = 0


def _size(value: Any) -> int:
    return int(getattr(value, "nbytes", 1000))


def _version(path: Path) -> tuple[int, ...]:
    try:
        stat = path.stat()
    except OSError:
        return ()
    return (stat.st_mtime_ns, stat.st_size, stat.st_ino)
