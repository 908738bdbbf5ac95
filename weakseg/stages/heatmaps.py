"""Heatmaps of every image of a run, made once a network and read by every stage that needs them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from weakseg.ahead import in_order
from weakseg.config import HeatmapConfig, fingerprint
from weakseg.data.cases import Case
from weakseg.data.images import read_image
from weakseg.errors import RunError
from weakseg.heatmaps.cam import LAYERLESS
from weakseg.heatmaps.compute import heatmaps_of
from weakseg.heatmaps.store import Heatmap, load_heatmap, save_heatmap
from weakseg.layout import (
    BEST,
    heatmap_file,
    heatmap_folder,
    heatmap_stage,
    predictions_stage,
    seed_folder,
)
from weakseg.masks.rules import Evidence, FittedRule, Rule
from weakseg.methods.trainable.base import Context
from weakseg.methods.trainable.registry import fit_trainable, load_rule
from weakseg.models.classifier import Classifier
from weakseg.models.layers import find_layers
from weakseg.progress import progress, say
from weakseg.runs import file_hash, remove_tree
from weakseg.stages.base import Stage, perform
from weakseg.stages.prepare import Prepared
from weakseg.stages.scoring import read_truth
from weakseg.stages.train_classifier import (
    classifier_key,
    is_trained,
    load_classifier,
    predicted_labels,
)
from weakseg.training.loop import make_fabric, pick_device

WRITERS = 2
"""Threads that write heatmaps while the network makes further ones."""

MAX_TRAINING_IMAGES = 300
"""Training images that a rule is trained on; of more, evenly spaced ones."""

PREDICTED = "predicted"
"""The target of heatmaps that explain each image's predicted class."""


def require_classifiers(prepared: Prepared) -> None:
    """Refuse a run without the classifiers that its experiment asks for.

    Raises
    ------
    RunError
        With the first seed that is missing.
    """
    untrained = [s for s in prepared.config.seeds if not is_trained(prepared, s)]
    if untrained:
        raise RunError(
            f"The run has no classifier of these settings for seed {untrained[0]}.",
            where=str(prepared.run.folder),
            fix="run `weakseg train-classifier CONFIG` with the same --set first, or "
            "`weakseg compare CONFIG`",
        )


def heatmap_key(
    prepared: Prepared, seed: int, target: str | None = None, name: str | None = None
) -> str:
    """Fingerprint of all that the heatmaps of a seed depend on."""
    held = prepared.config.all_heatmaps[name or prepared.config.heatmap.method]
    settings = {k: v for k, v in held.asked().items() if k != "rules"}
    settings |= {} if target is None else {"target": target}
    if settings["scales"] == [1.0]:  # runs from before there were others stay up to date
        del settings["scales"]
    if not settings.pop("ensemble"):
        best = seed_folder(prepared.run.folder, prepared.config.classifier.arch, seed) / BEST
        return fingerprint("heatmaps", 3, classifier_key(prepared, seed), file_hash(best), settings)
    folders = classifier_folders(prepared, name or prepared.config.heatmap.method, seed)
    made_by = [(classifier_key(prepared, s), file_hash(f / BEST)) for s, f in folders.items()]
    return fingerprint("heatmaps of all", 3, made_by, settings)


def classifier_folders(prepared: Prepared, heatmap: str, seed: int) -> dict[int, Path]:
    """Seed → folder of the classifiers that make a heatmap: the seed's own, or all."""
    config = prepared.config
    seeds = config.seeds if config.all_heatmaps[heatmap].ensemble else [seed]
    return {s: seed_folder(prepared.run.folder, config.classifier.arch, s) for s in seeds}


def make_heatmaps(
    prepared: Prepared,
    seed: int,
    *,
    name: str | None = None,
    target: str | None = None,
    force: bool = False,
) -> Path:
    """The heatmaps of every image by the classifier of a seed.

    Parameters
    ----------
    prepared : Prepared
        With the seed's classifier in its run folder.
    seed : int
    name : str, optional
        Which of the experiment's heatmaps; default: the one under ``heatmap``.
    target : str, optional
        ``lesion``, a label, or ``predicted``: each image's most probable class by this very
        network. Default: as the experiment's ``heatmap.target`` says. The true class is never
        looked at.
    force : bool
        Make again what is up to date.

    Returns
    -------
    Path
        Their folder.
    """
    stage = heatmaps_of_seed(prepared, seed, name=name, target=target)
    perform(prepared.run, stage, force=force)
    return stage.outputs[0]


def heatmaps_of_seed(
    prepared: Prepared, seed: int, *, name: str | None = None, target: str | None = None
) -> Stage:
    """The heatmaps of a seed; see `make_heatmaps`."""
    config, arch = prepared.config, prepared.config.classifier.arch
    name = name or config.heatmap.method
    settings = config.all_heatmaps[name]
    target = target or settings.target
    other = None if target == settings.target else target
    folder = heatmap_folder(prepared.run.folder, arch, seed, name, other)
    what = f"heatmaps {folder.name}, seed {seed}"
    wanted = set(_wanted(prepared, name))

    def ready() -> list[Classifier]:
        models = [load_classifier(f) for f in classifier_folders(prepared, name, seed).values()]
        if settings.method not in LAYERLESS:
            find_layers(models[0], settings.layer, config.data.image_size)
        return models

    def run(models: list[Classifier]) -> dict[str, Any]:
        work = _explained(prepared, settings, target, seed_folder(prepared.run.folder, arch, seed))
        work = [(explained, [i for i in chosen if i in wanted]) for explained, chosen in work]
        flat, layer = _write_heatmaps(prepared, models, work, folder, name, what)
        if flat:
            say(f"{what}: {flat} of {len(wanted)} are flat (nothing speaks for a lesion)")
        return {"images": len(wanted), "flat": flat, "layer": layer}

    return Stage(
        heatmap_stage(arch, seed, name, other),
        heatmap_key(prepared, seed, target, name),
        (folder,),
        run,
        what=what,
        inputs=(predictions_stage(arch, seed),) if target == PREDICTED else (),
        ready=ready,
        # A heatmap that was a further one had fewer images, see `_wanted`.
        covers=lambda entry: entry.get("images", 0) >= len(wanted),
    )


