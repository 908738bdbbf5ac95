"""``weakseg retrain-filtered``: a fresh classifier for every way to filter the images."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from weakseg.config import AUTO, Condition, FilteredConfig, fingerprint
from weakseg.data.arrays import ImageBatches
from weakseg.errors import UserError
from weakseg.filtering.images import FilteredImages, training_means
from weakseg.filtering.selectors import Selector
from weakseg.filtering.sources import TruthMasks, make_selector, masks_used
from weakseg.heatmaps.explaining import target_classes
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
from weakseg.methods.prepared import Prepared, require_classifier, require_images
from weakseg.methods.stored_heatmaps import PREDICTED, HeatReader, heatmap_key, require_classifiers
from weakseg.progress import say
from weakseg.runs import atomic_path, write_text
from weakseg.spreadsheets import csv_text
from weakseg.stages.base import Stage, perform
from weakseg.stages.effort import of_classifier
from weakseg.stages.faithfulness import score_heatmaps
from weakseg.stages.heatmaps import heatmaps_of_seed, make_heatmaps
from weakseg.stages.retraining_effects import write_evidence
from weakseg.stages.train_classifier import fit_classifier
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
    truth = _truth_masks(prepared)
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


def check_filtered(prepared: Prepared) -> tuple[list[Condition], dict[str, str]]:
    """Refuse what cannot be, before hours of work.

    Returns
    -------
    conditions : list of Condition
    left_out : dict
        What there are no masks for → why.

    Raises
    ------
    UserError
        For volumes, where nothing can be filtered, and for a threshold rule that cannot be fitted.
    """
    require_images(prepared, "Heatmap-filtered retraining")
    require_classifier(prepared, "Heatmap-filtered retraining")
    settings = prepared.config.filtered or FilteredConfig()
    conditions, left_out = _possible(settings, _truth_masks(prepared))
    if len(prepared.cases.indices("test")) == 0 or len(conditions) < 2:
        raise UserError(
            "There is nothing to filter.",
            where="filtered",
            found="; ".join(left_out.values()) or "no test image",
            fix="add filters of heatmaps (filtered.filters: [hard])",
        )
    is_lesion = prepared.cases.labels.is_lesion
    needs = {"validation": "val", "train-quantile": "train"}.get(settings.rule.rule)
    needs = "val" if getattr(settings.rule, "search", None) else needs
    ill = [c for c in prepared.cases.of(needs or "") if is_lesion(c.label)]
    if needs and not any(c.mask is not None or needs == "train" for c in ill):
        raise UserError(
            f"The threshold rule {settings.rule.rule} cannot be fitted.",
            where="filtered.rule",
            found=f"no lesion{' with a mask' if needs == 'val' else ''} in the {needs} split",
            fix="choose a rule that needs no mask, such as fixed",
        )
    return conditions, left_out


def _truth_masks(prepared: Prepared) -> TruthMasks:
    return TruthMasks(prepared.cases, prepared.config.data, prepared.config.seed)


def check_target(prepared: Prepared, settings: FilteredConfig) -> str:
    """The class whose heatmaps filter the images, or ``predicted``.

    Raises
    ------
    ConfigError
        For a label that is not there.
    """
    target = prepared.config.heatmap.target if settings.target == "same" else settings.target
    if target != PREDICTED:
        target_classes(target, prepared.cases.labels, where="filtered.target")
    return target


def _possible(
    settings: FilteredConfig, truth: TruthMasks
) -> tuple[list[Condition], dict[str, str]]:
    """The conditions that there are masks for, and why others are left out."""
    conditions = settings.conditions()
    why = truth.missing()
    if why is None:
        return conditions, {}
    without = [c for c in conditions if not (c.sees_masks or c.source == "truth")]
    gone = [c.name for c in conditions if c not in without]
    return without, {"filters of true masks": f"{why} ({', '.join(gone)})"} if gone else {}


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

        A rule that learns from the heatmaps does so by the run's seed alone; it sees no mask.
        """
        rule = self.settings.rule
        if rule.trainable:
            settings = {"rule": rule.model_dump(mode="json"), "seed": self.prepared.config.seed}
            return settings | {"masks_seen": 0}
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
        self._write_examples(filtered, folder / EXAMPLES)
        return entry | {"epochs": c.epochs}

    @property
    def original(self) -> Any:
        """The network that made the heatmaps."""
        if self._original is None:
            arch = self.prepared.config.classifier.arch
            self._original = load_classifier(seed_folder(self.prepared.run.folder, arch, self.seed))
        return self._original

    def _write_examples(self, filtered: FilteredImages, path: Path) -> None:
        """Two test images with a lesion and one without, as the network sees them."""
        is_lesion = self.prepared.cases.labels.is_lesion
        test = self.prepared.cases.indices("test")
        ill = [i for i in test if is_lesion(filtered.cases[i].label)]
        healthy = [i for i in test if not is_lesion(filtered.cases[i].label)]
        shown = [g[len(g) * k // 3] for g, k in ((ill, 1), (ill, 2), (healthy, 1)) if g]
        if not shown:
            return
        strip = np.concatenate(list(filtered.images(shown).numpy()), axis=2)
        pixels = (np.clip(strip, 0, 1) * 255).round().astype(np.uint8)
        picture = Image.fromarray(pixels[0] if len(pixels) == 1 else np.moveaxis(pixels, 0, 2))
        with atomic_path(path, flushed=False) as part, part.open("wb") as f:
            picture.save(f, format="PNG")
