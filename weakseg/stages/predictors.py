"""A run's networks and thresholds, ready for new images."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from weakseg.config import Config, SegmenterConfig, load_config
from weakseg.data.arrays import ImageBatches
from weakseg.data.cases import Case, Labels
from weakseg.errors import DataError, RunError, UserError, did_you_mean
from weakseg.heatmaps.compute import heatmap
from weakseg.heatmaps.store import Heatmap
from weakseg.masks.rules import FittedRule, rule_from_json, segment
from weakseg.models.classifier import Classifier
from weakseg.runs import Run, file_hash, open_run, read_json
from weakseg.stages.gate import mean_probability
from weakseg.stages.learnt_rules import load_rule
from weakseg.stages.scoring import THRESHOLD
from weakseg.stages.segmenter_masks import GATE_BY, NETWORKS, network_mask
from weakseg.stages.segmenter_networks import Networks, load_networks
from weakseg.stages.segmenters import WEAK, segmenter_folder
from weakseg.stages.train_classifier import (
    load_classifier,
    read_classifier_scores,
    seed_folder,
)
from weakseg.training.classify import predict_probabilities
from weakseg.training.loop import make_fabric, pick_device
from weakseg.training.segment import SegmentationCases
from weakseg.training.weights import BEST, load_weights

Entries = Mapping[str, Mapping[str, Any]]
"""Method → ``seed-<n>`` → its entry in ``threshold.json``."""


@dataclass(frozen=True)
class Predictor:
    """A run, ready for new images.

    Attributes
    ----------
    models : tuple of Classifier
        One, or all that the heatmap is averaged over.
    config : Config
        The run's experiment.
    labels : Labels
    method : str
        The name of the method, as in the run's report.
    rule : FittedRule
    gate : float
        Below this probability of a lesion the mask is empty.
    seeds : tuple of int
        Of the networks.
    """

    models: tuple[Classifier, ...]
    config: Config
    labels: Labels
    method: str
    rule: FittedRule
    gate: float
    seeds: tuple[int, ...]

    @property
    def chosen(self) -> str:
        """What the threshold was chosen on, and how many masks were seen."""
        return f"threshold chosen on {self.rule.chosen_on}; {self.rule.masks_seen} masks seen"

    def predict(self, image: np.ndarray) -> tuple[np.ndarray, Heatmap, np.ndarray]:
        """Mask, heatmap and class probabilities of one image.

        Parameters
        ----------
        image : (M, N) or (M, N, 3) ndarray
            As `weakseg.data.images.read_image` gives it.

        Returns
        -------
        mask : (M, N) ndarray of bool
        heatmap : Heatmap
        probabilities : (K,) ndarray
            In the order of ``labels.names``.
        """
        data = self.config.data
        name, _ = self.config.heatmap_methods[self.method]
        fabric = make_fabric(str(self.models[0].mean.device), self.config.heatmap_precision(name))
        with fabric.autocast():
            heat, p = heatmap(
                self.models,
                image,
                self.labels,
                image_size=data.image_size,
                intensity=data.intensity,
                config=self.config.all_heatmaps[name],
            )
        if heat.probability < self.gate:
            return np.zeros(heat.shape, dtype=bool), heat, p
        return segment(self.rule, heat.full(), image), heat, p


@dataclass(frozen=True)
class SegmenterPredictor:
    """A run's segmenter, ready for new images or volumes.

    Attributes
    ----------
    networks : Networks
        One, or all whose probabilities are averaged.
    config : Config
        The run's experiment.
    settings : SegmenterConfig
        Resolved.
    threshold : dict
        Its entry in ``threshold.json``.
    method : str
        Its name in the run's report.
    seeds : tuple of int
        Of the networks.
    classifiers : tuple of Classifier
        Those whose mean probability of a lesion empties a mask; none without a gate.
    labels : Labels
        Of the classifiers.
    """

    networks: Networks
    config: Config
    settings: SegmenterConfig
    threshold: dict[str, Any]
    method: str
    seeds: tuple[int, ...]
    classifiers: tuple[Classifier, ...] = ()
    labels: Labels | None = None

    @property
    def held(self) -> dict[str, Any]:
        """The ``settings.json`` of the first network."""
        return self.networks.settings

    @property
    def dims(self) -> int:
        """2 for images, 3 for volumes."""
        return int(self.held["dims"])

    @property
    def chosen(self) -> str:
        """What the threshold was chosen on, and how many masks were seen."""
        t = self.threshold
        return f"threshold chosen on {t['chosen_on']}; {t['masks_seen']} masks seen"

    def predict(self, case: Case) -> tuple[np.ndarray, np.ndarray, float | None]:
        """Mask and probability of a lesion of one case, on the case's own grid.

        Parameters
        ----------
        case : Case
            Of which only the image, further modalities and the region of interest are read.

        Returns
        -------
        mask : (*size) ndarray of bool
        probability : (*size) ndarray of float32
        lesion : float or None
            What the gate's classifiers say of the whole case; None without a gate.

        Raises
        ------
        DataError
            If a file cannot be read, or the case has another number of modalities than the
            network was trained on.
        """
        channels = int(self.held["channels"])
        if case.dims != self.dims or (self.dims == 3 and 1 + len(case.more) != channels):
            kind = "volumes" if self.dims == 3 else "images"
            raise DataError(
                f"The network takes {kind} of {channels} channels.",
                where=str(case.image),
                found=f"{'a volume' if case.dims == 3 else 'an image'} of {1 + len(case.more)}",
                fix="name the modalities in a manifest with the columns image, image2, …",
            )
        if self.held.get("roi") and case.roi is None:
            raise DataError(
                "The network was trained on volumes with a region of interest.",
                where=str(case.image),
                fix="name the region in a manifest with the column roi",
            )
        held = SegmentationCases(
            [case],
            Labels((), (case.label,)),
            self.config.data,
            channels,
            self.settings.normalise,
            int(self.held["image_size"]),
        )
        ((_, p),) = self.networks.probabilities(held, [0], self.settings)
        says = self._lesion_probability(case)
        if says is not None and says < float(self.threshold["gate"]):
            return np.zeros(p.shape, dtype=bool), p, says
        return network_mask(p, self.threshold), p, says

    def _lesion_probability(self, case: Case) -> float | None:
        """What the gate's classifiers say of an image, in [0, 1]; None without a gate."""
        if not self.classifiers or self.labels is None:
            return None
        channels = self.classifiers[0].spec.channels
        image = ImageBatches([case], self.config.data, channels)
        lesion = list(self.labels.lesion_indices)
        said = [
            predict_probabilities(m, image, np.arange(1), 1, m.mean.device)[:, lesion].sum(1)
            for m in self.classifiers
        ]
        return float(mean_probability(said)[0])


