"""What weakseg wrote, checked as it is read: a damaged file is named, with the key or column.

JSON is held against a model of pydantic, tables against their columns; both give back what the file
holds, unchanged.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ValidationError

from weakseg.contents import Kind
from weakseg.errors import RunError, first_line
from weakseg.spreadsheets import as_written

if TYPE_CHECKING:
    import pandas as pd

AGAIN = "run the stage that writes it again with --force"
DELETE = "delete it and run `weakseg compare CONFIG`: what is missing is made again"


def read_json(path: Path, fix: str = AGAIN, model: type[BaseModel] | None = None) -> dict[str, Any]:
    """Read an object of JSON that weakseg wrote.

    Parameters
    ----------
    path : Path
    fix : str, optional
        What to do where it is damaged.
    model : type of BaseModel, optional
        What it must hold.

    Raises
    ------
    RunError
        If the file is missing or damaged, or does not hold what it must; the key is named.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(content, dict):
            raise ValueError(f"a JSON {type(content).__name__} in the place of an object")
    except FileNotFoundError:
        raise RunError("A file of the run folder is missing.", where=str(path), fix=fix) from None
    except (OSError, ValueError, RecursionError) as e:
        raise damaged(path, _said(e), fix) from None
    if model is not None:
        check(content, model, path, fix)
    return content


def check(held: Any, model: type[BaseModel], path: Path, fix: str = AGAIN) -> Any:
    """Hold a tree against a model; the model's own form of it.

    Raises
    ------
    RunError
        With file and key, if it is another.
    """
    try:
        return model.model_validate(held)
    except ValidationError as e:
        key, message = first_wrong(e)
        first = e.errors(include_url=False)[0]
        found = f"{key}: {message[:1].lower()}{message[1:]}"
        if first["type"] != "missing":
            found += f" (found {first['input']!r:.60})"
        raise damaged(path, found, fix) from None


def first_wrong(e: ValidationError) -> tuple[str, str]:
    """Where a tree is first wrong, and what is wrong there."""
    first = e.errors(include_url=False)[0]
    return ".".join(map(str, first["loc"])) or "its content", first["msg"]


def damaged(path: Path, found: str, fix: str = AGAIN) -> RunError:
    """What is wrong where a file of a run is not as weakseg wrote it."""
    return RunError("A file of the run folder is damaged.", where=str(path), found=found, fix=fix)


def read_csv(
    path: Path,
    columns: Mapping[str, Kind],
    *,
    fix: str = DELETE,
    unique: Sequence[str] = (),
    blank: bool = True,
) -> pd.DataFrame:
    """Read a table that weakseg wrote.

    Parameters
    ----------
    path : Path
    columns : mapping
        Name → what it holds, of every column that there must be. Text is text even where it looks
        like a number; numbers may be missing. Further columns are read as pandas reads them.
    fix : str, optional
        What to do where it is damaged.
    unique : sequence of str
        Columns that name a row: none may stand twice.
    blank : bool
        Whether a file of an empty line is an empty table, as where nothing could be scored.

    Raises
    ------
    RunError
        If the file is missing or damaged; the column and its row are named.
    """
    import pandas as pd

    text = {c: str for c, kind in columns.items() if kind == "text"}
    # A label may be called nan; of numbers, those that were not looked at are.
    gaps = {c: ["", "nan"] for c in columns if c not in text}
    try:
        if blank and path.is_file() and path.stat().st_size == 1:
            return pd.DataFrame()
        rows = pd.read_csv(path, dtype=text, keep_default_na=False, na_values=gaps)
        table = as_written(rows)
    except FileNotFoundError:
        raise RunError("A table of the run folder is missing.", where=str(path), fix=fix) from None
    except (OSError, ValueError, OverflowError, csv.Error) as e:
        raise damaged(path, _said(e), fix) from None
    missing = [c for c in columns if c not in table]
    if missing:
        raise damaged(path, f"no column {missing[0]!r}", fix)
    for column, kind in columns.items():
        _check_column(path, table[column], kind, fix)
    if unique and table.duplicated(list(unique)).any():
        row = int(table.duplicated(list(unique)).to_numpy().argmax()) + 2
        raise damaged(path, f"row {row} stands twice: {', '.join(unique)}", fix)
    return table


def _check_column(path: Path, column: pd.Series, kind: Kind, fix: str) -> None:
    """Refuse what is no number, or neither True nor False, with its row."""
    import pandas as pd

    if kind == "text" or not len(column):
        return
    if kind == "flag":
        wrong = ~column.isin([True, False])
    elif pd.api.types.is_bool_dtype(column):
        wrong = pd.Series(True, index=column.index)
    else:
        number = pd.to_numeric(column, errors="coerce")
        wrong = (number.isna() & column.notna()) | number.isin([float("inf"), -float("inf")])
    if wrong.any():
        row = int(wrong.to_numpy().argmax())
        what = "a number" if kind == "number" else "True or False"
        found = f"column {column.name!r}, row {row + 2}: {column.iloc[row]!r:.60} is not {what}"
        raise damaged(path, found, fix)


def _said(e: Exception) -> str:
    return (isinstance(e, OSError) and e.strerror) or first_line(e)
