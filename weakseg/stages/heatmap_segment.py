"""``weakseg heatmap-segment``: heatmaps of every image, masks of the test images, their scores."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from weakseg.config import Config, Rule, dump_config, fingerprint
from weakseg.data.arrays import ImageBatches
from weakseg.data.cases import Case
from weakseg.data.images import read_image
from weakseg.errors import RunError, UserError
from weakseg.heatmaps.cam import check_method
from weakseg.heatmaps.compute import heatmaps_of, target_classes
from weakseg.heatmaps.store import Heatmap, load_heatmap, save_heatmap
from weakseg.masks.rules import FittedRule, fit_rule, segment
from weakseg.masks.thresholds import GRID, dice_curve, normalise
from weakseg.models.classifiers import find_layer
from weakseg.progress import progress, say
from weakseg.runs import (
    file_hash,
    folder_name,
    inside,
    read_json,
    remove_tree,
    write_json,
    write_text,
)
from weakseg.scores import score_case, youden_threshold
from weakseg.stages.prepare import Prepared, refuse_volumes
from weakseg.stages.scoring import (
    THRESHOLD,
    case_entry,
    collect,
    heatmap_asked,
    mask_file,
    part_path,
    read_truth,
    save_mask,
    scored_cases,
    write_part,
)
from weakseg.stages.train_classifier import (
    classifier_key,
    is_trained,
    load_classifier,
    read_predictions,
    seed_folder,
)
from weakseg.training.loop import BEST, pick_device

CURVES = "curves.csv"
SPLITS = ("train", "val", "test")


def heatmap_folder(run: Path, config: Config, seed: int) -> Path:
    """Where the heatmaps of a seed live."""
    arch = folder_name(config.classifier.arch)
    return inside(run, "heatmaps", arch, f"seed-{seed}", config.heatmap.method)


def method_name(config: Config, rule: str) -> str:
    """The name of a method in every table: heatmap and threshold rule."""
    return f"{config.heatmap.method}-{rule}"


def heatmap_segment(prepared: Prepared, *, force: bool = False) -> Path:
    """Heatmaps, masks and scores of every seed.

    Parameters
    ----------
    prepared : Prepared
        With trained classifiers in its run folder.
    force : bool
        Make again what is up to date.

    Returns
    -------
    Path
        The table of scores, ``scores/summary.csv``.

    Raises
    ------
    RunError
        If a classifier is missing.
    ConfigError
        For an unknown method, layer or target.
    """
    refuse_volumes(prepared, "Heatmaps")
    config, run = prepared.config, prepared.run
    check_method(config.heatmap.method)
    target_classes(config.heatmap.target, prepared.cases.labels)
    untrained = [s for s in config.seeds if not is_trained(prepared, s)]
    if untrained:
        raise RunError(
            f"The run has no classifier of these settings for seed {untrained[0]}.",
            where=str(run.folder),
            fix="run `weakseg train-classifier CONFIG` with the same --set first, or "
            "`weakseg compare CONFIG`",
        )
    models = {s: seed_folder(run.folder, config.classifier.arch, s) for s in config.seeds}
    keys = {s: _heatmap_key(prepared, s) for s in config.seeds}
    for seed, folder in models.items():
        find_layer(load_classifier(folder), config.heatmap.layer, config.data.image_size)
        _heatmaps(prepared, seed, folder, keys[seed], force)
    _segment(prepared, list(keys.values()), force)
    return collect(prepared)


def _heatmap_key(prepared: Prepared, seed: int) -> str:
    settings = prepared.config.heatmap.model_dump(mode="json", exclude={"batch_size"})
    best = seed_folder(prepared.run.folder, prepared.config.classifier.arch, seed) / BEST
    return fingerprint("heatmaps", 2, classifier_key(prepared, seed), file_hash(best), settings)


def _heatmaps(prepared: Prepared, seed: int, model_folder: Path, key: str, force: bool) -> None:
    config, run, cases = prepared.config, prepared.run, prepared.cases.cases
    folder = heatmap_folder(run.folder, config, seed)
    stage = "heatmaps/" + "/".join(folder.parts[-3:])
    if not force and run.is_done(stage, key, folder):
        say(f"heatmaps, seed {seed}: up to date")
        return
    model = load_classifier(model_folder).to(pick_device(config.device))
    images = ImageBatches(cases, config.data, prepared.channels, keep=False)
    part = folder.with_name(f".part-{folder.name}")
    remove_tree(part)
    flat = 0
    with run.stage(stage, key) as entry:
        with progress(f"heatmaps, seed {seed}", len(cases)) as advance:
            everything = range(len(cases))
            for i, heat in heatmaps_of(
                model, prepared.cases.labels, images, everything, config.heatmap
            ):
                save_heatmap(inside(part, f"{cases[i].id}.npz"), heat)
                flat += heat.flat
                layer = heat.layer
                advance()
        remove_tree(folder)
        part.replace(folder)
        entry.update(images=len(cases), flat=flat, layer=layer)
    if flat:
        say(f"heatmaps, seed {seed}: {flat} of {len(cases)} are flat (nothing speaks for a lesion)")


@dataclass
class _Scorer:
    """Everything that scoring one split reads, by case."""

    prepared: Prepared
    seed: int

    def __post_init__(self) -> None:
        config = self.prepared.config
        self.folder = heatmap_folder(self.prepared.run.folder, config, self.seed)
        self.data = config.data
        self.labels = self.prepared.cases.labels

    def load(self, case: Case) -> Heatmap:
        return load_heatmap(inside(self.folder, f"{case.id}.npz"))

    def truth(self, case: Case, shape: tuple[int, int]) -> Any:
        return read_truth(case, shape, not self.labels.is_lesion(case.label), self.data)

    def heats(self, split: str) -> Iterator[np.ndarray]:
        """Raw heat of images with a lesion label; no mask is opened."""
        for case in self.prepared.cases.of(split):
            if self.labels.is_lesion(case.label):
                yield self.load(case).full()

    def pairs(self, split: str) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Raw heat and true mask of images with a lesion and a mask."""
        for case in self.prepared.cases.of(split):
            if self.labels.is_lesion(case.label) and case.mask is not None:
                heat = self.load(case)
                yield heat.full(), self.truth(case, heat.shape)