def load_predictor(
    run: Path, method: str | None = None, *, seed: int | None = None, device: str = "auto"
) -> Predictor | SegmenterPredictor:
    """A run's network and threshold.

    Parameters
    ----------
    run : Path
        A run folder.
    method : str, optional
        One of the run's methods, by its name in the report; one of the heatmap under ``heatmap``
        also by its rule alone. Default: the experiment's ``report.method``; else the first method
        that saw no mask, heatmaps' before segmenters; without heatmaps, a segmenter that learnt
        from another method's masks before one that learnt from the manifest's.
    seed : int, optional
        Default: the network with the best validation AUC; of segmenters the first. Methods that
        average the networks of several seeds take all of them, and no seed.
    device : str, optional

    Raises
    ------
    RunError
        If the folder is not a run, or lacks what is needed.
    UserError
        For a method or seed that it does not have, or an upper bound, which needs true masks.
    """
    folder = open_run(run).folder
    made_by = folder / "masks" / "config.yaml"
    config = load_config(made_by if made_by.exists() else folder / "config.yaml")
    networks = load_config(folder / "config.yaml")
    entries = {
        p.parent.name: read_json(p) for p in sorted((folder / "masks").glob(f"*/{THRESHOLD}"))
    }
    if not entries:
        raise RunError(
            "The run has no masks yet, so it has no threshold either.",
            where=str(folder),
            fix="run `weakseg heatmap-segment CONFIG` or `weakseg compare CONFIG` first",
        )
    segmenters = [n for n in networks.segmenters if _of_network(entries.get(n, {}))]
    of_heat = [m for m in config.heatmap_methods if m in entries and not _of_network(entries[m])]
    usable = {m: entries[m] for m in [*of_heat, *segmenters]}
    wanted = networks.report.method
    if method is not None:
        name = _find_method(config.heatmap.method, usable, method)
    else:
        name = wanted if wanted in usable else _first_method(usable)
    if name in segmenters:
        return _load_segmenter(folder, networks, name, entries[name], seed, device)
    if _of_all(config, name):
        _refuse_seed(name, config.seeds, seed)
        seed = config.seeds[0]
    else:
        seed = _pick_seed(config, folder, seed)
    entry = entries[name].get(f"seed-{seed}")
    if entry is None:
        raise RunError(
            f"The run has no masks of seed {seed} by {name}.",
            where=str(folder),
            fix="run `weakseg heatmap-segment CONFIG` with that seed",
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
    models = tuple(load_classifier(f).to(pick_device(device)) for f in folders)
    for s in seeds:
        check_same_network(folder, config, s)
    return Predictor(
        models,
        config,
        _labels_of(folders[0], models[0]),
        name,
        load_rule(entry, folder / "masks" / name, config, lambda: models[0]),
        float(entry["gate"]),
        tuple(seeds),
    )


def _labels_of(folder: Path, model: Classifier) -> Labels:
    """A classifier's labels, the healthy ones first."""
    _, meta = load_weights(folder / BEST)
    healthy = tuple(json.loads(meta["healthy"]))
    return Labels(healthy, tuple(n for n in model.spec.labels if n not in healthy))


def _of_all(config: Config, method: str) -> bool:
    """Whether a heatmap method averages the classifiers of all seeds."""
    return config.all_heatmaps[config.heatmap_methods[method][0]].ensemble


def _of_network(entry: Mapping[str, Any]) -> bool:
    return any("kind" in e for e in entry.values())


def _free_methods(entries: Entries) -> str:
    """The way out for someone who has chosen an upper bound."""
    usable = [m for m, e in entries.items() if not any(v.get("upper_bound") for v in e.values())]
    if usable:
        return f"choose one of: {', '.join(usable)}"
    return "add a rule that needs no true mask of the image to masks.rules, for example otsu"


def _load_segmenter(
    folder: Path, config: Config, name: str, entry: dict[str, Any], seed: int | None, device: str
) -> SegmenterPredictor:
    seeds = [int(s.removeprefix("seed-")) for s in entry]
    _refuse_seed(name, entry[f"seed-{seeds[0]}"].get(NETWORKS, []), seed)
    if seed is not None and seed not in seeds:
        raise UserError(
            f"The run has no network of seed {seed} of {name}.",
            where="--seed",
            fix=f"choose one of: {', '.join(map(str, seeds))}",
        )
    seed = seeds[0] if seed is None else seed
    threshold = entry[f"seed-{seed}"]
    together = threshold.get(NETWORKS, [seed])
    networks = load_networks(folder, name, together, pick_device(device))
    record = Run(folder).record.get("stages", {}).get(f"masks/{name}", {})
    made_by = record.get("weights", {})
    for one in together:
        best = segmenter_folder(folder, name, one) / BEST
        if made_by and made_by.get(str(one)) != file_hash(best):
            raise _other_network(best)
    held = networks.settings
    # As it was trained and as its threshold was chosen, whatever the experiment says by now.
    settings = SegmenterConfig.model_validate(held["settings"] | threshold.get("inference", {}))
    data = config.data.model_copy(update={"intensity": held["intensity"]})
    config = config.model_copy(update={"data": data})
    predictor = SegmenterPredictor(networks, config, settings, threshold, name, tuple(together))
    by = threshold.get(GATE_BY, [])
    if not by:
        return predictor
    folders = [seed_folder(folder, config.classifier.arch, s) for s in by]
    classifiers = tuple(load_classifier(f).to(pick_device(device)) for f in folders)
    for one, part in zip(by, folders, strict=True):
        if record.get("classifiers", {}).get(str(one)) != file_hash(part / BEST):
            raise _other_network(part / BEST)
    labels = _labels_of(folders[0], classifiers[0])
    return replace(predictor, classifiers=classifiers, labels=labels)


def _refuse_seed(name: str, seeds: Sequence[int], seed: int | None) -> None:
    """Refuse one seed of a method that averages the networks of several."""
    if seed is not None and len(seeds) > 1:
        raise UserError(
            f"{name} averages the networks of the seeds {', '.join(map(str, seeds))}: it has no "
            "masks of one of them.",
            where=f"--seed {seed}",
            fix="leave --seed out, or name another method with --method",
        )


def _other_network(best: Path) -> RunError:
    return RunError(
        "The run's masks and thresholds were made by another network than it holds now.",
        where=str(best),
        fix="run `weakseg heatmap-segment CONFIG` or `weakseg compare CONFIG` again",
    )


def check_same_network(folder: Path, config: Config, seed: int) -> None:
    """Refuse a run whose network was trained anew after its masks were made.

    Raises
    ------
    RunError
        With the command that brings them together again.
    """
    made_by = Run(folder).record.get("stages", {}).get("segment", {}).get("weights", {})
    best = seed_folder(folder, config.classifier.arch, seed) / BEST
    if made_by and made_by.get(str(seed)) != file_hash(best):
        raise _other_network(best)


def _first_method(entries: Entries) -> str:
    """The first method that saw no mask.

    Where there are segmenters alone, one that other methods taught comes before one that true
    masks taught.
    """
    usable = [m for m, e in entries.items() if not any(v.get("upper_bound") for v in e.values())]
    untold = [m for m in usable if not any(v["masks_seen"] for v in entries[m].values())]
    if untold:
        return untold[0]
    if entries and all(_of_network(e) for e in entries.values()):
        return min(entries, key=lambda m: all(e["kind"] != WEAK for e in entries[m].values()))
    raise UserError(
        "No method of the run gets by without true masks.",
        fix=f"name one with --method: {', '.join(usable)}"
        if usable
        else "add a rule that needs no true mask to masks.rules, for example otsu",
    )


def _find_method(heatmap: str, methods: Collection[str], method: str) -> str:
    """The method of a name, or of a rule of the experiment's `heatmap`."""
    named = {m.removeprefix(f"{heatmap}-"): m for m in methods}
    if method not in methods and method not in named:
        raise UserError(
            f"The run has no method {method!r}.",
            where="--method",
            fix=did_you_mean(method, methods),
        )
    return method if method in methods else named[method]


def _pick_seed(config: Config, folder: Path, seed: int | None) -> int:
    if seed is not None:
        if seed not in config.seeds:
            raise UserError(
                f"The run has no network of seed {seed}.",
                where="--seed",
                fix=f"choose one of: {', '.join(map(str, config.seeds))}",
            )
        return seed
    if len(config.seeds) == 1:
        return config.seeds[0]

    def auc(s: int) -> float:
        scores = read_classifier_scores(seed_folder(folder, config.classifier.arch, s))
        return scores["val"]["auc_lesion"]["value"] or 0.0

    return max(config.seeds, key=auc)
