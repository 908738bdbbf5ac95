"""Which images are explained, and for which class."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from weakseg.config import HeatmapConfig
from weakseg.heatmaps.explaining import target_classes
from weakseg.methods.classifiers import predicted_labels
from weakseg.methods.prepared import Prepared
from weakseg.methods.stored_heatmaps import PREDICTED


def heatmap_images(prepared: Prepared, name: str) -> list[int]:
    """Which images get a heatmap of a name.

    All get the experiment's principal one, which filtered retraining needs. Of further ones nobody
    ever looks at healthy images but those of the test split.
    """
    cases, labels = prepared.cases.cases, prepared.cases.labels
    everything = name not in prepared.config.heatmaps
    return [
        i
        for i, c in enumerate(cases)
        if everything or c.split == "test" or labels.is_lesion(c.label)
    ]


def explained_classes(
    prepared: Prepared, settings: HeatmapConfig, target: str, model_folder: Path
) -> list[tuple[HeatmapConfig, Sequence[int]]]:
    """Which images are explained for which class."""
    cases = prepared.cases.cases
    if target != PREDICTED:
        return [(settings.model_copy(update={"target": target}), range(len(cases)))]
    predicted = np.array(predicted_labels(model_folder, cases, prepared.cases.labels))
    return [
        (
            settings.model_copy(update={"target": str(label)}),
            np.flatnonzero(predicted == label).tolist(),
        )
        for label in np.unique(predicted)
    ]


def called_target(prepared: Prepared, target: str, model_folder: Path, at_most: int) -> list[int]:
    """Test images that the network calls a target class, at most so many, patient by patient."""
    labels = prepared.cases.labels
    cases = prepared.cases.cases
    predicted = predicted_labels(model_folder, cases, labels)
    named = range(len(labels.names)) if target == PREDICTED else target_classes(target, labels)
    names = {labels.names[k] for k in named}
    rng = np.random.default_rng(prepared.config.seed)
    by_patient: dict[str, list[int]] = {}
    for i in rng.permutation(prepared.cases.indices("test")):
        case = cases[i]
        if predicted[i] in names:
            by_patient.setdefault(case.patient, []).append(int(i))
    rounds = sorted((n, p, i) for p, numbers in by_patient.items() for n, i in enumerate(numbers))
    return sorted(i for _, _, i in rounds[:at_most])
