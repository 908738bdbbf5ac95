"""How `tests.fuzz` damages a file: bytes of any, and values of those that hold some."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from typing import Any

import numpy as np

NUMBERS = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF, 2**40, 2**63 - 1)
VALUES: tuple[Any, ...] = (None, True, -1, 0, 10**30, 0.5, float("nan"), float("-inf"))
VALUES += ("", "x", "../../x", "nan", "\0", "ü" * 300, [], [1], {}, {"x": 1})
CELLS = ("", "x", "-1", "0", "1e999", "nan", "True", "../../x", "\0", "=1+1", "a" * 5000, "ü;,\t")


def damage(
    name: str, data: bytes, rng: np.random.Generator, other: bytes, words: Sequence[bytes]
) -> bytes:
    """Up to four mutations of a file: of its values where it has any, or of its bytes."""
    if name.endswith(".json") and rng.random() < 0.7:
        return _json(data, rng)
    if name.endswith((".csv", ".tsv")) and rng.random() < 0.5:
        return _csv(data, rng)
    file = bytearray(data)
    for _ in range(int(rng.integers(1, 5))):
        _mutate(file, rng, other, words)
    return bytes(file)


def _json(data: bytes, rng: np.random.Generator) -> bytes:
    tree = json.loads(data)
    for _ in range(int(rng.integers(1, 3))):
        places = _places(tree)
        if not places:
            break
        holder, key = places[int(rng.integers(len(places)))]
        if rng.random() < 0.3:
            del holder[key]
        else:
            holder[key] = VALUES[int(rng.integers(len(VALUES)))]
    return json.dumps(tree).encode()


def _places(tree: Any) -> list[tuple[Any, Any]]:
    """Every value below a tree, as what holds it and its key there."""
    inner = list(tree.items()) if isinstance(tree, dict) else []
    inner = list(enumerate(tree)) if isinstance(tree, list) else inner
    return [(tree, k) for k, _ in inner] + [p for _, v in inner for p in _places(v)]


def _csv(data: bytes, rng: np.random.Generator) -> bytes:
    rows = list(csv.reader(io.StringIO(data.decode("utf-8", errors="replace"))))
    for _ in range(int(rng.integers(1, 4))):
        # Half of all changes meet the header or the row behind it.
        at = int(rng.integers(2 if rng.random() < 0.5 else len(rows) + 2)) % max(len(rows), 1)
        if not rows or not rows[at]:
            break
        column = int(rng.integers(len(rows[at])))
        match int(rng.integers(5)):
            case 0:
                del rows[at]
            case 1:
                rows.insert(at, list(rows[at]))
            case 2:
                rows = [[c for k, c in enumerate(row) if k != column] for row in rows]
            case _:
                rows[at][column] = CELLS[int(rng.integers(len(CELLS)))]
    f = io.StringIO()
    csv.writer(f).writerows(rows)
    return f.getvalue().encode()


def _mutate(
    file: bytearray, rng: np.random.Generator, other: bytes, words: Sequence[bytes]
) -> None:
    # Headers are short and matter most: half of all places lie in the first 512 bytes.
    size = len(file)
    at = int(rng.integers(0, max(1, min(size, 512) if rng.random() < 0.5 else size)))
    end = min(size, at + int(rng.integers(1, 64)))
    match int(rng.integers(0, 12 if words else 9)):
        case 0:
            file[at:end] = rng.bytes(end - at)
        case 1 if size:
            file[min(at, size - 1)] ^= 1 << int(rng.integers(8))
        case 2:
            del file[at:]
        case 3:
            del file[at:end]
        case 4:
            file[at:at] = file[at:end] * int(rng.integers(1, 20))
        case 5:
            width = int(rng.choice([1, 2, 4, 8]))
            number = NUMBERS[int(rng.integers(len(NUMBERS)))] & (256**width - 1)
            file[at : at + width] = number.to_bytes(
                width, "big" if rng.random() < 0.5 else "little"
            )
        case 6:
            file[at:end] = bytes(end - at)
        case 7:
            begin = int(rng.integers(0, max(1, len(other))))
            file[at:end] = other[begin : begin + end - at]
        case 8:
            file[at:] = other[min(at, len(other)) :]
        case _ if words:
            word = words[int(rng.integers(len(words)))]
            file[at : at if rng.random() < 0.5 else end] = word
