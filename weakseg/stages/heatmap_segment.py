"""``weakseg heatmap-segment``: heatmaps of every image, masks of the test images, their scores."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from weakseg.config import dump_config, fingerprint
from weakseg.contents import Thresholds
from weakseg.data.case_files import case_image
from weakseg.data.cases import Case, by_file
from weakseg.engines.base import TORCH
from weakseg.errors import RunError
from weakseg.heatmaps.cam import check_method
from weakseg.heatmaps.explaining import target_classes
from weakseg.layout import (
    BEST,
    CURVES,
    HEATMAP_PART,
    SEGMENT_STAGE,
    fresh_masks,
    heatmap_folder,
    heatmap_stage,
    masks_config,
    masks_folder,
    method_folder,
    predictions_stage,
    scores_file,
    seed_folder,
    threshold_file,
    trained_file,
)
from weakseg.masks.set_thresholds import GRID, MeanCurve
from weakseg.masks.thresholds import dice_curve, normalise
from weakseg.methods.base import ENGINE
from weakseg.methods.fingerprints import heatmap_fingerprint
from weakseg.methods.gate import heatmap_gate
from weakseg.methods.heatmap import KIND, HeatmapMethod
from weakseg.methods.heats import StoredHeats
from weakseg.methods.prepared import Prepared, require_classifier
from weakseg.methods.rows import Predicted, Rows, Truth
from weakseg.methods.spoken import why_left_out
from weakseg.methods.stored_heatmaps import (
    HeatReader,
    heatmap_key,
    require_classifiers,
)
from weakseg.methods.trainable.registry import save_trained
from weakseg.progress import progress, say
from weakseg.runs import file_hash, remove_tree, write_json, write_text
from weakseg.shards import Shard
from weakseg.spreadsheets import csv_text
from weakseg.stages.base import Stage, perform
from weakseg.stages.composed import segment_composed
from weakseg.stages.effort import of_masks
from weakseg.stages.heatmaps import make_heatmaps, make_shard
from weakseg.stages.scoring import collect, part_files, write_part
from weakseg.stages.segment import Work, segment_cases
from weakseg.stages.shards import forget_shards
from weakseg.stored import read_json


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
    _check(prepared)
    config = prepared.config
    made = [(name, seed) for name in config.all_heatmaps for seed in config.heatmap_seeds(name)]
    for name, seed in made:
        make_heatmaps(prepared, seed, name=name, force=force)
    keys = [heatmap_key(prepared, seed, name=name) for name, seed in made]
    _segment(prepared, keys, force)
    stages = [heatmap_stage(config.classifier.arch, seed, name) for name, seed in made]
    forget_shards(prepared.run.folder, dict(zip(stages, keys, strict=True)))
    segment_composed(prepared, force=force)
    return collect(prepared)


def heatmap_shard(prepared: Prepared, shard: Shard, *, force: bool = False) -> Path:
    """The heatmaps of a part of the images, which the next `heatmap_segment` joins.

    Parameters
    ----------
    prepared : Prepared
        With trained classifiers in its run folder, held as this shard.
    shard : Shard
    force : bool
        Make again what is up to date.

    Returns
    -------
    Path
        The shard's folder.
    """
    _check(prepared)
    return make_shard(prepared, shard, force=force)


def _check(prepared: Prepared) -> None:
    """Refuse what cannot be, before anything is made."""
    require_classifier(prepared, "Heatmaps")
    for heat in prepared.config.all_heatmaps.values():
        check_method(heat.method)
        target_classes(heat.target, prepared.cases.labels)
    require_classifiers(prepared)


def _segment(prepared: Prepared, heatmap_keys: list[str], force: bool) -> None:
    config, run = prepared.config, prepared.run
    settings = heatmap_fingerprint(config)
    masks = masks_folder(run.folder)
    arch = config.classifier.arch
    heats = [(name, seed) for name in config.all_heatmaps for seed in config.heatmap_seeds(name)]
    stage = Stage(
        SEGMENT_STAGE,
        fingerprint(SEGMENT_STAGE, 6, heatmap_keys, settings),
        (
            *part_files(prepared, HEATMAP_PART),
            scores_file(run.folder, CURVES),
            masks_config(run.folder),
            *(method_folder(masks, method) for method in config.heatmap_methods),
        ),
        lambda _: _write_masks(prepared, settings),
        what="masks of heatmaps",
        inputs=(
            *(heatmap_stage(arch, s, n) for n, s in heats),
            *(predictions_stage(arch, s) for s in config.seeds),
        ),
        effort=of_masks(prepared),
    )
    perform(run, stage, force=force)


def _write_masks(prepared: Prepared, settings: str) -> dict[str, Any]:
    """Masks and scores of every heatmap, seed and rule; what the record says of them."""
    config, run = prepared.config, prepared.run
    part = fresh_masks(run.folder)
    remove_tree(part)
    rows, curves = Rows(), list[dict[str, Any]]()
    thresholds: dict[str, dict[str, Any]] = {}
    lost: dict[str, dict[int, str]] = {}
    test = prepared.cases.of("test")
    names = list(config.all_heatmaps)
    work = [(name, seed) for name in names for seed in config.heatmap_seeds(name)]
    arch = config.classifier.arch
    readers = {
        (name, seed): HeatReader(prepared, heatmap_folder(run.folder, arch, seed, name))
        for name, seed in work
    }
    stages = run.record.get("stages", {})
    engines = {
        (name, seed): stages.get(heatmap_stage(arch, seed, name), {}).get(ENGINE, TORCH)
        for name, seed in work
    }
    # Before the bar of the masks is drawn: a search has one of its own.
    fits = {
        of: reader.fit_all(config.rules_of(of[0]), config.seed) for of, reader in readers.items()
    }
    with progress("masks and scores", len(work) * len(test)) as advance:
        for name, seed in work:
            fitted, reasons = fits[name, seed]
            for rule, why in reasons.items():
                lost.setdefault(f"{name}-{rule}", {})[seed] = why
            gate = heatmap_gate(prepared, name, seed)
            methods = [
                HeatmapMethod(f"{name}-{f.name}", (seed,), config, f, gate, StoredHeats(reader))
                for f in fitted
                for reader in [readers[name, seed]]
            ]
            for m in methods:
                entry = m.rule.to_json() | {"kind": m.kind, "split": "test", "gate": gate}
                entry |= readers[name, seed].seen_by(m.rule).to_json()
                if (by := engines[name, seed]) != TORCH:
                    entry[ENGINE] = by
                if m.rule.trained is not None:
                    entry |= save_trained(trained_file(part, m.name, seed), m.rule.trained)
                thresholds.setdefault(m.name, {})[f"seed-{seed}"] = entry
            curve = MeanCurve() if name == names[0] else None
            rows += _score_seed(readers[name, seed], methods, seed, part, advance, curve)
            curves += [] if curve is None else [{"seed": seed, **row} for row in curve.rows()]
    seeds_of = {m: len(config.heatmap_seeds(h)) for m, (h, _) in config.heatmap_methods.items()}
    left_out = why_left_out(lost, seeds_of)
    for method, why in left_out.items():
        say(f"{method}: left out, {why}")
    for method, entries in thresholds.items():
        write_json(threshold_file(part, method), entries)
    _replace_masks(prepared, part)
    write_text(masks_config(run.folder), dump_config(config))
    write_part(prepared, HEATMAP_PART, rows)
    table = pd.DataFrame(curves, columns=["seed", "threshold", "dice"])
    write_text(scores_file(run.folder, CURVES), csv_text(table))
    weights = {
        str(s): file_hash(seed_folder(run.folder, config.classifier.arch, s) / BEST)
        for s in config.seeds
    }
    return {"left_out": left_out, "weights": weights, "data": prepared.key, "asked": settings}


def _replace_masks(prepared: Prepared, part: Path) -> None:
    """Put new masks of heatmaps in the place of all earlier ones; those of other kinds stay."""
    masks = masks_folder(prepared.run.folder)
    for method in [p for p in masks.glob("*") if p.is_dir()]:
        if not _of_another_kind(prepared, method.name):
            remove_tree(method)
    for method in sorted(part.glob("*")):
        there = method_folder(masks, method.name)
        remove_tree(there)
        masks.mkdir(exist_ok=True)
        method.replace(there)
    remove_tree(part)


def _of_another_kind(prepared: Prepared, method: str) -> bool:
    """Whether masks are of no heatmap; damaged ones are nobody's, and are made again."""
    path = threshold_file(masks_folder(prepared.run.folder), method)
    try:
        entries = read_json(path, model=Thresholds) if path.exists() else {}
    except RunError:
        return False
    return any(entry["kind"] not in KIND.kinds for entry in entries.values())


