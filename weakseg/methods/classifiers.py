"""The classifiers of a run: what they were made of, their weights, and what they say."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from weakseg import contents
from weakseg.config import fingerprint
from weakseg.current import is_current
from weakseg.data.cases import Case, Labels
from weakseg.layout import BEST, CLASSIFIER_SCORES, PREDICTIONS, classifier_stage, predictions_stage
from weakseg.methods.networks import load_network
from weakseg.methods.prepared import Prepared
from weakseg.models.classifier import Classifier, ClassifierSpec
from weakseg.models.classifiers import build_classifier
from weakseg.runs import file_hash
from weakseg.stored import DELETE, damaged, read_csv, read_json


def classifier_key(prepared: Prepared, seed: int) -> str:
    """Fingerprint of all that a trained classifier depends on."""
    config = prepared.config.classifier
    weights: Any = config.weights
    if weights not in ("none", "imagenet") and Path(weights).is_file():
        weights = file_hash(Path(weights))
    return fingerprint("classifier", 2, prepared.key, config.fingerprint_settings(), weights, seed)


def is_trained(prepared: Prepared, seed: int) -> bool:
    """Whether the classifier in the run folder is the one that the experiment asks for."""
    arch = prepared.config.classifier.arch
    made = {
        classifier_stage(arch, seed): classifier_key(prepared, seed),
        predictions_stage(arch, seed): predictions_key(prepared, seed),
    }
    return all(is_current(prepared.run, stage, key) for stage, key in made.items())


def predictions_key(prepared: Prepared, seed: int) -> str:
    """Fingerprint of all that the predictions of a classifier depend on."""
    return fingerprint("predictions", 1, classifier_key(prepared, seed))


def header(spec: ClassifierSpec, prepared: Prepared) -> dict[str, str]:
    """What a weights file says of itself."""
    data = prepared.config.data
    return {
        "format": "weakseg-classifier-1",
        "arch": spec.arch,
        "labels": json.dumps(spec.labels),
        "healthy": json.dumps(prepared.cases.labels.healthy),
        "channels": str(spec.channels),
        "grey_input": spec.grey_input,
        "image_size": str(data.image_size),
        "intensity": data.intensity,
        "pool": spec.pool,
        "stride": json.dumps(spec.stride),
        "exits": json.dumps(spec.exits),
    }


def load_classifier(folder: Path) -> Classifier:
    """The best network of a seed's folder, in evaluation mode.

    Raises
    ------
    RunError
        If it is not there, or is not one of ours.
    """

    def build(meta: dict[str, str]) -> Classifier:
        labels = tuple(json.loads(meta["labels"]))
        spec = ClassifierSpec(
            meta["arch"],
            labels,
            int(meta["channels"]),
            meta["grey_input"],
            meta["pool"],
            json.loads(meta["stride"]),
            json.loads(meta["exits"]),
        )
        return build_classifier(spec)

    return load_network(folder / BEST, "classifier", contents.ClassifierHeader, build)


def read_predictions(folder: Path) -> pd.DataFrame:
    """The predictions of a seed's folder, labels as text even where they look like numbers."""
    return read_csv(folder / PREDICTIONS, contents.PREDICTIONS, unique=("case",), blank=False)


def predictions_table(
    cases: Sequence[Case], labels: Labels, probabilities: np.ndarray
) -> pd.DataFrame:
    """One row a case: what was predicted, (N, K), and what is true."""
    lesion = probabilities[:, list(labels.lesion_indices)].sum(1)
    table = pd.DataFrame(
        {
            "case": [c.id for c in cases],
            "patient": [c.patient for c in cases],
            "split": [c.split for c in cases],
            "label": [c.label for c in cases],
            "predicted": [labels.names[k] for k in probabilities.argmax(1)],
            "lesion_probability": lesion.astype(float).round(6),
        }
    )
    for k, name in enumerate(labels.names):
        table[f"p({name})"] = probabilities[:, k].astype(float).round(6)
    return table


def predicted_labels(folder: Path, cases: Sequence[Case], labels: Labels) -> list[str]:
    """The label that the classifier of a seed's folder gives each case."""
    path = folder / PREDICTIONS
    predicted = read_predictions(folder).set_index("case")["predicted"].to_dict()
    lost = next((c.id for c in cases if predicted.get(c.id) not in labels.names), None)
    if lost is not None:
        raise damaged(path, f"no label of the run's for the case {lost!r}", DELETE)
    return [predicted[c.id] for c in cases]


def read_classifier_scores(folder: Path) -> dict[str, Any]:
    """The classification scores of a seed's folder."""
    return read_json(folder / CLASSIFIER_SCORES, model=contents.ClassifierScores)
