"""Small sets of pictures, laid out as their owners publish them."""

from __future__ import annotations

import csv
import zlib
from pathlib import Path

import numpy as np

from tests.data.helpers import save
from weakseg.data.truth import read_true_mask


def picture(path: Path, seed: int, shape=(24, 32), **options) -> Path:
    """Noise, another for each seed."""
    return save(
        path, np.random.default_rng(seed).integers(0, 200, shape).astype(np.uint8), **options
    )


def mask(path: Path, marked: bool = True, shape=(24, 32), at=4) -> Path:
    values = np.zeros(shape, dtype=np.uint8)
    if marked:
        values[at : at + 6, at : at + 8] = 255
    return save(path, values)


def table(path: Path, header, rows) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as f:
        csv.writer(f).writerows([header, *rows])
    return path


def marked(folder: Path, cell: str) -> int:
    """Pixels that the masks of a cell mark together."""
    return int(np.sum(read_true_mask(tuple(folder / c for c in cell.split(";")))))


def seed_of(*parts) -> int:
    """A number that tells some names apart, the same in every process."""
    return zlib.crc32(repr(parts).encode())
