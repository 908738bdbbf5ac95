"""``weakseg heatmap-segment --sweep``: which method at which layer, seen by validation masks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from weakseg.config import fingerprint
from weakseg.errors import UserError, count
from weakseg.heatmaps.cam import LAYERLESS
from weakseg.heatmaps.every_layer import IMAGE, SWEPT, heats_of_layers
from weakseg.layout import BEST, SWEEP, SWEEP_STAGE, scores_file, seed_folder
from weakseg.masks.set_thresholds import GRID
from weakseg.masks.thresholds import dice_curve, normalise
from weakseg.methods.cases import read_truth
from weakseg.methods.classifiers import classifier_key, load_classifier
from weakseg.methods.heatmap_choices import learnt_weights
from weakseg.methods.prepared import Prepared, require_classifier, require_images
from weakseg.methods.stored_heatmaps import require_classifiers
from weakseg.models.classifier import Classifier
from weakseg.models.layers import FUSED, depths, find_layers
from weakseg.progress import progress, say
from weakseg.runs import file_hash, write_text
from weakseg.spreadsheets import csv_text
from weakseg.stages.base import Stage, perform
from weakseg.training.loop import in_precision, pick_device


def sweep(prepared: Prepared, *, force: bool = False) -> Path:
    """Compare methods, layers and thresholds on the validation masks.

    Parameters
    ----------
    prepared : Prepared
        With the classifier of the first seed in its run folder.
    force : bool
        Make again what is up to date.

    Returns
    -------
    Path
        ``scores/sweep.csv``: ``method``, ``layer`` (one of `weakseg.models.layers.depths`,
        ``fused`` for all of them, or ``image`` of a method without a layer), ``threshold`` (of
        the heatmap over its own maximum), ``dice`` (mean over validation lesions),
        ``masks_seen``. Target, score, flips and fusion are those of the experiment's ``heatmap``:
        with ``fusion: labels`` each method's depths count what its ``weights`` say where they are
        of these depths, else what validation labels say.

    Raises
    ------
    RunError
        If the classifier is missing.
    UserError
        If no validation lesion has a mask.
    """
    require_images(prepared, "The sweep of heatmaps")
    require_classifier(prepared, "Heatmaps")
    require_classifiers(prepared)
    config, run = prepared.config, prepared.run
    seed, labels = config.seeds[0], prepared.cases.labels
    cases = prepared.cases.cases
    chosen = [
        i
        for i, c in enumerate(cases)
        if c.split == "val" and c.mask is not None and labels.is_lesion(c.label)
    ]
    if not chosen:
        raise UserError(
            "The sweep compares heatmaps with validation masks, and there are none.",
            where=prepared.cases.source,
            fix="fill the column `mask` for lesions of the validation split",
        )
    best = seed_folder(run.folder, config.classifier.arch, seed) / BEST
    looked_at = {"target", "score", "flips", "precision"}
    looked_at |= set() if config.heatmap.fusion == "mean" else {"fusion"}  # a later setting
    if config.heatmap.fusion == "labels":
        looked_at |= {"weights", "layer"}
    settings = config.heatmap.model_dump(mode="json", include=looked_at)
    path = scores_file(run.folder, SWEEP)
    key = fingerprint(
        SWEEP_STAGE,
        1,
        classifier_key(prepared, seed),
        file_hash(best),
        settings,
        SWEPT,
        *prepared.masks_key,
    )

    def write(_: None) -> dict[str, Any]:
        curves = _curves(prepared, seed, chosen)
        rows = [
            {"method": m, "layer": layer, "threshold": round(float(t), 4), "dice": float(d)}
            | {"masks_seen": len(chosen)}
            for (m, layer), curve in curves.items()
            for t, d in zip(GRID, curve, strict=True)
        ]
        write_text(path, csv_text(pd.DataFrame(rows), float_format="%.6g"))
        (m, layer), curve = max(curves.items(), key=lambda kv: float(kv[1].max()))
        say(
            f"sweep: {m} at {layer}, threshold {GRID[int(curve.argmax())]:.2f}, reaches a Dice of "
            f"{curve.max():.3f} on {count(len(chosen), 'validation mask')}; what is chosen by it "
            f"has seen {'it' if len(chosen) == 1 else 'them'}"
        )
        return {"masks_seen": len(chosen), "seed": seed, "data": prepared.key}

    perform(run, Stage(SWEEP_STAGE, key, (path,), write, what="sweep"), force=force)
    return path


def _curves(prepared: Prepared, seed: int, chosen: list[int]) -> dict[tuple[str, str], np.ndarray]:
    """Mean Dice over `GRID` of every method and layer."""
    config, cases = prepared.config, prepared.cases.cases
    model = load_classifier(seed_folder(prepared.run.folder, config.classifier.arch, seed))
    device, precision = pick_device(config.device), config.heatmap_precision(config.heatmap.method)
    model = model.to(device)
    with in_precision(device, precision):
        weights = _weights(prepared, model)
    total: dict[tuple[str, str], Any] = {}
    bar = progress("sweep", len(SWEPT) * len(chosen))
    with bar as advance, in_precision(device, precision):
        heats = heats_of_layers(
            model, prepared.cases.labels, prepared.images, chosen, config.heatmap, weights
        )
        for method, layer, i, heat in heats:
            truth = read_truth(cases[i], heat.shape, False, config.data)
            curve = dice_curve(normalise(heat), truth, GRID) / len(chosen)
            total[method, layer] = total.get((method, layer), 0) + curve
            if layer in (FUSED, IMAGE):
                advance()
    return total


def _weights(prepared: Prepared, model: Classifier) -> dict[str, list[float]]:
    """What all depths count in `FUSED` by each method, as the experiment's heatmap asks for it."""
    config, side = prepared.config.heatmap, prepared.config.data.image_size
    if config.fusion != "labels":
        return {}
    of_layers = [m for m in SWEPT if m not in LAYERLESS]
    if config.weights is not None:
        if [n for n, _ in find_layers(model, config.layer, side)] == list(depths(model, side)):
            return dict.fromkeys(of_layers, config.weights)
        say(
            f"sweep: heatmap.weights are of other layers than {FUSED} is of "
            f"({', '.join(depths(model, side))}), which count alike there"
        )
        return {}
    weights, alike = dict[str, list[float]](), list[str]()
    for method in of_layers:
        settings = config.model_copy(update={"method": method, "layer": FUSED, "scales": [1.0]})
        _, learnt = learnt_weights(prepared, [model], settings)
        if learnt is None:
            alike.append(method)
        else:
            weights[method] = learnt
    if alike:
        say(
            f"sweep: the validation labels prefer no layer of {', '.join(alike)}, so that all "
            f"count alike in {FUSED}"
        )
    return weights
