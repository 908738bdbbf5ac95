"""What a kind of file is to `tests.fuzz`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Seed:
    """A file, by its path inside the folder of its kind; valid, or such that it may be refused."""

    name: str
    data: bytes
    valid: bool = True


@dataclass(frozen=True)
class Kind:
    """Valid files, and how one of them is read once it is damaged.

    Attributes
    ----------
    name : str
    seeds : callable
        Makes the files, and what has to lie beside them, in a folder.
    read : callable
        Takes the file and the folder; what it raises is judged.
    words : tuple of bytes
        What a text is damaged with besides.
    seconds : float
        Of this process that one file may take.
    """

    name: str
    seeds: Callable[[Path], list[Seed]]
    read: Callable[[Path, Path], None]
    words: tuple[bytes, ...] = ()
    seconds: float = 1
