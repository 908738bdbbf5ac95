"""``weakseg compare``: every stage that the experiment names, then the report."""

from __future__ import annotations

from pathlib import Path

from weakseg.stages.equivalence import mask_equivalence
from weakseg.stages.heatmap_segment import heatmap_segment
from weakseg.stages.prepare import Prepared
from weakseg.stages.report import make_report
from weakseg.stages.train_classifier import train_classifiers
from weakseg.stages.train_segmenter import train_segmenters


def compare(prepared: Prepared, *, force: bool = False) -> Path:
    """Train, segment, score and report; what is up to date is not made again.

    Volumes have no classifier and no heatmaps: of them only the segmenters are compared.

    Returns
    -------
    Path
        The report, ``report/index.html`` in the run folder.
    """
    if prepared.cases.dims == 2:
        train_classifiers(prepared, force=force)
        heatmap_segment(prepared, force=force)
    if prepared.config.segmenters or prepared.cases.dims == 3:
        train_segmenters(prepared, force=force)
    if prepared.config.equivalence.segmenter is not None:
        mask_equivalence(prepared, force=force)
    folder = prepared.run.folder
    return make_report([folder], folder / "report")