def fit_rules(
    rules: Sequence[Rule], scorer: _Scorer, seed: int
) -> tuple[list[FittedRule], dict[str, str]]:
    """Fit every rule that can be; for the others, why not."""
    fitted: list[FittedRule] = []
    left_out: dict[str, str] = {}
    for rule in rules:
        try:
            fitted.append(
                fit_rule(
                    rule,
                    train=lambda: scorer.heats("train"),
                    val=lambda: scorer.pairs("val"),
                    test=lambda: scorer.pairs("test"),
                    seed=seed,
                )
            )
        except LookupError as e:
            left_out[rule.rule] = str(e)
    return fitted, left_out


def gate_value(config: Config, model_folder: Path, lesion_labels: Sequence[str]) -> float:
    """The probability below which an image gets an empty mask; 0 where there is no gate."""
    gate = config.masks.gate
    if gate == "none":
        return 0.0
    if gate != "validation":
        return float(gate)
    table = read_predictions(model_folder)
    val = table[table["split"] == "val"]
    truth = val["label"].isin(list(lesion_labels)).to_numpy()
    if truth.all() or not truth.any():
        raise UserError(
            "The gate cannot be chosen on the validation labels.",
            where="masks.gate: validation",
            found="only one kind of image in the validation split",
            fix="set masks.gate to a probability, such as 0.5",
        )
    return youden_threshold(truth, val["lesion_probability"].to_numpy())


