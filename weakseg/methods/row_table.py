"""Rows of a table, kept small: of 100,000 images they would be most of what a stage holds."""

from __future__ import annotations

import pickle
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

PACKED = 256
"""Rows that are packed together. A dictionary of 30 numbers takes 2 kB, packed about 0.2 kB."""

_ABSENT = ...
"""What stands for a cell that a row does not have."""


class RowTable:
    """Rows in order, each a mapping of column to value; packed column by column.

    Values come back as they were given, of the same types, and rows with the same columns in the
    same order.

    Parameters
    ----------
    rows : iterable of mapping, optional
    """

    def __init__(self, rows: Iterable[Mapping[str, Any]] = ()) -> None:
        self._packed: list[dict[str, bytes]] = []
        self._lengths: list[int] = []
        self._open: list[Mapping[str, Any]] = []
        self += rows

    def append(self, row: Mapping[str, Any]) -> None:
        """Add a row, which is not changed from then on."""
        self._open.append(row)
        if len(self._open) >= PACKED:
            self._pack()

    def __iadd__(self, rows: Iterable[Mapping[str, Any]]) -> RowTable:
        if isinstance(rows, RowTable) and rows._packed:
            self._pack()
            self._packed += rows._packed
            self._lengths += rows._lengths
            rows = list(rows._open)
        for row in rows:
            self.append(row)
        return self

    def __len__(self) -> int:
        return sum(self._lengths) + len(self._open)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        for block, length in zip(self._packed, self._lengths, strict=True):
            columns = {name: pickle.loads(cells) for name, cells in block.items()}
            for k in range(length):
                yield {n: cells[k] for n, cells in columns.items() if cells[k] is not _ABSENT}
        yield from map(dict, self._open)

    def column(self, name: str, absent: Any = None) -> list[Any]:
        """The values of a column; ``absent`` where a row has none."""
        values: list[Any] = []
        for block, length in zip(self._packed, self._lengths, strict=True):
            cells = pickle.loads(block[name]) if name in block else [_ABSENT] * length
            values += [absent if v is _ABSENT else v for v in cells]
        return values + [row.get(name, absent) for row in self._open]

    def by(self, column: str, names: Sequence[str]) -> RowTable:
        """The same rows, those of the first name first; within a name in their order.

        Raises
        ------
        KeyError
            For a row of none of the names.
        """
        of = {name: RowTable() for name in names}
        for row in self:
            of[row[column]].append(row)
        ordered = RowTable()
        for table in of.values():
            ordered += table
        return ordered

    def frame(self, columns: Sequence[str]) -> pd.DataFrame:
        """What ``pandas.DataFrame(rows, columns=columns)`` is, made a column at a time."""
        import pandas as pd

        def one(name: str) -> pd.Series:
            values = [(v,) for v in self.column(name, float("nan"))]
            return pd.DataFrame(values, columns=[name])[name]  # a kind is found as of whole rows

        return pd.DataFrame({name: one(name) for name in columns}, columns=list(columns))

    def _pack(self) -> None:
        """Pack the rows that are not packed yet."""
        if not self._open:
            return
        names = dict.fromkeys(name for row in self._open for name in row)
        block = {name: [row.get(name, _ABSENT) for row in self._open] for name in names}
        self._packed.append({n: pickle.dumps(cells, protocol=5) for n, cells in block.items()})
        self._lengths.append(len(self._open))
        self._open = []
