"""``weakseg heatmap-segment``: heatmaps of every image, masks of the test images, their scores."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from weakseg.config import dump_config, fingerprint, load_config
from weakseg.contents import Thresholds
from weakseg.current import is_current, why_stale
from weakseg.disk import link
from weakseg.errors import RunError, WeaksegError
from weakseg.heatmaps.cam import check_method
from weakseg.heatmaps.explaining import target_classes
from weakseg.layout import (
    CURVES,
    FIT_STAGE,
    FLOORS_STAGE,
    HEATMAP_PART,
    MASKS,
    SEGMENT_STAGE,
    fitted_folder,
    fresh_masks,
    masks_config,
    masks_folder,
    method_folder,
    methods_among,
    scores_file,
    threshold_file,
)
from weakseg.methods.classifiers import weights_of
from weakseg.methods.fingerprints import heatmap_fingerprint
from weakseg.methods.fitted_rules import Fitted, fit_rules, read_fitted
from weakseg.methods.heatmap import KIND
from weakseg.methods.lesions import rows_version
from weakseg.methods.prepared import Prepared, require_classifier
from weakseg.methods.spoken import why_left_out
from weakseg.methods.stored_heatmaps import require_classifiers
from weakseg.outputs import last_written
from weakseg.progress import say
from weakseg.runs import remove_tree, write_text
from weakseg.shards import Shard
from weakseg.spreadsheets import csv_text
from weakseg.stages.base import Stage, perform
from weakseg.stages.composed import segment_composed, shard_composed
from weakseg.stages.effort import of_masks
from weakseg.stages.fitted import fit_stage, forget_fit, heatmap_keys, inputs_of_masks
from weakseg.stages.heat_masks import make_masks, shard_of_masks, shards_key
from weakseg.stages.heatmaps import heatmaps_of_seed, make_heatmaps, make_shard
from weakseg.stages.scoring import collect, floors_key, part_files, shard_of_floors, write_part
from weakseg.stages.shards import NOTHING, forget_shards, own_folder
from weakseg.stored import read_json


def heatmap_segment(prepared: Prepared, *, force: bool = False, goes_on: bool = False) -> Path:
    """Heatmaps, masks and scores of every seed.

    Parameters
    ----------
    prepared : Prepared
        With trained classifiers in its run folder.
    force : bool
        Make again what is up to date.
    goes_on : bool
        Whether the command makes methods that are made of others once more, and tells of them then.

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
    run = prepared.run
    made = _made_heatmaps(prepared, force)
    stage = _masks(prepared, list(made.values()))
    of_shards = {**made, SEGMENT_STAGE: shards_key(prepared, stage.key)}
    perform(run, stage, force=force)
    of_shards |= segment_composed(prepared, force=force, quiet=goes_on)
    table = collect(prepared)
    of_shards[FLOORS_STAGE] = floors_key(prepared)
    forget_shards(run.folder, of_shards, but=_of_others)
    forget_fit(run, FIT_STAGE, prepared.config.heatmap_methods)
    return table


def _of_others(stage: str) -> bool:
    """Whether the shards of a stage are joined by other commands, or by this one later."""
    return stage.startswith(MASKS)


def fit_for_shards(prepared: Prepared, *, force: bool = False) -> Path:
    """All heatmaps, those of shards joined, and the rules fitted to them: shards make masks then.

    Parameters
    ----------
    prepared : Prepared
        With trained classifiers in its run folder.
    force : bool
        Make again what is up to date.

    Returns
    -------
    Path
        The folder of the fitted rules.
    """
    made = _made_heatmaps(prepared, force)
    stage = fit_stage(prepared, list(made.values()))
    perform(prepared.run, stage, force=force)
    later = (SEGMENT_STAGE, FLOORS_STAGE)
    forget_shards(prepared.run.folder, made, but=lambda s: s in later or _of_others(s))
    return fitted_folder(prepared.run.folder)


def _made_heatmaps(prepared: Prepared, force: bool) -> dict[str, str]:
    """Make or join all heatmaps; their stages and keys."""
    _check(prepared)
    config = prepared.config
    for name in config.all_heatmaps:
        for seed in config.heatmap_seeds(name):
            make_heatmaps(prepared, seed, name=name, force=force)
    return heatmap_keys(prepared)


def heatmap_shard(prepared: Prepared, shard: Shard, *, force: bool = False) -> Path:
    """A part of the heatmaps; once `fit_for_shards` has joined these, of the masks and scores.

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

    Raises
    ------
    RunError
        If all heatmaps are joined and the rules are not fitted to them.
    """
    _check(prepared)
    config, run = prepared.config, prepared.run
    keys = list[str]()
    for name in config.all_heatmaps:
        for seed in config.heatmap_seeds(name):
            heats = heatmaps_of_seed(prepared, seed, name=name)
            if why_stale(run, heats.name, heats.key, covers=heats.covers) is not None:
                return make_shard(prepared, shard, force=force)
            keys.append(heats.key)
    stage, fit = _masks(prepared, keys), fit_stage(prepared, keys)
    if why_stale(run, stage.name, stage.key) is None and not force:
        say(f"{stage.what}: {NOTHING}")
    else:
        _shard_of_masks(prepared, shard, stage, fit, force)
    shard_composed(prepared, shard, force=force)
    return own_folder(run.folder, shard)