def _write_heatmaps(
    prepared: Prepared,
    models: Sequence[Classifier],
    work: Sequence[tuple[HeatmapConfig, Sequence[int]]],
    folder: Path,
    name: str,
    what: str,
) -> tuple[int, str]:
    """Make the heatmaps of a seed; how many are flat, and of which layer they are."""
    config, cases = prepared.config, prepared.cases.cases
    fabric = make_fabric(config.device, config.heatmap_precision(name))
    models = [m.to(fabric.device).to(memory_format=torch.channels_last) for m in models]
    images, labels = prepared.images.once(), prepared.cases.labels
    part = folder.with_name(f".part-{folder.name}")
    remove_tree(part)
    flat, layer = 0, ""

    def save(made: tuple[int, Heatmap]) -> Heatmap:
        i, heat = made
        save_heatmap(heatmap_file(part, cases[i].id), heat)
        return heat

    with progress(what, sum(len(chosen) for _, chosen in work)) as advance, fabric.autocast():
        for explained, chosen in work:
            made = heatmaps_of(models, labels, images, chosen, explained)
            ahead = 2 * explained.batch_size
            for heat in in_order(save, made, workers=WRITERS, ahead=ahead):
                flat += heat.flat
                layer = heat.layer
                advance()
    remove_tree(folder)
    part.replace(folder)
    return flat, layer


def _wanted(prepared: Prepared, name: str) -> list[int]:
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


def _explained(
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


@dataclass(frozen=True)
class HeatReader:
    """The heatmaps of a seed and the true masks of their cases."""

    prepared: Prepared
    folder: Path

    def load(self, case: Case) -> Heatmap:
        """The heatmap of a case."""
        return load_heatmap(heatmap_file(self.folder, case.id))

    def truth(self, case: Case, shape: tuple[int, int]) -> Any:
        """The true mask, see `weakseg.stages.scoring.read_truth`."""
        healthy = not self.prepared.cases.labels.is_lesion(case.label)
        return read_truth(case, shape, healthy, self.prepared.config.data)

    def heats(self, split: str) -> Iterator[np.ndarray]:
        """Raw heat of images with a lesion label; no mask is opened."""
        for case in self.prepared.cases.of(split):
            if self.prepared.cases.labels.is_lesion(case.label):
                yield self.load(case).full()

    def pairs(self, split: str) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Raw heat and true mask of images with a lesion and a mask."""
        for case in self.prepared.cases.of(split):
            if self.prepared.cases.labels.is_lesion(case.label) and case.mask is not None:
                heat = self.load(case)
                yield heat.full(), self.truth(case, heat.shape)

    def triples(self, split: str, what: str) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        """As `pairs`, with the image between the two; ``what`` is for the progress bar."""
        labels = self.prepared.cases.labels
        cases = [c for c in self.prepared.cases.of(split) if labels.is_lesion(c.label) and c.mask]
        with progress(what, len(cases)) as advance:
            for case in cases:
                heat = self.load(case)
                yield heat.full(), read_image(case.image), self.truth(case, heat.shape)
                advance()

    def training_pairs(self) -> Iterator[tuple[Case, np.ndarray]]:
        """Training images with a lesion label, evenly spaced, and their raw heat; no masks."""
        is_lesion = self.prepared.cases.labels.is_lesion
        cases = [c for c in self.prepared.cases.of("train") if is_lesion(c.label)]
        count = min(len(cases), MAX_TRAINING_IMAGES)
        few = np.linspace(0, len(cases) - 1, count).round().astype(int)
        for k in few:
            yield cases[k], self.load(cases[k]).full()

    @property
    def classifier(self) -> Path:
        """The folder of the classifier that made them; of several the first."""
        arch = self.prepared.config.classifier.arch
        seed = int(self.folder.parent.name.removeprefix("seed-"))
        return seed_folder(self.prepared.run.folder, arch, seed)

    def _context(self, seed: int = 0) -> Context:
        config, folder = self.prepared.config, self.classifier
        return Context(
            config,
            lambda: load_classifier(folder).to(pick_device(config.device)),
            self.prepared.channels,
            self.training_pairs,
            seed,
        )

    def fitted(self, entry: dict[str, Any], method: Path) -> FittedRule:
        """The rule of an entry of ``threshold.json`` in the folder of a method's masks."""
        return load_rule(entry, method, self._context())

    def fit(self, rule: Rule, seed: int) -> FittedRule:
        """A threshold rule, fitted to these heatmaps; a search shows its progress.

        Raises
        ------
        LookupError
            If the rule needs masks or heatmaps and there are none.
        """
        return rule.fit(
            Evidence(
                train=lambda: self.heats("train"),
                val=lambda: self.pairs("val"),
                test=lambda: self.pairs("test"),
                val_images=lambda: self.triples("val", f"search for the best {rule.rule}"),
                seed=seed,
                trainer=lambda r: fit_trainable(r, self._context(seed)),
            )
        )
