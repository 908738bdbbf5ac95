"""One table over the runs of a sweep: what was varied, and the scores of every method.

Folds of one setting are one row: the test images of all folds are taken together, so that each
patient counts once, and the interval is over all of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import pandas as pd

from weakseg.errors import RunError
from weakseg.report.words import with_interval
from weakseg.scores import summarise
from weakseg.scores.on_labels import OnLabels, added_up
from weakseg.scores.summary import SUMMARY_COLUMNS
from weakseg.sweeping.variations import Variation

FOLDS_COLUMN, PATIENTS = "folds", "patients"
METHOD, YOUDEN, CHOSEN = "method", "youden", "chosen"
COUNTS = ("found", "lesions", "marked", "healthy")


@dataclass(frozen=True)
class Read:
    """What was read of a run that is done.

    Attributes
    ----------
    per_case : DataFrame
        See `weakseg.scores.cases.case_columns`; empty where nothing could be scored.
    bootstrap, seed : int
        Of its intervals.
    on_labels : mapping
        Method → what became of the validation images, of those whose cuts their labels chose.
    validated : frozenset of str
        The validation images.
    """

    per_case: pd.DataFrame
    bootstrap: int
    seed: int
    on_labels: Mapping[str, OnLabels] = field(default_factory=dict)
    validated: frozenset[str] = frozenset()


def joint_table(runs: Sequence[Variation], read: Mapping[str, Read]) -> pd.DataFrame:
    """Scores of every setting and method.

    Parameters
    ----------
    runs : sequence of Variation
    read : mapping
        Name of a run → its scores, of those that are done. A setting of which one fold is missing
        has no row, nor has a method that one of them lacks: its patients would not be all.

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
        methods = _of_all(parts)
        if not methods:
            continue
        together = pd.concat([p.per_case for p in parts], ignore_index=True)
        together = together[together["method"].isin(methods)].reset_index(drop=True)
        scores = summarise(together, bootstrap=parts[0].bootstrap, seed=parts[0].seed)
        for at, (key, value) in enumerate(of_setting[0].shown.items()):
            scores.insert(at, key, value)
        if folded:
            scores.insert(len(keys), FOLDS_COLUMN, len(parts))
        rows.append(scores)
    columns = [*keys, *([FOLDS_COLUMN] if folded else []), *SUMMARY_COLUMNS]
    return pd.concat(rows, ignore_index=True) if rows else pd.DataFrame(columns=columns)


def without_row(runs: Sequence[Variation], read: Mapping[str, Read]) -> list[str]:
    """The settings that have no row in `joint_table`, each with what is missing."""
    left = []
    for of_setting in by_setting(runs):
        missing = [v.name for v in of_setting if v.name not in read]
        name = _spoken(of_setting)
        if missing:
            left.append(f"{name} ({', '.join(missing)})" if missing != [name] else name)
        elif not _of_all([read[v.name] for v in of_setting]):
            left.append(f"{name} (nothing was scored)")
    return left


def methods_without_row(runs: Sequence[Variation], read: Mapping[str, Read]) -> list[str]:
    """The methods that some folds of a setting lack, and which folds these are."""
    left = []
    for of_setting in by_setting(runs):
        if any(v.name not in read for v in of_setting):
            continue
        methods = {v.name: _methods(read[v.name]) for v in of_setting}
        for method in dict.fromkeys(m for of in methods.values() for m in of):
            lacking = [name for name, of in methods.items() if method not in of]
            if lacking:
                left.append(f"{method} of {_spoken(of_setting)} (not in {', '.join(lacking)})")
    return left


def _spoken(of_setting: Sequence[Variation]) -> str:
    """A setting for people: the one run's name, or what is varied besides the folds."""
    first = of_setting[0]
    if first.folds is None:
        return first.name
    return ", ".join(f"{k}={v}" for k, v in first.shown.items()) or "the experiment"


def _methods(run: Read) -> list[str]:
    return [] if run.per_case.empty else [str(m) for m in run.per_case["method"].unique()]


def _of_all(parts: Sequence[Read]) -> list[str]:
    """The methods that every run has scored."""
    return [m for m in _methods(parts[0]) if all(m in _methods(p) for p in parts[1:])]


def by_setting(runs: Sequence[Variation]) -> list[list[Variation]]:
    """The runs of each setting: its folds, in order, or the one."""
    groups: dict[tuple[tuple[str, str], ...], list[Variation]] = {}
    for run in runs:
        groups.setdefault(tuple(run.shown.items()), []).append(run)
    return list(groups.values())


def labels_table(runs: Sequence[Variation], read: Mapping[str, Read]) -> pd.DataFrame:
    """What validation labels say of the settings: which of them a method is best with, mask-free.

    Parameters
    ----------
    runs : sequence of Variation
    read : mapping
        Name of a run → what was read of it.

    Returns
    -------
    DataFrame
        A row a setting and method: ``method``, a column a key that is varied, ``found``,
        ``lesions``, ``marked``, ``healthy`` (the folds' images added up), ``youden``, and
        ``chosen``: the highest Youden's index of the method's settings, of equal ones the first.
        Methods without such counts in every fold are left out, and all of them where there is one
        setting only, or settings have other validation images than others, as those of
        ``data.split.seed`` have.
    """
    keys, rows = list(runs[0].shown), list[dict[str, Any]]()
    whole = [of for of in by_setting(runs) if all(v.name in read for v in of)]
    same = len({tuple(read[v.name].validated for v in of) for of in whole}) == 1
    for of_setting in whole if same else ():
        parts = [read[v.name] for v in of_setting]
        for method in parts[0].on_labels:
            if not all(method in p.on_labels for p in parts):
                continue
            counts = added_up(asdict(p.on_labels[method]) for p in parts)
            if counts is not None:
                told = {**asdict(counts), YOUDEN: counts.youden}
                rows.append({METHOD: method, **of_setting[0].shown, **told})
    columns = [METHOD, *keys, *COUNTS, YOUDEN]
    table = pd.DataFrame(rows, columns=columns)
    several = table[METHOD].map(table[METHOD].value_counts()) > 1
    table = table[several].reset_index(drop=True)
    best = table.groupby(METHOD)[YOUDEN].transform("idxmax")
    return table.assign(**{CHOSEN: best == table.index})


def said_of_labels(table: pd.DataFrame, keys: Sequence[str]) -> list[str]:
    """A sentence a method: the setting that the validation labels choose, and equally good ones."""

    def setting(row: Mapping[Any, Any]) -> str:
        return ", ".join(f"{k}={row[k]}" for k in keys)

    told = []
    for row in table[table[CHOSEN].astype(bool)].to_dict("records"):
        counts = OnLabels(*(int(row[k]) for k in COUNTS))
        same = table[(table[METHOD] == row[METHOD]) & (table[YOUDEN] == row[YOUDEN])]
        others = [setting(r) for r in same[~same[CHOSEN]].to_dict("records")]
        as_good = f"; as good: {' and '.join(others)}" if others else ""
        told.append(f"{row[METHOD]}: {setting(row)} ({counts.told}{as_good})")
    return told


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
                        fix="the data have changed between the folds: repeat the sweep in "
                        "another --out",
                    )
