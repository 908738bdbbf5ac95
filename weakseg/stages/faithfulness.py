"""Scores of heatmaps against the very network that they explain: ROAD, insertion, deletion."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pandas as pd
import torch

from weakseg.config import FilteredConfig, fingerprint
from weakseg.data.arrays import ImageBatches
from weakseg.filtering.measured import score_selection
from weakseg.filtering.selectors import Selector
from weakseg.heatmaps.explaining import target_classes
from weakseg.layout import (
    FAITHFULNESS,
    faithfulness_folder,
    faithfulness_stage,
    predictions_stage,
    seed_folder,
)
from weakseg.methods.classifiers import load_classifier
from weakseg.methods.explained import called_target
from weakseg.methods.prepared import Prepared
from weakseg.methods.stored_heatmaps import PREDICTED, heatmap_key
from weakseg.progress import progress
from weakseg.runs import remove_tree, write_text
from weakseg.spreadsheets import csv_text
from weakseg.stages.base import Stage, forget, perform
from weakseg.training.loop import pick_device


def score_heatmaps(
    prepared: Prepared,
    settings: FilteredConfig,
    target: str,
    seed: int,
    made_by: Mapping[str, Any],
    images: ImageBatches,
    sources: Callable[[], tuple[Selector, Any]],
    inputs: tuple[str, ...],
    *,
    force: bool = False,
) -> None:
    """ROAD, insertion, deletion and preservation of one seed's heatmaps on test images.

    Only images that the network itself calls a target class are looked at: elsewhere there is no
    probability that removing evidence could lower. No label is read.

    Parameters
    ----------
    prepared : Prepared
    settings : FilteredConfig
    target : str
        Of the heatmaps: ``lesion``, a label, or ``predicted``.
    seed : int
    made_by : mapping
        What the masks whose preservation is scored depend on besides the heatmaps.
    images : ImageBatches
    sources : callable
        Gives what marks the pixels, and the training images' channel means.
    inputs : tuple of str
        Names of the heatmaps' stages.
    force : bool
    """
    wanted = settings.faithfulness
    arch = prepared.config.classifier.arch
    folder = faithfulness_folder(prepared.run.folder, arch, seed)
    stage = faithfulness_stage(arch, seed)
    if wanted.images == 0:
        forget(prepared.run, stage)
        remove_tree(folder)
        return
    heat = heatmap_key(prepared, seed, target)
    key = fingerprint("faithfulness", 2, heat, wanted, made_by, prepared.config.seed)
    outputs = tuple(folder / name for name in FAITHFULNESS)

    def write(_: None) -> dict[str, Any]:
        model_folder = seed_folder(prepared.run.folder, arch, seed)
        chosen = called_target(prepared, target, model_folder, wanted.images)
        tables = _score(prepared, settings, target, seed, chosen, images, *sources())
        for path, table in zip(outputs, tables, strict=True):
            write_text(path, csv_text(table))
        return {"images": len(chosen)}

    what = f"heatmaps against their network, seed {seed}"
    inputs = (*inputs, predictions_stage(arch, seed))
    perform(prepared.run, Stage(stage, key, outputs, write, what=what, inputs=inputs), force=force)


def _score(
    prepared: Prepared,
    settings: FilteredConfig,
    target: str,
    seed: int,
    chosen: list[int],
    images: ImageBatches,
    selector: Selector,
    means: Any,
) -> list[pd.DataFrame]:
    config, wanted = prepared.config, settings.faithfulness
    folder = seed_folder(prepared.run.folder, config.classifier.arch, seed)
    model = load_classifier(folder).to(pick_device(config.device))

    def predict(batch: np.ndarray) -> np.ndarray:
        with torch.no_grad():
            logits = model(torch.from_numpy(batch).to(model.mean.device))
        return logits.float().softmax(1).cpu().numpy()

    classes = (
        tuple(range(len(prepared.cases.labels.names)))
        if target == PREDICTED
        else target_classes(target, prepared.cases.labels)
    )
    with progress(f"heatmaps against their network, seed {seed}", len(chosen)) as advance:
        tables = score_selection(
            predict,
            images,
            chosen,
            selector,
            classes,
            means,
            steps=wanted.steps,
            percents=wanted.percent,
            seed=seed,
            advance=advance,
        )
    cases = prepared.cases.cases
    for table in tables:
        numbers = table.pop("image").tolist()
        table.insert(0, "case", [cases[i].id for i in numbers])
        table.insert(1, "patient", [cases[i].patient for i in numbers])
    return [t.round(6) for t in tables]
