"""The gate: the probability below which the classifiers' word makes an image's mask empty."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from weakseg.config import Config
from weakseg.data.arrays import ImageBatches
from weakseg.data.cases import Case, Labels
from weakseg.errors import RunError, UserError
from weakseg.layout import PREDICTIONS, seed_folder
from weakseg.methods.classifiers import classifier_key, is_trained, read_predictions, weights_of
from weakseg.methods.prepared import Prepared
from weakseg.methods.stored_heatmaps import classifier_folders
from weakseg.models.classifier import Classifier
from weakseg.scores import youden_threshold
from weakseg.stored import DELETE, damaged
from weakseg.training.classify import predict_probabilities

DIGITS = 6
"""Of a probability: as many as the classifiers' ``predictions.csv`` holds."""


def chosen_gate(
    gate: float | str, predictions: pd.DataFrame, lesion_labels: Sequence[str]
) -> float:
    """A gate as a probability.

    Parameters
    ----------
    gate : float or str
        A probability; ``none``, which is 0; or ``validation``: Youden's best cut on the
        validation labels.
    predictions : DataFrame
        ``split``, ``label`` and ``lesion_probability`` of every image; no mask is looked at.
    lesion_labels : sequence of str

    Raises
    ------
    UserError
        If the validation split holds one kind of image only.
    """
    if gate == "none":
        return 0.0
    if gate != "validation":
        return float(gate)
    val = predictions[predictions["split"] == "val"]
    truth = val["label"].isin(list(lesion_labels)).to_numpy()
    if truth.all() or not truth.any():
        raise UserError(
            "The gate cannot be chosen on the validation labels.",
            where="masks.gate: validation",
            found="only one kind of image in the validation split",
            fix="set masks.gate to a probability, such as 0.5",
        )
    return youden_threshold(truth, val["lesion_probability"].to_numpy())


def mean_predictions(folders: Sequence[Path]) -> pd.DataFrame:
    """The predictions of several classifiers' folders, probabilities of a lesion averaged."""
    tables = [read_predictions(f) for f in folders]
    cases = tables[0]["case"]
    for folder, table in zip(folders, tables, strict=True):
        if set(table["case"]) != set(cases) or table["lesion_probability"].isna().any():
            found = f"not a probability of each case of {folders[0] / PREDICTIONS}"
            raise damaged(folder / PREDICTIONS, found, DELETE)
    said = [t.set_index("case").loc[cases, "lesion_probability"] for t in tables]
    return tables[0].assign(lesion_probability=mean_probability(said))


def mean_probability(each: Sequence[Any]) -> Any:
    """What several classifiers say, each rounded as ``predictions.csv`` holds it."""
    return np.round(
        np.mean([np.round(np.asarray(p, dtype=float), DIGITS) for p in each], 0), DIGITS
    )


def heatmap_gate(prepared: Prepared, name: str, seed: int) -> float:
    """The gate on a heatmap, of the mean of the classifiers that make it; 0 without one."""
    gate = prepared.config.masks.gate
    table = mean_predictions(list(classifier_folders(prepared, name, seed).values()))
    return chosen_gate(gate, table, prepared.cases.labels.lesion)


@dataclass(frozen=True)
class Gate:
    """The classifiers' word on each image.

    Attributes
    ----------
    value : float
        Below this probability of a lesion an image gets an empty mask.
    by : tuple of int
        Seeds of the classifiers whose probabilities are averaged.
    probabilities : mapping
        Case → probability of a lesion.
    """

    value: float
    by: tuple[int, ...]
    probabilities: Mapping[str, float]

    def of(self, case: Case) -> float:
        """What they say of a case."""
        return self.probabilities[case.id]


@dataclass(frozen=True, eq=False)
class ClassifierGate:
    """What classifiers say of new images.

    Attributes
    ----------
    classifiers : tuple of Classifier
        Those whose mean probability of a lesion empties a mask.
    labels : Labels
        Of the classifiers.
    config : Config
    """

    classifiers: tuple[Classifier, ...]
    labels: Labels
    config: Config

    def __call__(self, case: Case) -> float:
        channels = self.classifiers[0].spec.channels
        image = ImageBatches([case], self.config.data, channels)
        lesion = list(self.labels.lesion_indices)
        said = [
            predict_probabilities(m, image, np.arange(1), 1, m.mean.device)[:, lesion].sum(1)
            for m in self.classifiers
        ]
        probability = float(mean_probability(said)[0])
        if not np.isfinite(probability):
            raise RunError(
                "The gate's classifier gives no probability (NaN or infinity).",
                where=case.shown,
                fix="look at its weights, and train it again: weakseg train-classifier CONFIG "
                "--force",
            )
        return probability


def check_gate(prepared: Prepared, name: str) -> None:
    """Refuse a gate that there is no classifier for, before any training.

    Raises
    ------
    UserError
        For volumes, which have no classifier, or if it cannot be chosen on the validation labels.
    RunError
        If a classifier is missing.
    """
    if prepared.config.segmenters[name].gate == "none":
        return
    where = f"segmenters.{name}.gate"
    if not prepared.has_classifier:
        raise UserError(
            "A gate needs a classifier, and there is none of volumes, nor where every image has a "
            "lesion.",
            where=where,
            fix="take it out; min_peak and min_area screen masks as well",
        )
    if prepared.config.segmenter_gate(name) == "none":
        return
    missing = [s for s in _all_seeds(prepared, name) if not is_trained(prepared, s)]
    if missing:
        raise RunError(
            f"The gate of {name} needs the run's classifiers, and there is none of these settings "
            f"for seed {missing[0]}.",
            where=where,
            fix="run `weakseg train-classifier CONFIG` with the same --set first, or `weakseg "
            "compare CONFIG`; gate: none needs no classifier",
        )
    for networks in prepared.config.mask_seeds(name).values():
        find_gate(prepared, name, networks)


def _all_seeds(prepared: Prepared, name: str) -> list[int]:
    config = prepared.config
    return sorted({s for of in config.mask_seeds(name).values() for s in config.gate_seeds(of)})


def gate_weights(prepared: Prepared, name: str) -> dict[str, str]:
    """Seed → fingerprint of the weights of every classifier that a segmenter's gate asks."""
    if prepared.config.segmenter_gate(name) == "none":
        return {}
    return weights_of(prepared, _all_seeds(prepared, name))


def gate_key(prepared: Prepared, name: str) -> list[Any]:
    """All that a segmenter's gate depends on; empty without one."""
    if prepared.config.segmenter_gate(name) == "none":
        return []
    keys = [classifier_key(prepared, s) for s in _all_seeds(prepared, name)]
    return [prepared.config.segmenter_gate(name), keys, gate_weights(prepared, name)]


def find_gate(prepared: Prepared, name: str, networks: list[int]) -> Gate | None:
    """The gate on the masks of some networks of a segmenter; None without one.

    Raises
    ------
    UserError
        If it cannot be chosen on the validation labels.
    """
    gate = prepared.config.segmenter_gate(name)
    if gate == "none":
        return None
    by = tuple(prepared.config.gate_seeds(networks))
    arch = prepared.config.classifier.arch
    table = mean_predictions([seed_folder(prepared.run.folder, arch, s) for s in by])
    value = chosen_gate(gate, table, prepared.cases.labels.lesion)
    said = table.set_index("case")["lesion_probability"]
    return Gate(value, by, {str(case): p for case, p in said.items()})