def _segment(prepared: Prepared, heatmap_keys: list[str], force: bool) -> None:
    config, run = prepared.config, prepared.run
    curves_path, masks = run.folder / "scores" / CURVES, run.folder / "masks"
    stage = "segment"
    key = fingerprint(stage, 2, heatmap_keys, config.masks, config.seeds)
    outputs = (part_path(prepared, "heatmap"), curves_path, masks / "config.yaml")
    if not force and run.is_done(stage, key, *outputs):
        say("masks of heatmaps: up to date")
        return
    with run.stage(stage, key) as entry:
        part = run.folder / ".part-masks"
        remove_tree(part)
        rows: list[dict[str, Any]] = []
        curves: list[dict[str, Any]] = []
        thresholds: dict[str, dict[str, Any]] = {}
        left_out: dict[str, str] = {}
        test = prepared.cases.of("test")
        with progress("masks and scores", len(config.seeds) * len(test)) as advance:
            for seed in config.seeds:
                scorer = _Scorer(prepared, seed)
                fitted, reasons = fit_rules(config.masks.rules, scorer, config.seed)
                left_out |= reasons
                model_folder = seed_folder(run.folder, config.classifier.arch, seed)
                gate = gate_value(config, model_folder, prepared.cases.labels.lesion)
                for f in fitted:
                    entry_of = thresholds.setdefault(method_name(config, f.name), {})
                    entry_of[f"seed-{seed}"] = f.to_json() | {"split": "test", "gate": gate}
                rows += _score_seed(scorer, fitted, gate, part, advance)
                curves += _curve(scorer)
        for reason in sorted({f"{r}: left out, {why}" for r, why in left_out.items()}):
            say(reason)
        for method, entries in thresholds.items():
            write_json(inside(part, method, THRESHOLD), entries)
        _replace_masks(masks, part)
        write_text(masks / "config.yaml", dump_config(config))
        write_part(prepared, "heatmap", rows)
        write_text(
            curves_path,
            pd.DataFrame(curves, columns=["seed", "threshold", "dice"]).to_csv(index=False),
        )
        weights = {
            str(s): file_hash(seed_folder(run.folder, config.classifier.arch, s) / BEST)
            for s in config.seeds
        }
        asked = heatmap_asked(config)
        entry.update(left_out=left_out, weights=weights, data=prepared.key, asked=asked)


def _replace_masks(masks: Path, part: Path) -> None:
    """Put new masks of heatmaps in the place of all earlier ones; those of networks stay."""
    for method in [p for p in masks.glob("*") if p.is_dir()]:
        held = read_json(method / THRESHOLD) if (method / THRESHOLD).exists() else {}
        if not any(e.get("kind") == "supervised" for e in held.values()):
            remove_tree(method)
    for method in sorted(part.glob("*")):
        remove_tree(masks / method.name)
        masks.mkdir(exist_ok=True)
        method.replace(masks / method.name)
    remove_tree(part)


def _score_seed(
    scorer: _Scorer,
    fitted: Sequence[FittedRule],
    gate: float,
    out: Path,
    advance: Callable[..., None],
) -> list[dict[str, Any]]:
    """Write the masks of one seed, and score those whose truth is known."""
    config = scorer.prepared.config
    by_rule: dict[str, list[dict[str, Any]]] = {f.name: [] for f in fitted}
    scored = scored_cases(scorer.prepared)
    for case in scorer.prepared.cases.of("test"):
        heat = scorer.load(case)
        full, flat = heat.full(), heat.flat
        gated = heat.probability < gate
        image = read_image(case.image)
        truth = scorer.truth(case, heat.shape) if case.id in scored else None
        of_heat: dict[str, Any] = {}
        for f in fitted:
            if f.name == "oracle-image" and truth is None:
                continue  # it has no threshold for an image that nobody has segmented
            mask = np.zeros(heat.shape, dtype=bool) if gated else segment(f, full, image, truth)
            method = method_name(config, f.name)
            save_mask(mask_file(out, method, scorer.seed, case), mask, case)
            if truth is None:
                continue
            scores = score_case(mask, truth, heatmap=None if of_heat else full)
            # The scores of the heatmap itself are the same under every rule.
            of_heat = of_heat or {k: scores[k] for k in ("ap", "pointing", "energy")}
            kind = "oracle" if f.oracle else "heatmap"
            by_rule[f.name].append(
                case_entry(case, method, kind, scorer.seed, f.masks_seen)
                | scores
                | of_heat
                | {"flat": flat, "gated": gated, "probability": round(heat.probability, 6)}
            )
        advance()
    return [row for rows in by_rule.values() for row in rows]


def _curve(scorer: _Scorer) -> list[dict[str, Any]]:
    """Mean Dice over the test lesions at every fixed threshold: for looking, never for choosing."""
    curves = [dice_curve(normalise(h), t, GRID) for h, t in scorer.pairs("test")]
    if not curves:
        return []
    mean = np.mean(curves, axis=0)
    return [
        {"seed": scorer.seed, "threshold": round(float(t), 4), "dice": round(float(d), 6)}
        for t, d in zip(GRID, mean, strict=True)
    ]
