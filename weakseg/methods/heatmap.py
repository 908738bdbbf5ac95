"""A heatmap and a rule: the method that weakseg is named for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from weakseg.config import Config, load_config
from weakseg.current import is_current
from weakseg.data.case_files import case_values
from weakseg.data.cases import Case
from weakseg.data.formats.registry import formats_of_dims
from weakseg.engines.base import TORCH
from weakseg.engines.kept import KeptGraphs
from weakseg.errors import RunError, UserError
from weakseg.heatmaps.store import Heatmap
from weakseg.layout import (
    BEST,
    HEATMAP_PART,
    SEGMENT_STAGE,
    classifier_stage,
    config_file,
    graphs_folder,
    heatmap_folder,
    heatmap_stage,
    masks_config,
    masks_folder,
    method_folder,
    seed_folder,
    threshold_file,
)
from weakseg.masks.rules import FittedRule, configured_rule, rule_from_json, segment
from weakseg.masks.thresholds import normalise
from weakseg.methods.base import (
    ENGINE,
    FOUNDATION,
    HEATMAP,
    ORACLE,
    Entries,
    Entry,
    Kind,
    Method,
    Prediction,
    SourceKey,
    refuse_other_dims,
)
from weakseg.methods.classifiers import load_classifier, read_classifier_scores
from weakseg.methods.fingerprints import heatmap_fingerprint
from weakseg.methods.heats import Heats, LiveHeats, StoredHeats
from weakseg.methods.networks import classifier_labels, other_network, refuse_one_seed
from weakseg.methods.prepared import Prepared
from weakseg.methods.spoken import heatmap_method_name
from weakseg.methods.stored_heatmaps import HeatReader, heatmap_key, settled_heatmap
from weakseg.methods.trainable.base import Context
from weakseg.methods.trainable.registry import load_rule
from weakseg.models.classifier import Classifier
from weakseg.models.modes import channels_last
from weakseg.runs import Run, file_hash
from weakseg.training.loop import pick_device

SEGMENT_FIRST = "run `weakseg heatmap-segment CONFIG` or `weakseg compare CONFIG` first"


@dataclass(frozen=True)
class HeatmapMethod(Method):
    """A heatmap, a rule and a gate.

    Attributes
    ----------
    name, seeds, config
        See `weakseg.methods.base.Method`.
    rule : FittedRule
    gate : float
        Below this probability of a lesion the mask is empty.
    heats : callable
        Cases → their heatmaps.
    """

    name: str
    seeds: tuple[int, ...]
    config: Config
    rule: FittedRule
    gate: float
    heats: Heats

    @property
    def kind(self) -> str:
        other = FOUNDATION if self.rule.rule.elsewhere else HEATMAP
        return ORACLE if self.rule.oracle else other

    @property
    def masks_seen(self) -> int:
        return self.rule.masks_seen

    @property
    def chosen_on(self) -> str:
        return self.rule.chosen_on

    @property
    def dims(self) -> int:
        return self.config.classifier.dims

    @property
    def at_once(self) -> int:
        heat = self.config.all_heatmaps[self.config.heatmap_methods[self.name][0]]
        return formats_of_dims(self.dims).at_once(heat.batch_size)

    def predict_all(self, cases: Sequence[Case]) -> Iterator[Prediction]:
        refuse_other_dims(cases, self.dims)
        for case, (heat, notes) in zip(cases, self.heats(cases), strict=True):
            image = case_values(case, self.config.data) if self.rule.needs_image else None
            made = self.of_heat(heat, heat.full(), image, notes=notes)
            del image  # of a large volume
            yield made

    def of_heat(
        self,
        heat: Heatmap,
        full: np.ndarray,
        image: np.ndarray | None = None,
        truth: np.ndarray | None = None,
        notes: Mapping[str, Any] | None = None,
    ) -> Prediction:
        """What it makes of a heatmap.

        Parameters
        ----------
        heat : Heatmap
        full : (M, N) ndarray
            ``heat.full()``.
        image : (M, N[, 3]) ndarray, optional
            For rules that need it.
        truth : (M, N) ndarray of bool, optional
            For upper bounds that need it.
        notes : mapping, optional
        """
        gated = heat.probability < self.gate
        mask = np.zeros(full.shape, bool) if gated else segment(self.rule, full, image, truth)
        return Prediction(
            mask,
            full,
            round(heat.probability, 6),
            heat.flat,
            gated,
            heat,
            {**(notes or {}), "flat_heatmap": heat.flat},
        )

    def confidence(self, prediction: Prediction) -> np.ndarray:
        return normalise(prediction.map)


def load_heatmap_method(
    folder: Path,
    config: Config,
    name: str,
    entries: Entries,
    seed: int | None,
    device: str,
) -> HeatmapMethod:
    """A heatmap method of a run; see `weakseg.methods.find.load_method`.

    Parameters
    ----------
    folder : Path
        Of the run.
    config : Config
        Its experiment, as it was when its masks were made.
    name : str
        Of the method.
    entries : mapping
        Of all methods of the run.
    seed : int or None
    device : str
    """
    made = [s for s in config.seeds if f"seed-{s}" in entries[name]]
    if _of_all(config, name):
        refuse_one_seed(name, config.seeds, seed)
        seed = config.seeds[0]
    else:
        seed = _pick_seed(config, folder, seed, made)
    entry = entries[name].get(f"seed-{seed}")
    if entry is None:
        raise RunError(
            f"The run has no masks of seed {seed} by {name}.",
            where=str(folder),
            fix=f"it has masks of the seeds {', '.join(map(str, made))}"
            if made
            else "run `weakseg heatmap-segment CONFIG` first",
        )
    rule = rule_from_json(entry)
    if rule.oracle:
        raise UserError(
            f"{name} is an upper bound: it chooses its threshold on the true masks of the images, "
            "which new images do not have.",
            where="--method",
            fix=_free_methods(entries),
        )
    seeds = config.seeds if _of_all(config, name) else [seed]
    folders = [seed_folder(folder, config.classifier.arch, s) for s in seeds]
    on = pick_device(device)
    # Laid out as in the stage: other kernels add in another order.
    models = tuple(channels_last(load_classifier(f).to(on)) for f in folders)

    def for_rules() -> Classifier:
        return load_classifier(folders[0]).to(on)

    for s in seeds:
        check_same_network(folder, config, s)
    labels = classifier_labels(folders[0], models[0])
    sliced = bool(Run(folder).record.get("data", {}).get("sliced", False))
    context = Context(config, for_rules, sliced=sliced)
    heatmap = config.heatmap_methods[name][0]
    made_in = heatmap_folder(folder, config.classifier.arch, seeds[0], heatmap)
    settings = settled_heatmap(config.all_heatmaps[heatmap], made_in)
    kept_in = graphs_folder(folder, config.classifier.arch, seeds[0], heatmap)
    graphs = KeptGraphs(kept_in, writes=False)
    return HeatmapMethod(
        name,
        tuple(seeds),
        config,
        load_rule(entry, method_folder(masks_folder(folder), name), context),
        float(entry["gate"]),
        LiveHeats(models, config, labels, heatmap, settings, str(entry.get(ENGINE, TORCH)), graphs),
    )


def _of_all(config: Config, method: str) -> bool:
    """Whether a heatmap method averages the classifiers of all seeds."""
    return config.all_heatmaps[config.heatmap_methods[method][0]].ensemble


def _free_methods(entries: Entries) -> str:
    """The way out for someone who has chosen an upper bound."""
    usable = [m for m, e in entries.items() if not any(v.get("upper_bound") for v in e.values())]
    if usable:
        return f"choose one of: {', '.join(usable)}"
    return "add a rule that needs no true mask of the image to masks.rules, for example otsu"


def check_same_network(folder: Path, config: Config, seed: int) -> None:
    """Refuse a run whose network was trained anew after its masks were made.

    Raises
    ------
    RunError
        With the command that brings them together again.
    """
    made_by = Run(folder).record.get("stages", {}).get(SEGMENT_STAGE, {}).get("weights", {})
    best = seed_folder(folder, config.classifier.arch, seed) / BEST
    if made_by and made_by.get(str(seed)) != file_hash(best):
        raise other_network(best)


def _pick_seed(config: Config, folder: Path, seed: int | None, made: Sequence[int]) -> int:
    """The seed that is asked for, or that of the best classifier among those with masks."""
    if seed is not None:
        if seed not in config.seeds:
            raise UserError(
                f"The run has no network of seed {seed}.",
                where="--seed",
                fix=f"choose one of: {', '.join(map(str, config.seeds))}",
            )
        return seed
    if len(made) <= 1:
        return next(iter(made), config.seeds[0])

    def auc(s: int) -> float:
        scores = read_classifier_scores(seed_folder(folder, config.classifier.arch, s))
        return scores["val"]["auc_lesion"]["value"] or 0.0

    return max(made, key=auc)


def _of_run(prepared: Prepared, method: str, seed: int, entry: Entry, whole: bool) -> HeatmapMethod:
    config, folder = prepared.config, prepared.run.folder
    name, _ = config.heatmap_methods[method]
    reader = HeatReader(prepared, heatmap_folder(folder, config.classifier.arch, seed, name))
    rule = reader.fitted(entry, method_folder(prepared.thresholds_in(method), method))
    gate = float(entry["gate"]) if whole else 0.0
    return HeatmapMethod(method, (seed,), config, rule, gate, StoredHeats(reader))


def _made_of(
    prepared: Prepared, method: str, seed: int, entry: Entry, source_key: SourceKey | None
) -> tuple[Any, Entry]:
    config, run = prepared.config, prepared.run
    name, rule = config.heatmap_methods[method]
    (wanted,) = (r for r in config.rules_of(name) if r.rule == rule)
    if configured_rule(entry) != wanted.model_dump(mode="json"):
        raise RunError(
            f"The masks of {method} were made with other settings of the rule {rule}.",
            where=str(threshold_file(masks_folder(run.folder), method)),
            fix=SEGMENT_FIRST,
        )
    made_of, arch = heatmap_key(prepared, seed, name=name), config.classifier.arch
    if not is_current(run, heatmap_stage(arch, seed, name), made_of):
        raise RunError(
            f"The heatmaps of {method} are not those of the run's settings.",
            where=str(heatmap_folder(run.folder, arch, seed, name)),
            fix=SEGMENT_FIRST,
        )
    masks = prepared.masks_key if wanted.taught_by_masks else ()
    # Of the gate nothing is learnt: the label says that there is a lesion.
    return (made_of, *masks) if masks else made_of, {**entry, "gate": 0.0}


def _inputs(config: Config, method: str, seed: int) -> tuple[str, ...]:
    return (heatmap_stage(config.classifier.arch, seed, config.heatmap_methods[method][0]),)


def _stands_on(config: Config, method: str, seed: int) -> set[str]:
    arch = config.classifier.arch
    by = config.seeds if _of_all(config, method) else [seed]
    return {classifier_stage(arch, s) for s in by} | set(_inputs(config, method, seed))


def _seeds(config: Config, method: str) -> list[int]:
    return config.heatmap_seeds(config.heatmap_methods[method][0])


def _config_of(run: Path) -> Config:
    made_by = masks_config(run)
    return load_config(made_by if made_by.exists() else config_file(run))


KIND = Kind(
    kinds=frozenset({HEATMAP, ORACLE, FOUNDATION}),
    config_of=_config_of,
    names=lambda config: list(config.heatmap_methods),
    seeds=_seeds,
    stage=lambda method: SEGMENT_STAGE,
    part=lambda method: HEATMAP_PART,
    settings=lambda config, method: heatmap_fingerprint(config),
    load=load_heatmap_method,
    of_run=_of_run,
    made_of=_made_of,
    stands_on=_stands_on,
    spoken=heatmap_method_name,
    inputs=_inputs,
)
