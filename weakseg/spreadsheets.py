"""Tables for people, who open them in spreadsheets: text that would be a formula stays text.

A cell that begins with ``=``, ``+``, ``-``, ``@``, a tab or a line's end is computed by a
spreadsheet when the file is opened (OWASP, "CSV injection"). As spreadsheets themselves do, an
apostrophe is written before it; a text that begins with apostrophes and such a sign gets one more,
so that what is read back is what was written.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Iterable, Sequence
from typing import IO, TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

_FORMULA = re.compile(r"'*[=+\-@\t\r\n＝＋－＠]")
"""What begins a formula, also in the wide letters of East Asian input."""


def safe_cell(text: str) -> str:
    """A text as it is written into a CSV for people."""
    return f"'{text}" if _FORMULA.match(text) else text


def plain_cell(text: str) -> str:
    """What `safe_cell` was given."""
    return text[1:] if text.startswith("'") and _FORMULA.match(text) else text


def csv_text(table: pd.DataFrame, **how: Any) -> str:
    """A table as CSV without its index; text goes through `safe_cell`, headings as well.

    Parameters
    ----------
    table : DataFrame
        Numbers stay as they are, also below 0.
    how
        For `pandas.DataFrame.to_csv`, for instance ``float_format``.
    """
    text = io.StringIO(newline="")
    write_csv(text, table, **how)
    return text.getvalue()


def write_csv(file: IO[str], table: pd.DataFrame, **how: Any) -> None:
    """Write the text of `csv_text` into a file, which was opened with ``newline=""``."""
    safe = _each_text(table, safe_cell)
    if _holds(safe, "\r"):  # the csv module leaves it bare, where it would end the line
        how = {"quoting": csv.QUOTE_NONNUMERIC, **how}
    safe.to_csv(file, index=False, **how)


def csv_lines(rows: Iterable[Sequence[str]]) -> str:
    """Rows of text as CSV, as `csv_text` writes them."""
    text = io.StringIO()
    plain = csv.writer(text, lineterminator="\n")
    quoted = csv.writer(text, lineterminator="\n", quoting=csv.QUOTE_ALL)
    for row in rows:
        cells = [safe_cell(c) for c in row]
        (quoted if any("\r" in c for c in cells) else plain).writerow(cells)
    return text.getvalue()


def as_written(table: pd.DataFrame) -> pd.DataFrame:
    """A table that was read from `csv_text`, with its texts as they were before."""
    return _each_text(table, plain_cell)


def _holds(table: pd.DataFrame, sign: str) -> bool:
    texts = (table.iloc[:, k] for k in range(table.shape[1]) if table.dtypes.iloc[k].kind == "O")
    return any(isinstance(v, str) and sign in v for column in texts for v in column)


def _each_text(table: pd.DataFrame, change: Callable[[str], str]) -> pd.DataFrame:
    """The same table where no text changes; else a copy, in which other cells keep their kind.

    Names of columns are text as well: a table may have one a label.
    """
    import pandas as pd

    out = table
    for k in range(table.shape[1]):
        column = table.iloc[:, k]
        if pd.api.types.is_numeric_dtype(column) or pd.api.types.is_datetime64_any_dtype(column):
            continue
        values = column.tolist()
        changed = [change(v) if isinstance(v, str) else v for v in values]
        if all(a is b for a, b in zip(changed, values, strict=True)):
            continue
        out = table.copy() if out is table else out
        out.isetitem(k, pd.array(changed, dtype=object))
    names = [change(c) if isinstance(c, str) else c for c in table.columns]
    return out if names == list(table.columns) else out.set_axis(names, axis=1)
