"""How right the classifiers of a run are: by their predictions, with intervals."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from weakseg.current import why_stale
from weakseg.layout import (
    CLASSIFIER_SCORES,
    classifier_scores_stage,
    classifier_stage,
    predictions_stage,
    seed_folder,
)
from weakseg.methods.classifiers import classifier_scores_key, predictions_key, scores_of
from weakseg.methods.prepared import Prepared
from weakseg.progress import say
from weakseg.runs import write_json
from weakseg.stages.base import Stage, disown, perform


def leave_scores(prepared: Prepared, seed: int) -> None:
    """Of runs of earlier versions: the scores are no output of the predictions any more."""
    arch, run = prepared.config.classifier.arch, prepared.run
    scores = seed_folder(run.folder, arch, seed) / CLASSIFIER_SCORES
    disown(run, predictions_stage(arch, seed), scores)


def score_classifiers(prepared: Prepared) -> None:
    """Score every classifier again whose scores are of other settings than its predictions.

    Where these are not up to date, the scores are made after them.
    """
    arch, run = prepared.config.classifier.arch, prepared.run
    for seed in prepared.config.seeds if prepared.has_classifier else ():
        leave_scores(prepared, seed)
        key = predictions_key(prepared, seed)
        if why_stale(run, predictions_stage(arch, seed), key) is None:
            perform(run, classifier_scores_of(prepared, seed))


def classifier_scores_of(prepared: Prepared, seed: int) -> Stage:
    """How right a trained classifier is, by its predictions.

    A stage of its own: with other intervals nothing is made again that goes by the predictions.
    """
    arch = prepared.config.classifier.arch
    folder = seed_folder(prepared.run.folder, arch, seed)
    return Stage(
        classifier_scores_stage(arch, seed),
        classifier_scores_key(prepared, seed),
        (folder / CLASSIFIER_SCORES,),
        lambda _: _score_seed(prepared, folder, seed),
        inputs=(predictions_stage(arch, seed),),
    )


def _score_seed(prepared: Prepared, folder: Path, seed: int) -> dict[str, Any]:
    c = prepared.config.classifier
    scores = {s: scores_of(prepared, folder, s) for s in ("val", "test")}
    write_json(folder / CLASSIFIER_SCORES, scores)
    auc = scores["test"]["auc_lesion"]
    entry = prepared.run.record["stages"][classifier_stage(c.arch, seed)]
    ends = " without an interval, for the test images are of one patient"
    if np.isfinite([auc["low"], auc["high"]]).all():
        ends = f" [{auc['low']:.3f}, {auc['high']:.3f}]"
    say(
        f"classifier {c.arch}, seed {seed}: test AUC {auc['value']:.3f}{ends}, best epoch "
        f"{entry['best_epoch']} of {c.epochs}: {entry['best_because']}"
    )
    return {}
