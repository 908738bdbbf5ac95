"""One table over the runs of a sweep: what was varied, and the scores of every method.

Folds of one setting are one row: the test images of all folds are taken together, so that each
patient counts once, and the interval is over all of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from weakseg.errors import RunError
from weakseg.report.words import with_interval
from weakseg.scores import summarise
from weakseg.scores.summary import SUMMARY_COLUMNS
from weakseg.sweeping.variations import Variation

FOLDS_COLUMN, PATIENTS = "folds", "patients"


@dataclass(frozen=True)
class Read:
    """What was read of a run that is done.

    Attributes
    ----------
    per_case : DataFrame
        See `weakseg.scores.cases.case_columns`; empty where nothing could be scored.
    bootstrap, seed : int
        Of its intervals.
    """

    per_case: pd.DataFrame
    bootstrap: int
    seed: int


def joint_table(runs: Sequence[Variation], read: Mapping[str, Read]) -> pd.DataFrame:
    """Scores of every setting and method.

    Parameters
    ----------
    runs : sequence of Variation
    read : mapping
        Name of a run → its scores, of those that are done. A setting of which one fold is missing
        has no row: its patients would not be all of them.

    Returns
    -------
    DataFrame
        A column a key that is varied, ``folds`` where there are folds, and the columns of
        ``summary.csv``; a row a setting and method.

    Raises
    ------
    RunError
        If an image was tested in two folds.
    """
    rows: list[pd.DataFrame] = []
    keys = list(runs[0].shown)
    folded = runs[0].folds is not None
    for of_setting in by_setting(runs):
        parts = [read[v.name] for v in of_setting if v.name in read]
        if len(parts) < len(of_setting):
            continue
        _refuse_twice(of_setting, [p.per_case for p in parts])
        tables = [p.per_case for p in parts if len(p.per_case)]
        if not tables:
            continue
        together = pd.concat(tables, ignore_index=True)
        scores = summarise(together, bootstrap=parts[0].bootstrap, seed=parts[0].seed)
        for at, (key, value) in enumerate(of_setting[0].shown.items()):
            scores.insert(at, key, value)
        if folded:
            scores.insert(len(keys), FOLDS_COLUMN, len(parts))
        rows.append(scores)
    columns = [*keys, *([FOLDS_COLUMN] if folded else []), *SUMMARY_COLUMNS]
    return pd.concat(rows, ignore_index=True) if rows else pd.DataFrame(columns=columns)


def by_setting(runs: Sequence[Variation]) -> list[list[Variation]]:
    """The runs of each setting: its folds, in order, or the one."""
    groups: dict[tuple[tuple[str, str], ...], list[Variation]] = {}
    for run in runs:
        groups.setdefault(tuple(run.shown.items()), []).append(run)
    return list(groups.values())


def dice_table(table: pd.DataFrame, keys: Sequence[str]) -> pd.DataFrame:
    """For reading: a row a setting, a column a method, mean Dice on lesions with its interval."""
    head = [*keys, *([FOLDS_COLUMN] if FOLDS_COLUMN in table else [])]
    rows: dict[tuple[Any, ...], dict[str, Any]] = {}
    for entry in table.to_dict("records"):
        row = rows.setdefault(tuple(entry[k] for k in head), {k: entry[k] for k in head})
        row[PATIENTS] = max(row.get(PATIENTS, 0), int(entry["patients"]))
        row[str(entry["method"])] = with_interval(
            entry["dice"], entry["dice_low"], entry["dice_high"]
        )
    methods = [str(m) for m in dict.fromkeys(table["method"])]
    return pd.DataFrame(list(rows.values()), columns=[*head, PATIENTS, *methods]).fillna("")


def _refuse_twice(runs: Sequence[Variation], tables: Sequence[pd.DataFrame]) -> None:
    """Refuse folds that are not of one deal: an image, or a patient, that two of them test."""
    for column in ("case", "patient"):
        first: dict[str, str] = {}
        for run, table in zip(runs, tables, strict=True):
            for name in table[column].astype(str).unique() if len(table) else ():
                other = first.setdefault(name, run.name)
                if other != run.name:
                    raise RunError(
                        f"A {column} was tested in two folds.",
                        where=f"{other} and {run.name}",
                        found=name,
                        fix="the data have changed between the folds: repeat the sweep with "
                        "--force in another --out",
                    )
