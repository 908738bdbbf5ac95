"""Rows that are packed are the rows that were given, and give the same tables to the byte."""

from __future__ import annotations

import math
import tracemalloc
from typing import Any

import numpy as np
import pandas as pd
import pytest

from weakseg.methods.row_table import PACKED, RowTable
from weakseg.spreadsheets import csv_text

COLUMNS = ["case", "method", "dice", "missed", "pixels", "seed", "key_slice", "mixed", "never"]


def row(k: int) -> dict[str, Any]:
    """Every kind of cell: text, a formula, numbers, gaps, flags, and a column that some lack."""
    made: dict[str, Any] = {
        "case": "=1+1" if k % 7 == 0 else f"c{k}",
        "method": ("b", "a", "c")[k % 3],
        "dice": math.nan if k % 5 == 0 else k / 7,
        "missed": bool(k % 2),
        "pixels": np.int64(k),
        "seed": None if k % 11 == 0 else k,
        "key_slice": None,
        "mixed": (k, True, k / 3, np.float32(0.1))[k % 4],
    }
    return made if k % 3 else made | {"probability": 0.1 * k}


def many(n: int = 2 * PACKED + 50) -> list[dict[str, Any]]:
    return [row(k) for k in range(n)]


def same(ours: list[dict[str, Any]], given: list[dict[str, Any]]) -> bool:
    """Equal, of the same types, in the same order; NaN is NaN."""
    return [[(n, type(v), repr(v)) for n, v in r.items()] for r in ours] == [
        [(n, type(v), repr(v)) for n, v in r.items()] for r in given
    ]


@pytest.mark.parametrize("n", [0, 1, PACKED - 1, PACKED, PACKED + 1, 3 * PACKED])
def test_rows_come_back_as_they_were_given(n):
    table = RowTable(many(n))
    assert len(table) == n
    assert same(list(table), many(n))
    assert same(list(table), many(n))  # and again
    twice = RowTable(many(3))
    twice += table
    twice += many(2)
    assert same(list(twice), many(3) + many(n) + many(2))
    assert same(list(table), many(n))
    assert table.column("dice", "none")[:2] == pytest.approx(
        [r["dice"] for r in many(n)][:2], nan_ok=True
    )


@pytest.mark.parametrize("columns", [COLUMNS, [*COLUMNS, "probability"]])
@pytest.mark.parametrize("n", [0, 1, 50, 2 * PACKED + 50])
def test_its_table_is_that_of_pandas_to_the_byte(n, columns):
    ours = RowTable(many(n)).frame(columns)
    of_pandas = pd.DataFrame(many(n), columns=columns)
    pd.testing.assert_frame_equal(ours, of_pandas)
    assert csv_text(ours, float_format="%.6g") == csv_text(of_pandas, float_format="%.6g")


def test_rows_are_put_in_the_order_of_their_methods():
    names = ["c", "b", "a", "no row"]
    ours = RowTable(many()).by("method", names)
    assert same(list(ours), sorted(many(), key=lambda r: names.index(r["method"])))
    with pytest.raises(KeyError):
        RowTable(many()).by("method", ["a", "b"])


def held(make: Any) -> int:
    """Bytes that an object holds."""
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    kept = make()
    size = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    assert len(kept)
    return size


def test_a_row_takes_a_fifth_of_its_dictionary():
    def rows() -> Any:
        return (
            {f"score {k}": k + i / 3 for k in range(24)} | {"case": str(i)}
            for i in range(4 * PACKED)
        )

    packed, dictionaries = held(lambda: RowTable(rows())), held(lambda: list(rows()))
    assert packed < dictionaries / 5
