"""Tables that come with published sets: their columns by name."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from weakseg.data.csv_text import read_cells
from weakseg.errors import DataError


def read_columns(
    path: Path, wanted: Sequence[str], optional: Sequence[str] = ()
) -> list[dict[str, str]]:
    """The rows of a CSV as column → cell, by the columns' own names without case.

    Parameters
    ----------
    path : Path
    wanted : sequence of str
        Columns that there must be.
    optional : sequence of str
        Columns that are blank where they are missing.

    Raises
    ------
    DataError
        If it cannot be read, or lacks a column.
    """
    (_, header), *lines = read_cells(path)
    place = {name.casefold(): k for k, name in reversed(list(enumerate(header)))}
    missing = [w for w in wanted if w.casefold() not in place]
    if missing:
        raise DataError(
            f"The table has no column {' and no column '.join(map(repr, missing))}.",
            where=f"{path}, row 1",
            found=f"columns {', '.join(header)}",
            fix="use the table as it was published",
        )
    names = [*wanted, *(o for o in optional if o.casefold() in place)]
    blank = dict.fromkeys(optional, "")

    def cell(cells: list[str], name: str) -> str:
        k = place[name.casefold()]
        return cells[k] if k < len(cells) else ""

    return [blank | {n: cell(cells, n) for n in names} for _, cells in lines]


def header_of(path: Path) -> list[str]:
    """The names of a CSV's columns; none where it cannot be read."""
    try:
        return read_cells(path)[0][1]
    except DataError:
        return []


def number(cell: str) -> float | None:
    """A cell as a number; None where it is blank, or none."""
    try:
        return float(cell)
    except ValueError:
        return None
