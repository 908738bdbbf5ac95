"""Screening of segmenters by the classifiers: images that they call healthy get an empty mask."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from weakseg.errors import RunError, UserError
from weakseg.layout import BEST, seed_folder
from weakseg.runs import file_hash
from weakseg.stages.gate import chosen_gate, mean_predictions
from weakseg.stages.prepare import Prepared
from weakseg.stages.train_classifier import classifier_key, is_trained


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
    if prepared.cases.dims == 3:
        raise UserError(
            "A gate needs a classifier, and volumes have none.",
            where=where,
            fix="take it out; min_peak and min_area screen volumes as well",
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
    arch = prepared.config.classifier.arch
    folders = {s: seed_folder(prepared.run.folder, arch, s) for s in _all_seeds(prepared, name)}
    return {str(s): file_hash(f / BEST) for s, f in folders.items()}


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
    asked = prepared.config.segmenter_gate(name)
    if asked == "none":
        return None
    by = tuple(prepared.config.gate_seeds(networks))
    arch = prepared.config.classifier.arch
    table = mean_predictions([seed_folder(prepared.run.folder, arch, s) for s in by])
    value = chosen_gate(asked, table, prepared.cases.labels.lesion)
    said = zip(table["case"], table["lesion_probability"], strict=True)
    return Gate(value, by, {str(case): float(p) for case, p in said})
