"""``weakseg compare-runs``: whether a run is better than an earlier one, image by image."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def compare_runs(
    a: Annotated[Path, typer.Argument(metavar="RUN_A", help="A run folder.")],
    b: Annotated[
        Path, typer.Argument(metavar="RUN_B", help="One of the same data and splits, to hold to A.")
    ],
    method: Annotated[
        str | None,
        typer.Option("--method", metavar="NAME", help="[default: the one of the report's verdict]"),
    ] = None,
    other: Annotated[
        str | None,
        typer.Option("--other", metavar="NAME", help="B's method, where it is another."),
    ] = None,
    by: Annotated[
        str | None,
        typer.Option(
            "--by", metavar="COLUMN", help="Also by a column of the manifest, such as site."
        ),
    ] = None,
    by_patient: Annotated[
        str | None,
        typer.Option(
            "--by-patient",
            metavar="REGEX",
            help="Also by what a pattern finds in the patients' names.",
        ),
    ] = None,
    out: Annotated[
        list[Path] | None,
        typer.Option("--out", metavar="FILE", help="Also write .csv or .json; may be repeated."),
    ] = None,
) -> None:
    """Tell whether a run is better than another.

    Paired differences in Dice on the same test images, with an interval over patients; missed
    lesions and false alarms of both.
    """
    from weakseg.runs import open_run

    for run in (a, b):
        open_run(run)
    from weakseg.stages.compare_runs import compare_runs as work

    print(
        "\n".join(
            work(a, b, method=method, other=other, column=by, patients=by_patient, out=out or [])
        )
    )
