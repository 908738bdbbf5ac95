"""``weakseg compare``: every stage that the experiment names, then the report."""

from __future__ import annotations

from pathlib import Path

from weakseg.stages.heatmap_segment import heatmap_segment
from weakseg.stages.prepare import Prepared
from weakseg.stages.report import make_report
from weakseg.stages.train_classifier import train_classifiers


def compare(prepared: Prepared, *, force: bool = False) -> Path:
    """Train, segment, score and report; what is up to date is not made again.

    Returns
    -------
    Path
        The report, ``report/index.html`` in the run folder.
    """
    train_classifiers(prepared, force=force)
    heatmap_segment(prepared, force=force)
    folder = prepared.run.folder
    return make_report([folder], folder / "report")
