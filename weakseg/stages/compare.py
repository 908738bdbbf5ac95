"""``weakseg compare``: every stage that the experiment names, then the report."""

from __future__ import annotations

from pathlib import Path

from weakseg.layout import report_folder
from weakseg.methods.cases import scored_cases
from weakseg.methods.prepared import Prepared
from weakseg.methods.segmenters import has_training_masks
from weakseg.progress import say
from weakseg.stages.equivalence import lesion_patients, mask_equivalence, patient_counts
from weakseg.stages.heatmap_segment import heatmap_segment
from weakseg.stages.report import make_report
from weakseg.stages.retrain_filtered import check_filtered, retrain_filtered
from weakseg.stages.train_classifier import train_classifiers
from weakseg.stages.train_segmenter import train_segmenters


def compare(prepared: Prepared, *, force: bool = False) -> Path:
    """Train, segment, score and report; what is up to date is not made again.

    Volumes have no classifier and no heatmaps: of them only the segmenters are compared. Images
    without training masks have no segmenters but those that are trained on heatmaps' masks.

    Returns
    -------
    Path
        The report, ``report/index.html`` in the run folder.
    """
    held = prepared.config.segmenters
    names = list(held)
    supervised = any(not s.weak for s in held.values()) or prepared.cases.dims == 3
    if supervised and prepared.cases.dims == 2 and not has_training_masks(prepared):
        names = _that_need_no_masks(prepared)
        left_out = ", ".join(n for n in held if n not in names)
        say(f"segmenters: left out, no training image with a lesion has a mask ({left_out})")
        supervised = False
    asks = supervised and prepared.config.equivalence.segmenter is not None
    if asks and (prepared.cases.dims == 3 or not scored_cases(prepared)):
        say("mask-equivalence curve: left out, there are no scores of heatmaps to hold against it")
        asks = False
    if asks:  # refuses what cannot be, before hours of work
        patient_counts(prepared, len(lesion_patients(prepared)))
    filtered = prepared.config.filtered is not None and prepared.cases.dims == 2
    if filtered:
        check_filtered(prepared)
    if prepared.cases.dims == 2:
        train_classifiers(prepared, force=force)
        heatmap_segment(prepared, force=force)
        if filtered:
            retrain_filtered(prepared, force=force)
    if names or prepared.cases.dims == 3:
        train_segmenters(prepared, only=names, force=force)
    if asks:
        mask_equivalence(prepared, force=force)
    folder = prepared.run.folder
    return make_report([folder], report_folder(folder), look_at_data=False)


def _that_need_no_masks(prepared: Prepared) -> list[str]:
    """Segmenters that are trained on heatmaps' masks, at whatever remove."""
    names: list[str] = []
    for name, s in prepared.config.segmenters.items():
        from_network = s.masks in prepared.config.segmenters
        if s.weak and (not from_network or s.masks in names):
            names.append(name)
    return names
