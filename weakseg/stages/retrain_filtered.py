"""``weakseg retrain-filtered``: a fresh classifier for every way to filter the images."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from weakseg.config import AUTO, Condition, FilteredConfig, fingerprint
from weakseg.data.arrays import ImageBatches
from weakseg.errors import UserError
from weakseg.filtering.images import FilteredImages, training_means, write_examples
from weakseg.filtering.selectors import Selector
from weakseg.filtering.sources import TruthMasks, make_selector, masks_used
from weakseg.layout import (
    BEST,
    EXAMPLES,
    LAST,
    METRICS,
    ORIGINAL,
    PREDICTIONS,
    RESUME,
    condition_folder,
    condition_stage,
    seed_folder,
)
from weakseg.masks.rules import FittedRule
from weakseg.methods.classifiers import load_classifier, predictions_table, prepared_spec
from weakseg.methods.filtered import check_filtered, check_target, true_masks
from weakseg.methods.fitting import fit_classifier
from weakseg.methods.prepared import Prepared
from weakseg.methods.stored_heatmaps import HeatReader, heatmap_key, require_classifiers
from weakseg.progress import say
from weakseg.runs import write_text
from weakseg.spreadsheets import csv_text
from weakseg.stages.base import Stage, perform
from weakseg.stages.effort import of_classifier
from weakseg.stages.faithfulness import score_heatmaps
from weakseg.stages.heatmaps import heatmaps_of_seed, make_heatmaps
from weakseg.stages.retraining_effects import write_evidence
from weakseg.training.beginning import new_classifier
from weakseg.training.classify import predict_probabilities
from weakseg.training.loop import pick_device

SEED_OFFSET = 10_000
"""Added to a seed, so that a retrained network is not the one that made the heatmaps over again."""


def retrain_filtered(prepared: Prepared, *, force: bool = False) -> Path:
    """Filter the images by their heatmaps, train anew, and say what the accuracy keeps or loses.

    Parameters
    ----------
    prepared : Prepared
        With trained classifiers in its run folder.
    force : bool
        Make again what is up to date.

    Returns
    -------
    Path
        The table of conditions, ``scores/filtered.csv``.

    Raises
    ------
    RunError
        If a classifier is missing.
    UserError
        For volumes, and where nothing can be filtered.
    """
    config = prepared.config
    settings = config.filtered or FilteredConfig()
    conditions, left_out = check_filtered(prepared)
    target = check_target(prepared, settings)
    require_classifiers(prepared)
    truth = true_masks(prepared)
    for name, why in left_out.items():
        say(f"{name}: left out, {why}")
    images = prepared.images
    keys = {}
    for seed in config.seeds:
        folder = make_heatmaps(prepared, seed, target=target)
        work = _Seed(prepared, settings, target, seed, folder, images, truth)
        for n, condition in enumerate(conditions, 1):
            keys[condition.name, seed] = work.train(condition, f"{n} of {len(conditions)}", force)
        score_heatmaps(
            prepared,
            settings,
            target,
            seed,
            work.made_by,
            images,
            work.sources,
            work.inputs,
            force=force,
        )
    used = {c.name: masks_used(c, work.made_by["masks_seen"], truth) for c in conditions}
    return write_evidence(
        prepared, settings, target, conditions, used, left_out, sorted(keys.values()), force=force
    )


class _Seed:
    """The networks of one seed, one a condition. Heatmaps are read when the first is trained."""

    def __init__(
        self,
        prepared: Prepared,
        settings: FilteredConfig,
        target: str,
        seed: int,
        heatmaps: Path,
        images: ImageBatches,
        truth: TruthMasks,
    ) -> None:
        self.prepared, self.settings, self.target, self.seed = prepared, settings, target, seed
        self.images, self.truth = images, truth
        self.reader = HeatReader(prepared, heatmaps)
        self._fitted: FittedRule | None = None
        self._selector: Selector | None = None
        self._means: Any = None
        self._original: Any = None

    @property
    def fitted(self) -> FittedRule:
        """The threshold rule, fitted when it is first asked for: some learn for minutes."""
        if self._fitted is None:
            rule = self.settings.rule
            try:
                self._fitted = self.reader.fit(rule, self.prepared.config.seed)
            except LookupError as e:
                raise UserError(
                    f"The threshold rule {rule.rule} cannot be fitted.",
                    where="filtered.rule",
                    found=str(e),
                    fix="choose a rule that learns nothing, such as fixed",
                ) from None
        return self._fitted

    @property
    def made_by(self) -> dict[str, Any]:
        """What the masks of the rule depend on besides the heatmaps.

        A rule that is trained is so by the run's seed, and sees a mask only where masks teach it.
        """
        rule = self.settings.rule
        if rule.trainable:
            settings = {"rule": rule.model_dump(mode="json"), "seed": self.prepared.config.seed}
            taught = len(self.reader.teaching()) if rule.taught_by_masks else 0
            return settings | {"masks_seen": taught}
        return self.fitted.to_json()

    @property
    def selector(self) -> Selector:
        """What every condition marks."""
        if self._selector is None:
            heats = [self.reader.load(c) for c in self.prepared.cases.cases]
            self._selector = make_selector(
                self.truth, heats, self.fitted, margin=self.settings.margin, seed=self.seed
            )
        return self._selector

    @property
    def means(self) -> Any:
        """Mean of each channel over the training images."""
        if self._means is None:
            train = self.prepared.cases.indices("train")
            self._means = training_means(self.images, train, self.selector.valid)
        return self._means

    def sources(self) -> tuple[Selector, Any]:
        """What marks the pixels, and the means that fill them."""
        return self.selector, self.means

    def key(self, condition: Condition) -> str:
        """Fingerprint of all that a condition's network depends on."""
        settings = self.settings.model_dump(mode="json", include={"epochs", "keep_networks"})
        rule = self.made_by if condition.size == "hard" else None
        # Which mask an image without a lesion borrows is drawn by the run's seed.
        truth = (self.settings.margin, self.prepared.config.seed)
        drawn = truth if condition.source in ("truth", "box") else None
        heat = heatmap_key(self.prepared, self.seed, self.target)
        return fingerprint("filtered", 2, heat, settings, rule, drawn, condition.name, SEED_OFFSET)

    def train(self, condition: Condition, number: str, force: bool) -> str:
        """Train a condition's network unless it is there; its key."""
        prepared, seed = self.prepared, self.seed
        arch = prepared.config.classifier.arch
        folder = condition_folder(prepared.run.folder, arch, seed, condition.name)
        stage = condition_stage(arch, seed, condition.name)
        key, what = self.key(condition), f"filtered {number}: {condition.name}, seed {seed}"
        networks = (BEST, LAST) if self.settings.keep_networks else ()
        names = (PREDICTIONS, ORIGINAL, METRICS, EXAMPLES, *networks)
        made = Stage(
            stage,
            key,
            tuple(folder / n for n in names),
            lambda _: self._train(condition, folder, key, what),
            what=what,
            inputs=self.inputs,
            # A rule that cannot be fitted is refused while the earlier network is still there.
            ready=lambda: self.fitted,
            effort=of_classifier(self.prepared),
            network=folder,
        )
        perform(prepared.run, made, force=force)
        if not networks:
            for name in (BEST, LAST):
                (folder / name).unlink(missing_ok=True)
        # Only now: what was broken off before it was recorded goes on from here.
        (folder / RESUME).unlink(missing_ok=True)
        return key

    @property
    def inputs(self) -> tuple[str, ...]:
        """The stages of the heatmaps that filter the images."""
        return (heatmaps_of_seed(self.prepared, self.seed, target=self.target).name,)

    def _train(self, condition: Condition, folder: Path, key: str, what: str) -> dict[str, Any]:
        prepared, cases = self.prepared, self.prepared.cases.cases
        labels, c = prepared.cases.labels, prepared.config.classifier
        if self.settings.epochs != AUTO:
            c = c.model_copy(update={"epochs": int(self.settings.epochs)})
        filtered = FilteredImages(self.images, self.selector, condition, self.means)
        fresh = self.seed + SEED_OFFSET
        model, _ = new_classifier(c, prepared_spec(prepared), fresh)
        entry = fit_classifier(prepared, c, model, filtered, folder, fresh, key, what)
        chosen = np.array(prepared.cases.indices("val") + prepared.cases.indices("test"))
        predicted = [cases[i] for i in chosen]
        device = pick_device(prepared.config.device)
        for path, network in (
            (folder / PREDICTIONS, load_classifier(folder)),
            (folder / ORIGINAL, self.original),
        ):
            p = predict_probabilities(
                network.to(device), filtered, chosen, 2 * c.batch_size, device
            )
            table = predictions_table(predicted, labels, p)
            table["kept_area"] = filtered.kept_area[chosen].round(6)
            write_text(path, csv_text(table))
        write_examples(filtered, prepared.cases, folder / EXAMPLES)
        return entry | {"epochs": c.epochs}

    @property
    def original(self) -> Any:
        """The network that made the heatmaps."""
        if self._original is None:
            arch = self.prepared.config.classifier.arch
            self._original = load_classifier(seed_folder(self.prepared.run.folder, arch, self.seed))
        return self._original