def _score_seed(
    reader: HeatReader,
    methods: Sequence[HeatmapMethod],
    seed: int,
    out: Path,
    advance: Callable[..., None],
    curve: MeanCurve | None,
) -> Rows:
    """Write the masks of one heatmap and seed; their rows, method by method."""
    prepared, rows = reader.prepared, Rows()
    is_lesion = prepared.cases.labels.is_lesion

    def dice(case: Case, predicted: Predicted, truth: Any) -> np.ndarray | None:
        if truth is None or case.mask is None or not is_lesion(case.label):
            return None
        return dice_curve(normalise(predicted[0][1].map), truth, GRID)

    work = (Work(of, _masks_of(reader, methods)) for of in by_file(prepared.cases.of("test")))
    look = None if curve is None else dice
    for scored in segment_cases(prepared, work, seed, masks=out, look=look):
        rows += scored.rows
        for said in scored.looked:
            if said is not None and curve is not None:
                curve.add(said)
        advance(scored.cases)
    return rows.by_method([m.name for m in methods])


def _masks_of(
    reader: HeatReader, methods: Sequence[HeatmapMethod]
) -> Callable[[Case, Truth], Predicted]:
    """The masks of an image by every rule."""

    def predict(case: Case, truth_of: Truth) -> Predicted:
        heat = reader.load(case)
        full, truth = heat.full(), truth_of(heat.shape)
        needed = any(m.rule.needs_image for m in methods)
        image = case_image(case, reader.prepared.config.data) if needed else None
        # An upper bound has no threshold for an image that nobody has segmented.
        able = [m for m in methods if truth is not None or not m.rule.rule.needs_truth]
        return [(m, m.of_heat(heat, full, image, truth)) for m in able]

    return predict
