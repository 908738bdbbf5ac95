"""``weakseg retrain-filtered``: a fresh classifier for every way to filter the images."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from weakseg.config import AUTO, Condition, FilteredConfig
from weakseg.filtering.images import write_examples
from weakseg.filtering.sources import masks_used
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
)
from weakseg.methods.classifiers import load_classifier, predictions_table, prepared_spec
from weakseg.methods.filter_sources import SEED_OFFSET, FilterSources
from weakseg.methods.filtered import check_filtered, check_target, true_masks
from weakseg.methods.fitting import fit_classifier
from weakseg.methods.prepared import Prepared
from weakseg.methods.stored_heatmaps import require_classifiers
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
    settings = prepared.config.filtered or FilteredConfig()
    conditions, left_out = check_filtered(prepared)
    target = check_target(prepared, settings)
    require_classifiers(prepared)
    truth = true_masks(prepared)
    for name, why in left_out.items():
        say(f"{name}: left out, {why}")
    keys = {}
    for seed in prepared.config.seeds:
        folder = make_heatmaps(prepared, seed, target=target)
        inputs = (heatmaps_of_seed(prepared, seed, target=target).name,)
        sources = FilterSources(prepared, settings, target, seed, folder, truth)
        for n, condition in enumerate(conditions, 1):
            what = f"filtered {n} of {len(conditions)}: {condition.name}, seed {seed}"
            keys[condition.name, seed] = _retrain(sources, condition, inputs, what, force)
        score_heatmaps(sources, inputs, force=force)
    seen = sources.seen
    used = {c.name: masks_used(c, truth, seen.cases, seen.others) for c in conditions}
    return write_evidence(
        prepared,
        settings,
        target,
        conditions,
        used,
        left_out,
        sorted(keys.values()),
        elsewhere=sorted(seen.elsewhere),
        force=force,
    )


def _retrain(
    sources: FilterSources, condition: Condition, inputs: tuple[str, ...], what: str, force: bool
) -> str:
    """Train a condition's network unless it is there; its key."""
    run, key = sources.prepared.run, sources.key(condition)
    folder = condition_folder(run.folder, sources.arch, sources.seed, condition.name)
    networks = (BEST, LAST) if sources.settings.keep_networks else ()
    names = (PREDICTIONS, ORIGINAL, METRICS, EXAMPLES, *networks)
    made = Stage(
        condition_stage(sources.arch, sources.seed, condition.name),
        key,
        tuple(folder / n for n in names),
        lambda _: _train(sources, condition, folder, key, what),
        what=what,
        inputs=inputs,
        # A rule that cannot be fitted is refused while the earlier network is still there.
        ready=lambda: sources.fitted,
        effort=of_classifier(sources.prepared),
        network=folder,
    )
    perform(run, made, force=force)
    if not networks:
        for name in (BEST, LAST):
            (folder / name).unlink(missing_ok=True)
    # Only now: what was broken off before it was recorded goes on from here.
    (folder / RESUME).unlink(missing_ok=True)
    return key


def _train(
    sources: FilterSources, condition: Condition, folder: Path, key: str, what: str
) -> dict[str, Any]:
    prepared, c = sources.prepared, sources.prepared.config.classifier
    if sources.settings.epochs != AUTO:
        c = c.model_copy(update={"epochs": int(sources.settings.epochs)})
    filtered, fresh = sources.images(condition), sources.seed + SEED_OFFSET
    model, _ = new_classifier(c, prepared_spec(prepared), fresh)
    entry = fit_classifier(prepared, c, model, filtered, folder, fresh, key, what)
    chosen = np.array(prepared.cases.indices("val") + prepared.cases.indices("test"))
    predicted = [prepared.cases.cases[i] for i in chosen]
    device = pick_device(prepared.config.device)
    for path, network in (
        (folder / PREDICTIONS, load_classifier(folder)),
        (folder / ORIGINAL, sources.original),
    ):
        p = predict_probabilities(network.to(device), filtered, chosen, 2 * c.batch_size, device)
        table = predictions_table(predicted, prepared.cases.labels, p)
        table["kept_area"] = filtered.kept_area[chosen].round(6)
        write_text(path, csv_text(table))
    write_examples(filtered, prepared.cases, folder / EXAMPLES)
    return entry | {"epochs": c.epochs}
