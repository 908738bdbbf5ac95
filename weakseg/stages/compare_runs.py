"""``weakseg compare-runs``: paired differences of two runs, told and written."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from weakseg.errors import UserError
from weakseg.report.two_runs import read_two_runs
from weakseg.runs import write_json, write_text
from weakseg.spreadsheets import csv_text

CSV, JSON = ".csv", ".json"


def compare_runs(
    a: Path,
    b: Path,
    *,
    method: str | None = None,
    other: str | None = None,
    column: str | None = None,
    patients: str | None = None,
    out: Sequence[Path] = (),
) -> list[str]:
    """Compare two runs; see `weakseg.report.two_runs.read_two_runs`.

    Parameters
    ----------
    a, b, method, other, column, patients
        As there.
    out : sequence of Path
        Files to write as well: the table as .csv, all that is told as .json.

    Returns
    -------
    list of str
        Lines for a terminal.

    Raises
    ------
    UserError
        As there, and for a file of another ending or in one of the runs.
    """
    for path in out:
        if path.suffix.lower() not in (CSV, JSON):
            raise UserError(
                "The ending of the output is not known.",
                where=f"--out {path}",
                expected=f"{CSV} or {JSON}",
            )
        if any(path.resolve().is_relative_to(run.resolve()) for run in (a, b)):
            raise UserError(
                "The output would lie in a run folder.",
                where=f"--out {path}",
                fix="name a file elsewhere",
            )
    told = read_two_runs(a, b, method=method, other=other, column=column, patients=patients)
    for path in out:
        if path.resolve() in told.manifests:
            raise UserError(
                "The output would overwrite the manifest of the data.",
                where=f"--out {path}",
                fix="name another file",
            )
    for path in out:
        if path.suffix.lower() == CSV:
            write_text(path, csv_text(told.table, float_format="%.6g"))
        else:
            write_json(path, told.to_json())
    return told.lines()
