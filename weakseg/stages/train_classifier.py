"""``weakseg train-classifier``: one network a seed, its scores and predictions."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from weakseg.config.volume_archs import sees_slices
from weakseg.launch import launched
from weakseg.layout import (
    BEST,
    INSTANCES,
    LAST,
    METRICS,
    PREDICTIONS,
    RESUME,
    classifier_stage,
    predictions_stage,
    seed_folder,
)
from weakseg.methods.checks import check_places
from weakseg.methods.classifiers import (
    classifier_key,
    load_classifier,
    predictions_key,
    predictions_table,
    prepared_spec,
    taken_from_outside,
)
from weakseg.methods.fitting import fit_classifier
from weakseg.methods.networks import say_random
from weakseg.methods.other_runs import lender_of_heat
from weakseg.methods.prepared import Prepared, require_classifier
from weakseg.methods.training_heats import heats_of
from weakseg.models.classifier import Classifier
from weakseg.models.volume_classifiers import SliceClassifier
from weakseg.runs import write_text
from weakseg.spreadsheets import csv_text
from weakseg.stages.base import Stage, perform
from weakseg.stages.classifier_scores import classifier_scores_of, leave_scores
from weakseg.stages.effort import of_classifier, of_predictions
from weakseg.training.beginning import new_classifier
from weakseg.training.classify import predict_probabilities
from weakseg.training.instances import instances_table
from weakseg.training.loop import pick_device


def train_classifiers(
    prepared: Prepared,
    *,
    force: bool = False,
    after_epoch: Callable[[int], None] | None = None,
) -> list[Path]:
    """Train every seed that is not trained yet.

    Parameters
    ----------
    prepared : Prepared
    force : bool
        Train again what is there; the earlier networks are moved to ``superseded/``.
    after_epoch : callable, optional
        See `weakseg.training.loop.fit`.

    Returns
    -------
    list of Path
        The seeds' folders.
    """
    require_classifier(prepared, "A classifier")
    check_places(prepared)
    config = prepared.config
    folders = []
    for seed in config.seeds:
        folder = seed_folder(prepared.run.folder, config.classifier.arch, seed)
        folders.append(folder)
        perform(prepared.run, training_of(prepared, seed, after_epoch), force=force)
        # Only now: what was broken off before it was recorded goes on from here.
        if launched().first:
            (folder / RESUME).unlink(missing_ok=True)
            leave_scores(prepared, seed)
        perform(prepared.run, predictions_of(prepared, seed), force=force)
        perform(prepared.run, classifier_scores_of(prepared, seed), force=force)
    return folders


def training_of(
    prepared: Prepared, seed: int, after_epoch: Callable[[int], None] | None = None
) -> Stage:
    """The training of a seed's classifier."""
    config = prepared.config.classifier
    folder = seed_folder(prepared.run.folder, config.arch, seed)
    key, taken = classifier_key(prepared, seed), taken_from_outside(prepared, seed)
    return Stage(
        classifier_stage(config.arch, seed),
        key,
        tuple(folder / name for name in (BEST, LAST, METRICS)),
        lambda initial: _train_seed(prepared, initial, folder, seed, key, after_epoch) | taken,
        what=f"classifier, seed {seed}",
        # Weights from a server may not be there.
        ready=lambda: _ready(prepared, seed),
        network=folder,
        effort=of_classifier(prepared),
        together=True,
    )


def _ready(prepared: Prepared, seed: int) -> tuple[Classifier, list[str]]:
    _heats(prepared, seed)  # refused before anything is moved
    return new_classifier(prepared.config.classifier, prepared_spec(prepared), seed)


def _heats(prepared: Prepared, seed: int) -> Callable[[int], np.ndarray] | None:
    """Another run's heatmaps of the training images, where they are asked for."""
    config = prepared.config
    if not config.classifier.augment.heat:
        return None
    lender = lender_of_heat(prepared)
    return heats_of(lender, config.classifier.augment, seed, config.data.image_size)


def predictions_of(prepared: Prepared, seed: int) -> Stage:
    """What a trained classifier says of every case."""
    arch = prepared.config.classifier.arch
    folder = seed_folder(prepared.run.folder, arch, seed)
    return Stage(
        predictions_stage(arch, seed),
        predictions_key(prepared, seed),
        (folder / PREDICTIONS, *_of_slices(folder, arch)),
        lambda _: _predict_seed(prepared, folder, seed),
        inputs=(classifier_stage(arch, seed),),
        effort=of_predictions(prepared),
    )


def _of_slices(folder: Path, arch: str) -> tuple[Path, ...]:
    return (folder / INSTANCES,) if sees_slices(arch) else ()


def _train_seed(
    prepared: Prepared,
    initial: tuple[Classifier, list[str]],
    folder: Path,
    seed: int,
    key: str,
    after_epoch: Callable[[int], None] | None,
) -> dict[str, Any]:
    c = prepared.config.classifier
    model, random = initial
    say_random(c.weights, random)
    what = f"classifier {c.arch}, seed {seed}"
    entry = fit_classifier(
        prepared,
        c,
        model,
        prepared.images,
        folder,
        seed,
        key,
        what,
        after_epoch,
        _heats(prepared, seed),
    )
    return entry | {"random_tensors": random}


def _predict_seed(prepared: Prepared, folder: Path, seed: int) -> dict[str, Any]:
    c = prepared.config.classifier
    best = load_classifier(folder).to(pick_device(prepared.config.device))
    everything = np.arange(len(prepared.cases.cases))
    p = predict_probabilities(
        best, prepared.images.once(), everything, 2 * c.batch_size, best.mean.device
    )
    table = predictions_table(prepared.cases.cases, prepared.cases.labels, p)
    write_text(folder / PREDICTIONS, csv_text(table))
    if isinstance(best, SliceClassifier):
        of_slices = instances_table(best, prepared.images.once(), everything.tolist())
        write_text(folder / INSTANCES, csv_text(of_slices))
    return {}
