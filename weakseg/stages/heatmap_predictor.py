"""A run's heatmap method, ready for new images."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from weakseg.config import Config
from weakseg.data.cases import Labels
from weakseg.errors import RunError, UserError
from weakseg.heatmaps.compute import heatmaps_of_arrays
from weakseg.heatmaps.store import Heatmap
from weakseg.layout import BEST, masks_folder, method_folder, seed_folder
from weakseg.masks.rules import FittedRule, rule_from_json, segment
from weakseg.methods.trainable.base import Context
from weakseg.methods.trainable.registry import load_rule
from weakseg.models.classifier import Classifier
from weakseg.runs import Run, file_hash
from weakseg.stages.networks import classifier_labels, other_network, refuse_one_seed
from weakseg.stages.train_classifier import load_classifier, read_classifier_scores
from weakseg.training.loop import make_fabric, pick_device

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

    @property
    def at_once(self) -> int:
        """How many images the network takes together."""
        return self.config.all_heatmaps[self.config.heatmap_methods[self.method][0]].batch_size

    def predict(self, image: np.ndarray) -> tuple[np.ndarray, Heatmap, np.ndarray]:
        """`predict_all` of one image, which takes as long as of `at_once` images."""
        (found,) = self.predict_all([image])
        return found

    def predict_all(
        self, images: Sequence[np.ndarray]
    ) -> Iterator[tuple[np.ndarray, Heatmap, np.ndarray]]:
        """Mask, heatmap and class probabilities of each image.

        Heatmaps are rounded, and made in batches, as in the stage that scores masks, so that an
        image gets the same mask from both.

        Parameters
        ----------
        images : sequence of (M, N) or (M, N, 3) ndarray
            At most `at_once`, as `weakseg.data.images.read_image` gives them.

        Yields
        ------
        mask : (M, N) ndarray of bool
        heatmap : Heatmap
        probabilities : (K,) ndarray
            In the order of ``labels.names``.

        Raises
        ------
        DataError
            If the image holds NaN or infinity.
        RunError
            If what the network says is NaN or infinite.
        """
        data = self.config.data
        name, _ = self.config.heatmap_methods[self.method]
        fabric = make_fabric(str(self.models[0].mean.device), self.config.heatmap_precision(name))
        with fabric.autocast():
            found = heatmaps_of_arrays(
                self.models,
                images,
                self.labels,
                image_size=data.image_size,
                intensity=data.intensity,
                config=self.config.all_heatmaps[name],
            )
        for image, (heat, p) in zip(images, found, strict=True):
            if heat.probability < self.gate:
                yield np.zeros(heat.shape, dtype=bool), heat, p
            else:
                yield segment(self.rule, heat.full(), image), heat, p


def load_heatmap_predictor(
    folder: Path,
    config: Config,
    name: str,
    entries: Entries,
    seed: int | None,
    device: str,
) -> Predictor:
    """A heatmap method of a run; see `weakseg.stages.predictors.load_predictor`.

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
    models = tuple(load_classifier(f).to(on).to(memory_format=torch.channels_last) for f in folders)

    def for_rules() -> Classifier:
        return load_classifier(folders[0]).to(on)

    for s in seeds:
        check_same_network(folder, config, s)
    return Predictor(
        models,
        config,
        classifier_labels(folders[0], models[0]),
        name,
        load_rule(entry, method_folder(masks_folder(folder), name), Context(config, for_rules)),
        float(entry["gate"]),
        tuple(seeds),
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
    made_by = Run(folder).record.get("stages", {}).get("segment", {}).get("weights", {})
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
