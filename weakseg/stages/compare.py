"""``weakseg compare``: every stage that the experiment names, then the report."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from weakseg.layout import (
    EQUIVALENCE_STAGE,
    FILTERED_STAGE,
    FLOORS_STAGE,
    SCORES_STAGE,
    SEGMENT_STAGE,
    report_folder,
)
from weakseg.methods.cases import scored_cases
from weakseg.methods.find import kind_of
from weakseg.methods.prepared import Prepared
from weakseg.methods.segmenters import has_training_masks
from weakseg.progress import say
from weakseg.stages.composed import composed_names, segment_composed
from weakseg.stages.equivalence import lesion_patients, mask_equivalence, patient_counts
from weakseg.stages.heatmap_segment import heatmap_segment
from weakseg.stages.plan import Step, follow
from weakseg.stages.report import make_report
from weakseg.stages.retrain_filtered import check_filtered, retrain_filtered
from weakseg.stages.scoring import collect
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
    classified = prepared.has_classifier
    supervised = any(not s.weak for s in held.values()) or not classified
    if supervised and classified and not has_training_masks(prepared):
        names = _that_need_no_masks(prepared)
        left_out = ", ".join(n for n in held if n not in names)
        say(f"segmenters: left out, no training image with a lesion has a mask ({left_out})")
        supervised = False
    asks = supervised and prepared.config.equivalence.segmenter is not None
    if asks and (not classified or not scored_cases(prepared)):
        say("mask-equivalence curve: left out, there are no scores of heatmaps to hold against it")
        asks = False
    if asks:  # refuses what cannot be, before hours of work
        patient_counts(prepared, len(lesion_patients(prepared)))
    filtered = prepared.config.filtered is not None and classified
    if filtered:
        check_filtered(prepared)
    steps = [
        *(_of_classifiers(prepared, force) if classified else ()),
        *([_of_filtered(prepared, force)] if filtered else ()),
        *([_of_segmenters(prepared, names, force)] if names or not classified else ()),
        *([_of_composed(prepared)] if composed_names(prepared) else ()),
        *([_of_curve(prepared, force)] if asks else ()),
        _of_report(prepared),
    ]
    page: Path = follow(prepared.run, steps)
    return page


def _of_classifiers(prepared: Prepared, force: bool) -> list[Step]:
    return [
        Step(
            f"classifiers: {_networks(len(prepared.config.seeds))}",
            ("classifier/", "predictions/"),
            lambda: train_classifiers(prepared, force=force),
        ),
        Step(
            "heatmaps, their masks and scores",
            ("heatmaps/", SEGMENT_STAGE, FLOORS_STAGE),
            lambda: heatmap_segment(prepared, force=force),
        ),
    ]


def _of_filtered(prepared: Prepared, force: bool) -> Step:
    return Step(
        "heatmap-filtered retraining",
        (FILTERED_STAGE, f"{FILTERED_STAGE}/", "faithfulness/"),
        lambda: retrain_filtered(prepared, force=force),
    )


def _of_segmenters(prepared: Prepared, names: Sequence[str], force: bool) -> Step:
    networks = sum(len(prepared.config.segmenter_seeds(n)) for n in names)
    return Step(
        f"segmenters {', '.join(names)}: {_networks(networks)}, their masks and scores",
        ("segmenter/", "masks/", "targets/"),
        lambda: train_segmenters(prepared, only=names, force=force),
    )


def _of_composed(prepared: Prepared) -> Step:
    names, config = composed_names(prepared), prepared.config

    def run() -> None:
        # Most were made as soon as their members were, with ``force`` made again.
        segment_composed(prepared, tell=True)
        collect(prepared)

    return Step(
        f"methods made of others: {', '.join(names)}",
        tuple(kind_of(config, n).stage(n) for n in names),
        run,
    )


def _of_curve(prepared: Prepared, force: bool) -> Step:
    return Step(
        "mask-equivalence curve",
        (EQUIVALENCE_STAGE, f"{EQUIVALENCE_STAGE}/"),
        lambda: mask_equivalence(prepared, force=force),
    )


def _of_report(prepared: Prepared) -> Step:
    folder = prepared.run.folder
    return Step(
        "report",
        (SCORES_STAGE,),
        lambda: make_report([folder], report_folder(folder), look_at_data=False),
    )


def _that_need_no_masks(prepared: Prepared) -> list[str]:
    """Segmenters that are trained on heatmaps' masks, at whatever remove."""
    names: list[str] = []
    for name, s in prepared.config.segmenters.items():
        if s.weak and set(prepared.config.segmenters_of(s.masks)) <= set(names):
            names.append(name)
    return names


def _networks(n: int) -> str:
    return f"{n} network{'' if n == 1 else 's'}"
