"""How many masks is a heatmap worth? One network, trained with ever more patients' masks."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pandas as pd

from weakseg import contents
from weakseg.config import (
    STARTING_WEIGHTS,
    curve_fingerprint,
    fingerprint,
    starting_weights,
)
from weakseg.layout import (
    EQUIVALENCE,
    EQUIVALENCE_STAGE,
    masks_stage,
    part_path,
    point_file,
    point_stage,
    point_training,
    scores_file,
    segmenter_part,
    segmenter_stage,
)
from weakseg.methods.base import SUPERVISED
from weakseg.methods.fitting import fit_segmenter
from weakseg.methods.mask_curve import (
    is_plain,
    lesion_patients,
    point_cases,
    point_key,
    point_settings,
    seeds_of_draws,
)
from weakseg.methods.network import NetworkMethod
from weakseg.methods.prepared import Prepared
from weakseg.methods.segment_cases import score_predictions
from weakseg.methods.segmenter_networks import Networks
from weakseg.methods.segmenters import (
    is_trained,
    masks_of,
    segmentation_cases,
)
from weakseg.runs import remove_tree, write_text
from weakseg.scores.stored import read_rows
from weakseg.spreadsheets import csv_text
from weakseg.stages.base import Stage, perform
from weakseg.stages.effort import of_segmenter
from weakseg.stored import read_csv
from weakseg.training.segmentation_cases import SegmentationCases

COLUMNS = ("case", "patient", "draw", "k", "masks", "dice", "has_lesion", "false_alarm")


def mask_equivalence(prepared: Prepared, *, force: bool = False) -> Path:
    """Train the experiment's network with the masks of 1, 2, 4, … patients, and score each.

    Within a draw the patients of a smaller number are among those of a larger. Healthy images
    need no mask, so that all of them train at every number. Every training takes as many steps as
    the one with all masks. No validation mask is used, and the threshold stays 0.5.

    Returns
    -------
    Path
        ``scores/equivalence.csv``: one row a test case, draw and number of patients.
    """
    config, run = prepared.config, prepared.run
    name = config.equivalence.segmenter
    assert name is not None
    everyone = lesion_patients(prepared)
    counts = config.equivalence.patient_counts(len(everyone))
    draws = list(range(config.equivalence.draws))
    seeds = seeds_of_draws(config.segmenter_seeds(name), len(draws))
    path = scores_file(run.folder, EQUIVALENCE)
    data = cache(lambda: segmentation_cases(prepared, name))
    points = [
        _point_of(prepared, name, data, everyone, draw, k, seeds[draw])
        for draw in draws
        for k in counts
    ]
    for point in points:
        perform(run, point, force=force)

    def write(_: None) -> dict[str, Any]:
        table = pd.concat([_read(point.outputs[0]) for point in points], ignore_index=True)
        write_text(path, csv_text(table, float_format="%.6g"))
        return {
            "data": prepared.key,
            "segmenter": name,
            "settings": curve_fingerprint(config, name),
            "draws": len(draws),
            "counts": counts,
            STARTING_WEIGHTS: starting_weights(config, name),
        }

    curve = Stage(
        EQUIVALENCE_STAGE,
        # A report asks for these settings, also for those that leave every point as it is.
        fingerprint(
            EQUIVALENCE_STAGE, 2, name, curve_fingerprint(config, name), [p.key for p in points]
        ),
        (path,),
        write,
        what="mask-equivalence curve",
        inputs=tuple(point.name for point in points),
    )
    perform(run, curve, force=force)
    return path


def _point_of(
    prepared: Prepared,
    name: str,
    data: Callable[[], SegmentationCases],
    everyone: list[str],
    draw: int,
    k: int,
    seed: int,
) -> Stage:
    """One training and its scores; kept, so that a curve that was broken off goes on."""
    run = prepared.run
    train = point_cases(prepared, everyone, draw, k)
    kept = point_file(run.folder, name, draw, k)
    key = point_key(prepared, name, draw, k, seed)
    # The run's own network of all masks needs no second training.
    same = k == len(everyone) and is_plain(prepared, name) and is_trained(prepared, name, seed)

    def write(_: None) -> dict[str, Any]:
        if same:
            rows = read_rows(part_path(run.folder, segmenter_part(name)))
            rows = rows[rows["seed"] == seed]
        else:
            what = f"{name}, masks of {k} of the patients, draw {draw}"
            folder = point_training(run.folder, name, draw, k)
            trained = _trained_rows(prepared, name, data(), train, seed, key, folder, what)
            rows = pd.DataFrame(trained)
        table = rows.assign(draw=draw, k=k, masks=masks_of(prepared, train))
        table = table.reindex(columns=list(COLUMNS))
        write_text(kept, csv_text(table, float_format="%.6g"))
        about = {"masks": masks_of(prepared, train), "patients": k}
        return about | ({"same_as": segmenter_stage(name, seed)} if same else {})

    inputs = (masks_stage(name),) if same else ()
    effort = None if same else of_segmenter(prepared, name)
    return Stage(point_stage(name, draw, k), key, (kept,), write, inputs=inputs, effort=effort)


def _trained_rows(
    prepared: Prepared,
    name: str,
    data: SegmentationCases,
    train: list[int],
    seed: int,
    key: str,
    folder: Path,
    what: str,
) -> list[dict[str, Any]]:
    settings = point_settings(prepared, name)
    trained = fit_segmenter(prepared, settings, data, train, folder, seed, key=key, what=what)
    seen = masks_of(prepared, train)
    threshold = {"kind": SUPERVISED, "threshold": 0.5, "masks_seen": seen, "chosen_on": "nothing"}
    test = prepared.cases.file_by_file("test")
    networks = Networks((trained.model,), (trained.settings,))
    method = NetworkMethod(name, (seed,), prepared.config, networks, settings, threshold)
    predictions = ((data.cases[i], p) for i, p in method.over(data, test))
    scored = score_predictions(prepared, method, predictions, seed)
    rows = [row for s in scored for row in s.rows.cases]
    remove_tree(folder)
    return rows


def _read(path: Path) -> pd.DataFrame:
    return read_csv(path, contents.EQUIVALENCE, unique=("case", "draw", "k"), blank=False)