def _shard_of_masks(
    prepared: Prepared, shard: Shard, stage: Stage, fit: Stage, force: bool
) -> None:
    """A part of the masks and scores, by rules that are fitted."""
    run = prepared.run
    stale = why_stale(run, fit.name, fit.key)
    if stale is not None:
        raise RunError(
            "All heatmaps are joined, and the rules are not fitted to them, so that shards cannot "
            "make masks.",
            where=str(run.folder),
            found=f"the fitted rules: {stale.why}",
            fix="run `weakseg heatmap-segment CONFIG --fit` once, and this again; or leave --shard "
            "out: one command makes all masks",
        )
    own, of_masks = shard_of_masks(prepared, shard, shards_key(prepared, stage.key))
    perform(own, of_masks, force=force)
    floors = shard_of_floors(prepared, shard)
    if floors and why_stale(run, FLOORS_STAGE, floors_key(prepared)) is not None:
        perform(own, floors, force=force)


def _check(prepared: Prepared) -> None:
    """Refuse what cannot be, before anything is made."""
    require_classifier(prepared, "Heatmaps")
    for heat in prepared.config.all_heatmaps.values():
        check_method(heat.method)
        target_classes(heat.target, prepared.cases.labels)
    require_classifiers(prepared)


def _masks(prepared: Prepared, heatmap_keys: Sequence[str]) -> Stage:
    """The masks of all heatmaps, and their scores."""
    config, run = prepared.config, prepared.run
    settings = heatmap_fingerprint(config)
    masks = masks_folder(run.folder)
    of_rows = rows_version(prepared.cases.cases)
    key = fingerprint(SEGMENT_STAGE, 6, list(heatmap_keys), settings, *of_rows, *prepared.masks_key)
    fit = fit_stage(prepared, heatmap_keys)
    return Stage(
        SEGMENT_STAGE,
        key,
        (
            *part_files(prepared, HEATMAP_PART),
            scores_file(run.folder, CURVES),
            masks_config(run.folder),
            *(method_folder(masks, method) for method in config.heatmap_methods),
        ),
        lambda _: _write_masks(prepared, settings, key, fit),
        what="masks of heatmaps",
        inputs=inputs_of_masks(prepared),
        effort=of_masks(prepared),
    )


def _write_masks(prepared: Prepared, settings: str, key: str, fit: Stage) -> dict[str, Any]:
    """Masks and scores of every heatmap, seed and rule; what the record says of them."""
    config, run = prepared.config, prepared.run
    part = fresh_masks(run.folder)
    remove_tree(part)
    fitted = _fitted(prepared, part, fit)
    rows, of_heats = make_masks(prepared, fitted, part, shards_key(prepared, key))
    curves = [
        {"seed": of.seed, **row}
        for of, curve in zip(fitted.of_heats, of_heats, strict=True)
        for row in curve.rows()
    ]
    seeds_of = {m: len(config.heatmap_seeds(h)) for m, (h, _) in config.heatmap_methods.items()}
    left_out = why_left_out(fitted.lost, seeds_of)
    for method, why in left_out.items():
        say(f"{method}: left out, {why}")
    _replace_masks(prepared, part)
    write_part(prepared, HEATMAP_PART, rows)
    table = pd.DataFrame(curves, columns=["seed", "threshold", "dice"])
    write_text(scores_file(run.folder, CURVES), csv_text(table))
    weights = weights_of(prepared, config.seeds)
    return {"left_out": left_out, "weights": weights, "data": prepared.key, "asked": settings}


def _fitted(prepared: Prepared, part: Path, fit: Stage) -> Fitted:
    """The rules, fitted now or as they were fitted for shards; their files are put in place."""
    if not is_current(prepared.run, fit.name, fit.key):
        return fit_rules(prepared, part)
    folder = fitted_folder(prepared.run.folder)
    for method in prepared.config.heatmap_methods:
        for path in sorted(method_folder(folder, method).glob("*")):
            link(path, part / path.relative_to(folder))
    return read_fitted(prepared, folder)


def _replace_masks(prepared: Prepared, part: Path) -> None:
    """Put new masks of heatmaps in the place of all earlier ones; whatever else is there stays."""
    run = prepared.run.folder
    masks = masks_folder(run)
    for method in _made_before(run) - prepared.config.heatmap_methods.keys():
        if not _of_another_kind(prepared, method):
            remove_tree(method_folder(masks, method))
    # Before any of the new: whoever finds these half done knows by it whose they are.
    write_text(masks_config(run), dump_config(prepared.config))
    for method in prepared.config.heatmap_methods:
        remove_tree(method_folder(masks, method))
    for folder in sorted(part.glob("*")):
        folder.replace(method_folder(masks, folder.name))
    remove_tree(part)


def _made_before(run: Path) -> set[str]:
    """The methods of heatmaps that have made masks in a run, or that have begun to."""
    methods, config = methods_among(last_written(run, SEGMENT_STAGE)), masks_config(run)
    if config.exists():
        with contextlib.suppress(WeaksegError):  # damaged, or of another version
            methods |= load_config(config).heatmap_methods.keys()
    return methods


def _of_another_kind(prepared: Prepared, method: str) -> bool:
    """Whether masks are of no heatmap by now; damaged ones are of whoever wrote them last."""
    path = threshold_file(masks_folder(prepared.run.folder), method)
    try:
        entries = read_json(path, model=Thresholds) if path.exists() else {}
    except RunError:
        return False
    named = {*prepared.config.segmenters, *prepared.config.consensus}
    if method in named:  # one that masks seen elsewhere have taught is of a kind of heatmaps' too
        return bool(entries)
    return any(entry["kind"] not in KIND.kinds for entry in entries.values())
