"""``weakseg report``: one page of one run or several, and its tables."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from weakseg import __version__
from weakseg.config import fingerprint
from weakseg.disk import as_path
from weakseg.errors import UserError
from weakseg.layout import (
    REPORT_STAGE,
    report_folder,
    report_page,
    report_summary,
    report_table,
    report_tables,
)
from weakseg.methods.prepared import Prepared
from weakseg.progress import say
from weakseg.report.intact import stages_read
from weakseg.runs import commit, make_folder, write_json, write_text
from weakseg.spreadsheets import csv_text
from weakseg.stages.base import Effort, Stage


def report_of(prepared: Prepared) -> Stage:
    """The report of a run in its own folder."""
    run, folder = prepared.run.folder, report_folder(prepared.run.folder)

    def write(_: None) -> dict[str, Any]:
        make_report([run], folder, look_at_data=False)
        return {}

    return Stage(
        REPORT_STAGE,
        fingerprint(REPORT_STAGE, prepared.key, prepared.config, __version__, commit()),
        (report_page(folder), report_summary(folder), report_tables(folder)),
        write,
        what="report",
        inputs=tuple(stages_read(prepared.config)),
        effort=Effort("report", 1),
    )


def make_report(
    runs: Sequence[Path], out: Path, *, gallery: int | None = None, look_at_data: bool = True
) -> Path:
    """Write the report.

    Files of an earlier report are replaced one by one, the page last; whatever else is in the
    folder stays.

    Parameters
    ----------
    runs : sequence of Path
        Run folders, at least one.
    out : Path
        Gets ``index.html``, ``report.json`` and ``tables/*.csv``.
    gallery : int, optional
        Cases a row of the galleries, 0 for a report without any image; default: as each run's
        experiment says.
    look_at_data : bool, optional
        Whether to say where the manifest's files have changed since a run was made; they are all
        read for it.

    Returns
    -------
    Path
        The page.

    Raises
    ------
    RunError
        If a folder is not a run, is not complete or damaged, or stands twice, or ``out`` cannot be
        written.
    UserError
        If ``out`` holds a page that is none of ours.
    """
    # matplotlib takes a second to import: not before a report is made.
    from weakseg.report.page import build_report
    from weakseg.report.read import read_runs
    from weakseg.report.words import DATA_CHANGED

    out = as_path(out, "a folder")
    read = read_runs(runs, look_at_data=look_at_data)
    _refuse_other_page(out, [run.folder for run in read])
    for run in read:
        if run.data_changed:
            say(f"{run.folder}: {DATA_CHANGED}")
    report = build_report(read, gallery)
    make_folder(out)
    for name, table in report.tables.items():
        write_text(report_table(out, name), csv_text(table, float_format="%.6g"))
    write_json(report_summary(out), report.summary)
    write_text(report_page(out), report.html)
    return report_page(out)


def _refuse_other_page(out: Path, runs: Sequence[Path]) -> None:
    """Refuse to write over somebody else's page: ours lies beside its `report.json`.

    A run's own folder is ours, whatever of it is lost: it is made again.
    """
    own = {report_folder(run).resolve() for run in runs}
    page = report_page(out)
    if page.exists() and not report_summary(out).exists() and out.resolve() not in own:
        raise UserError(
            "The folder holds a page that is no report of weakseg.",
            where=str(page),
            fix="name another folder with --out",
        )
