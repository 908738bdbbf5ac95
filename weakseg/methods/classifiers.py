"""The classifiers of a run: what they were made of, their weights, and what they say."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from weakseg import contents
from weakseg.config import STARTING_WEIGHTS, fingerprint, weights_content
from weakseg.config.volume_archs import is_deep
from weakseg.current import is_current
from weakseg.data.arrays import ImageBatches
from weakseg.data.cases import Case, Labels
from weakseg.data.slices import volume_frame
from weakseg.layout import (
    BEST,
    CLASSIFIER_SCORES,
    PREDICTIONS,
    classifier_stage,
    predictions_stage,
    seed_folder,
)
from weakseg.methods.networks import load_network
from weakseg.methods.other_runs import lent_heat_key
from weakseg.methods.outside import LENT_HEAT, as_taken
from weakseg.methods.prepared import Prepared
from weakseg.models.classifier import Classifier, ClassifierSpec
from weakseg.models.classifiers import build_classifier
from weakseg.runs import file_hash
from weakseg.scores import classification_scores
from weakseg.stored import DELETE, damaged, read_csv, read_json
from weakseg.training.beginning import spec_of


def classifier_key(prepared: Prepared, seed: int) -> str:
    """Fingerprint of all that a trained classifier depends on."""
    config = prepared.config.classifier
    taken = taken_from_outside(prepared, seed)
    weights = taken.pop(STARTING_WEIGHTS) or config.weights
    return fingerprint(
        "classifier",
        2,
        prepared.images_key,
        config.fingerprint_settings(),
        weights,
        seed,
        *taken.values(),
    )


def taken_from_outside(prepared: Prepared, seed: int) -> dict[str, str | None]:
    """What a classifier is made of beside its run, for its key and its entry in the record.

    What cannot be read any more is what it was when the classifier was trained.
    """
    config, stages = prepared.config.classifier, prepared.run.record.get("stages", {})
    now = {STARTING_WEIGHTS: weights_content(config.weights)}
    if config.augment.heat:
        now[LENT_HEAT] = lent_heat_key(prepared.config, seed)
    stage = classifier_stage(config.arch, seed)
    return {what: as_taken(stages, stage, what, of) for what, of in now.items()}


def weights_of(prepared: Prepared, seeds: Sequence[int]) -> dict[str, str]:
    """Seed → fingerprint of the weights of its classifier, for the record of what it has made."""
    arch, run = prepared.config.classifier.arch, prepared.run.folder
    return {str(s): file_hash(seed_folder(run, arch, s) / BEST) for s in seeds}


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


def classifier_scores_key(prepared: Prepared, seed: int) -> str:
    """Fingerprint of all that the scores of a classifier, with their intervals, depend on."""
    drawn = prepared.config.scores.bootstrap, prepared.config.seed
    return fingerprint("classifier scores", 1, predictions_key(prepared, seed), *drawn)


def prepared_spec(prepared: Prepared) -> ClassifierSpec:
    """The network that an experiment asks for, for its cases."""
    config, images = prepared.config.classifier, prepared.images
    ratio = 1.0
    if is_deep(config.arch):
        wanted = config.anisotropy
        ratio = seen_anisotropy(images) if wanted == "auto" else float(wanted)
    labels, channels = prepared.cases.labels, prepared.channels
    return spec_of(config, labels, channels, depth=images.depth, ratio=ratio)


def seen_anisotropy(images: ImageBatches) -> float:
    """How many times as deep as wide voxels are that a classifier sees.

    The median of the training volumes, of what their files say; a file that tells no spacing counts
    as if its voxels were cubes.
    """
    depth, side = images.depth or 1, images.data.image_size
    ratios = []
    for case in images.cases:
        if case.split not in (None, "train"):
            continue
        frame = volume_frame(case.image)
        x, y, z = frame.spacing if frame.known_spacing else (1.0, 1.0, 1.0)
        wide = max(frame.shape[0], frame.shape[1]) / side * (x * y) ** 0.5
        deep = max(1.0, frame.shape[2] / depth) * z
        ratios.append(deep / wide)
    return round(float(np.median(ratios)), 3) if ratios else 1.0


def header(spec: ClassifierSpec, prepared: Prepared) -> dict[str, str]:
    """What a weights file says of itself."""
    data = prepared.config.data
    windowed = {} if data.window == "auto" else {"window": json.dumps(data.window)}
    of_volumes = {
        "instances": spec.instances,
        "depth": json.dumps(spec.depth),
        "ratio": json.dumps(spec.ratio),
    }
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
        **windowed,
        **({} if spec.suppress == 1 else {"suppress": json.dumps(spec.suppress)}),
    } | (of_volumes if spec.flat_arch != spec.arch else {})


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
            len(json.loads(meta["healthy"])),
            meta.get("instances", "lse"),
            json.loads(meta.get("depth", "null")),
            json.loads(meta.get("ratio", "1.0")),
            json.loads(meta.get("suppress", "1.0")),
        )
        model = build_classifier(spec)
        model.image_size, model.intensity = int(meta["image_size"]), meta["intensity"]
        window = json.loads(meta.get("window", '"auto"'))
        model.window = window if isinstance(window, str) else tuple(window)
        return model

    return load_network(folder / BEST, "classifier", contents.ClassifierHeader, build)


def read_predictions(folder: Path) -> pd.DataFrame:
    """The predictions of a seed's folder, labels as text even where they look like numbers."""
    return read_csv(folder / PREDICTIONS, contents.PREDICTIONS, unique=("case",), blank=False)


def predictions_table(
    cases: Sequence[Case], labels: Labels, probabilities: np.ndarray
) -> pd.DataFrame:
    """One row a case: what was predicted, (N, K), and what is true.

    Probabilities have nine digits, from which 32 bits come back as they were: of a sure network
    many are within a millionth of 0 or 1, and yet one is above the other.
    """
    lesion = probabilities[:, list(labels.lesion_indices)].sum(1)
    table = pd.DataFrame(
        {
            "case": [c.id for c in cases],
            "patient": [c.patient for c in cases],
            "split": [c.split for c in cases],
            "label": [c.label for c in cases],
            "predicted": [labels.names[k] for k in probabilities.argmax(1)],
            "lesion_probability": _digits(lesion),
        }
    )
    for k, name in enumerate(labels.names):
        table[f"p({name})"] = _digits(probabilities[:, k])
    return table


def _digits(values: np.ndarray) -> list[float]:
    return [float(f"{v:.9g}") for v in values]


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


def scores_of(prepared: Prepared, folder: Path, split: str) -> dict[str, Any]:
    """How right the classifier of a seed's folder is on a split, by its predictions."""
    labels, index = prepared.cases.labels, prepared.cases.indices(split)
    cases = [prepared.cases.cases[i] for i in index]
    table = read_predictions(folder).set_index("case")
    columns = [f"p({name})" for name in labels.names]
    p = table.loc[[c.id for c in cases], columns].to_numpy(dtype=float)
    return classification_scores(
        np.array([labels.index(c.label) for c in cases]),
        p,
        labels.lesion_indices,
        np.array([c.patient for c in cases]),
        bootstrap=prepared.config.scores.bootstrap,
        seed=prepared.config.seed,
    )
