"""What `compare` ends with: the methods, the answer, where everything is, and what comes next."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from weakseg.layout import report_summary
from weakseg.progress import clock, say
from weakseg.report.words import masks_told
from weakseg.runs import read_json
from weakseg.scores.stored import read_summary

MOST = 12
"""Methods that are shown; the report has all."""

HEAD = ("method", "Dice", "95 % interval", "missed", "false alarms", "masks seen")


def say_results(run: Path, page: Path, seconds: float) -> None:
    """Tell what a run has come to.

    Parameters
    ----------
    run : Path
    page : Path
        Its report.
    seconds : float
        What the command took.
    """
    from weakseg.report.tables import GROUPS, group_of

    table = read_summary(run)
    summary = report_summary(page.parent)
    about = read_json(summary)["runs"][0] if summary.exists() else {}
    if len(table):
        kinds = zip(table["kind"], table["masks_seen"], strict=True)
        order = [list(GROUPS).index(group_of(kind, int(seen))) for kind, seen in kinds]
        ranked = table.assign(group=order).sort_values(
            ["group", "dice"], ascending=[True, False], kind="stable"
        )
        say("\n".join(["", *methods_as_text(ranked), ""]))
    if "verdict" in about:
        say(about["verdict"]["sentence"])
    say(f"report: {page}")
    say(f"run: {run} (masks/ has the masks, scores/ the tables); it took {clock(seconds)}")
    if about.get("headline"):
        folder = shlex.quote(str(run))
        say(f"next: weakseg predict {folder} NEW_IMAGES --out masks/ (by {about['headline']})")


def methods_as_text(table: pd.DataFrame) -> list[str]:
    """A table of methods as lines, the first so many.

    Parameters
    ----------
    table : DataFrame
        As ``scores/summary.csv``.
    """
    lines = aligned([HEAD, *(_cells(row) for row in table.head(MOST).to_dict(orient="records"))])
    more = len(table) - MOST
    return [*lines, f"and {more} more in scores/summary.csv"] if more > 0 else lines


def aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Rows of cells as lines: the first column to the left, the others to the right."""
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            cell.rjust(w) if k else cell.ljust(w)
            for k, (cell, w) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]


def _cells(row: dict[Any, Any]) -> tuple[str, ...]:
    low, high = (_number(row[k]) for k in ("dice_low", "dice_high"))
    return (
        str(row["method"]),
        _number(row["dice"]),
        f"{low} to {high}" if low and high else "",
        _percent(row["missed"]),
        _percent(row["false_positive_rate"]),
        masks_told(row),
    )


def _number(value: Any) -> str:
    return "" if pd.isna(value) else f"{value:.3f}"


def _percent(value: Any) -> str:
    return "" if pd.isna(value) else f"{100 * value:.0f} %"
