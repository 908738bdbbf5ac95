"""The rules of heatmaps, fitted once: before masks are made, by one command or by shards of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from weakseg.contents import Thresholds
from weakseg.data.case_files import case_values
from weakseg.data.cases import Case, Labels
from weakseg.engines.base import TORCH
from weakseg.layout import (
    heatmap_folder,
    heatmap_stage,
    method_folder,
    threshold_file,
    trained_file,
    unfitted_file,
)
from weakseg.masks.rules import FittedRule
from weakseg.masks.set_thresholds import GRID
from weakseg.masks.thresholds import dice_curve, normalise
from weakseg.methods.base import ENGINE, Entry
from weakseg.methods.gate import heatmap_gate
from weakseg.methods.heatmap import HeatmapMethod
from weakseg.methods.heats import StoredHeats
from weakseg.methods.prepared import Prepared
from weakseg.methods.rows import Predicted, Truth
from weakseg.methods.stored_heatmaps import HeatReader
from weakseg.methods.trainable.registry import save_trained
from weakseg.runs import write_json
from weakseg.stored import read_json

Lost = dict[str, dict[int, str]]
"""Method → seed → why its rule could not be fitted."""


@dataclass(frozen=True)
class OfHeat:
    """What makes masks of the heatmaps of a seed.

    Attributes
    ----------
    name : str
        Of the heatmap in the experiment.
    seed : int
    reader : HeatReader
    methods : list of HeatmapMethod
    """

    name: str
    seed: int
    reader: HeatReader
    methods: list[HeatmapMethod]

    def masks(self, case: Case, truth_of: Truth) -> Predicted:
        """The masks of an image by every rule."""
        heat = self.reader.load(case)
        full, truth = heat.full(), truth_of(heat.shape)
        needed = any(m.rule.needs_image for m in self.methods)
        image = case_values(case, self.reader.prepared.config.data) if needed else None
        # An upper bound has no threshold for an image that nobody has segmented.
        able = [m for m in self.methods if truth is not None or not m.rule.rule.needs_truth]
        return [(m, m.of_heat(heat, full, image, truth)) for m in able]


@dataclass(frozen=True)
class Fitted:
    """The rules of all heatmaps.

    Attributes
    ----------
    of_heats : list of OfHeat
        One a heatmap and seed, in the experiment's order.
    lost : dict
        See `Lost`.
    """

    of_heats: list[OfHeat]
    lost: Lost = field(default_factory=dict)


class Unfitted(BaseModel):
    """`unfitted_file`."""

    model_config = ConfigDict(strict=True)

    lost: dict[str, dict[str, str]]


def fit_rules(prepared: Prepared, folder: Path) -> Fitted:
    """Fit every rule to the heatmaps that it stands on.

    Parameters
    ----------
    prepared : Prepared
        With all heatmaps in its run folder.
    folder : Path
        Gets each method's ``threshold.json``, and what its rule was trained to.
    """
    config = prepared.config
    stages = prepared.run.record.get("stages", {})
    thresholds: dict[str, dict[str, Entry]] = {}
    lost: Lost = {}
    readers = _readers(prepared)
    # All before the first mask: a search has a bar of its own.
    fits = {
        of: reader.fit_all(config.rules_of(of[0]), config.seed) for of, reader in readers.items()
    }
    made = []
    for (name, seed), reader in readers.items():
        fitted, reasons = fits[name, seed]
        for rule, why in reasons.items():
            lost.setdefault(f"{name}-{rule}", {})[seed] = why
        gate = heatmap_gate(prepared, name, seed)
        of = _of_heat(name, seed, reader, fitted, gate)
        stage = heatmap_stage(config.classifier.arch, seed, name)
        by = stages.get(stage, {}).get(ENGINE, TORCH)
        for m in of.methods:
            entry = m.rule.to_json() | {"kind": m.kind, "split": "test", "gate": gate}
            entry |= reader.seen_by(m.rule).to_json()
            if by != TORCH:
                entry[ENGINE] = by
            if m.rule.trained is not None:
                entry |= save_trained(trained_file(folder, m.name, seed), m.rule.trained)
            thresholds.setdefault(m.name, {})[f"seed-{seed}"] = entry
        made.append(of)
    for method, entries in thresholds.items():
        write_json(threshold_file(folder, method), entries)
    return Fitted(made, lost)


def read_fitted(prepared: Prepared, folder: Path) -> Fitted:
    """What `weakseg.stages.fitted.fit_stage` has left in a folder.

    Raises
    ------
    RunError
        If a file is missing or damaged.
    """
    config, made = prepared.config, []
    for (name, seed), reader in _readers(prepared).items():
        rules, gate = list[FittedRule](), 0.0
        for rule in config.rules_of(name):
            method = f"{name}-{rule.rule}"
            path = threshold_file(folder, method)
            entries = read_json(path, model=Thresholds) if path.exists() else {}
            if (entry := entries.get(f"seed-{seed}")) is not None:
                rules.append(reader.fitted(entry, method_folder(folder, method)))
                gate = float(entry["gate"])
        made.append(_of_heat(name, seed, reader, rules, gate))
    lost = read_json(unfitted_file(folder), model=Unfitted)["lost"]
    return Fitted(made, {m: {int(s): why for s, why in of.items()} for m, of in lost.items()})


def dice_at_cuts(labels: Labels, case: Case, predicted: Predicted, truth: Any) -> Any:
    """The Dice of a lesion at every threshold of `GRID`, for looking and not for choosing.

    None of an image without a lesion, or of whose lesion nobody has drawn a mask.
    """
    if truth is None or case.mask is None or not labels.is_lesion(case.label):
        return None
    return dice_curve(normalise(predicted[0][1].map), truth, GRID)


def _readers(prepared: Prepared) -> dict[tuple[str, int], HeatReader]:
    config, run = prepared.config, prepared.run.folder
    return {
        (name, seed): HeatReader(prepared, heatmap_folder(run, config.classifier.arch, seed, name))
        for name in config.all_heatmaps
        for seed in config.heatmap_seeds(name)
    }


def _of_heat(
    name: str, seed: int, reader: HeatReader, rules: Sequence[FittedRule], gate: float
) -> OfHeat:
    config, heats = reader.prepared.config, StoredHeats(reader)
    methods = [HeatmapMethod(f"{name}-{r.name}", (seed,), config, r, gate, heats) for r in rules]
    return OfHeat(name, seed, reader, methods)
