"""How many masks is a heatmap worth? One network, trained with ever more patients' masks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from weakseg.config import AUTO, STARTING_WEIGHTS, curve_asked, fingerprint, starting_weights
from weakseg.errors import ConfigError
from weakseg.layout import (
    EQUIVALENCE,
    EQUIVALENCE_STAGE,
    part_path,
    point_file,
    point_stage,
    point_training,
    scores_file,
    segmenter_part,
    segmenter_stage,
)
from weakseg.progress import say
from weakseg.runs import remove_tree, write_text
from weakseg.stages.prepare import Prepared
from weakseg.stages.scoring import read_rows, scored_cases
from weakseg.stages.segmenter_masks import score_probability
from weakseg.stages.segmenters import (
    SUPERVISED,
    is_trained,
    masks_of,
    priors_of,
    segmentation_cases,
    segmenter_key,
    segmenter_settings,
    training_cases,
)
from weakseg.stages.train_segmenter import fit_segmenter
from weakseg.training.segment import SegmentationCases, SegmenterTask, predict

COLUMNS = ("case", "patient", "draw", "k", "masks", "dice", "has_lesion", "false_alarm")


def patient_counts(prepared: Prepared, patients: int) -> list[int]:
    """Numbers of patients on the curve: those asked for, or 1, 2, 4, … and all.

    Raises
    ------
    ConfigError
        If more patients are asked for than there are.
    """
    asked = prepared.config.equivalence.patients
    if isinstance(asked, str):
        doubled = [2**i for i in range(patients.bit_length()) if 2**i < patients]
        # Two points that are nearly the same number tell nothing for the time of a training.
        counts = [k for k in doubled if k <= 0.75 * patients] + [patients]
        most = prepared.config.equivalence.points
        if len(counts) <= most:
            return counts
        return sorted({round(k) for k in np.geomspace(1, patients, most)})
    too_many = [k for k in asked if k > patients]
    if too_many:
        raise ConfigError(
            f"There are fewer than {too_many[0]} training patients with a lesion mask.",
            where="equivalence.patients",
            found=f"{patients} patients",
            fix="ask for fewer, or set auto",
        )
    return sorted(set(asked))


def lesion_patients(prepared: Prepared) -> list[str]:
    """Training patients with at least one lesion mask, sorted."""
    labels = prepared.cases.labels
    cases = [prepared.cases.cases[i] for i in training_cases(prepared)]
    return sorted({c.patient for c in cases if c.mask and labels.is_lesion(c.label)})


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
    counts = patient_counts(prepared, len(everyone))
    draws = list(range(config.equivalence.draws))
    seeds = _seeds(config.segmenter_seeds(name), len(draws))
    path = scores_file(run.folder, EQUIVALENCE)
    points = {(d, k): _point_key(prepared, name, d, k, seeds[d]) for d in draws for k in counts}
    key = fingerprint(EQUIVALENCE_STAGE, 1, list(points.values()))
    if not force and run.is_done(EQUIVALENCE_STAGE, key, path):
        say("mask-equivalence curve: up to date")
        return path
    data = segmentation_cases(prepared, name)
    tables = []
    with run.stage(EQUIVALENCE_STAGE, key) as entry:
        for draw in draws:
            order = np.random.default_rng([config.seed, draw]).permutation(len(everyone))
            for k in counts:
                chosen = [everyone[i] for i in order[:k]]
                tables.append(
                    _point(
                        prepared, name, data, chosen, draw, seeds[draw], points[draw, k],
                        is_all=k == len(everyone), force=force,
                    )
                )  # fmt: skip
        table = pd.concat(tables, ignore_index=True)
        write_text(path, table.to_csv(index=False, float_format="%.6g"))
        entry.update(
            data=prepared.key,
            segmenter=name,
            settings=curve_asked(config, name),
            draws=len(draws),
            counts=counts,
            **{STARTING_WEIGHTS: starting_weights(config, name)},
        )
    return path


def _seeds(known: list[int], draws: int) -> list[int]:
    """A seed a draw: those of the segmenter first, so that its networks need no second training."""
    more = (s for s in range(max(known) + 1, max(known) + 1 + draws))
    return [*known, *more][:draws]


def _point_key(prepared: Prepared, name: str, draw: int, k: int, seed: int) -> str:
    after = segmenter_settings(prepared, name).model_dump(
        mode="json", include={"tile", "overlap", "flips", "recalibrate"}
    )
    made_of = (segmenter_key(prepared, name, seed), after, prepared.config.seed)
    return fingerprint("equivalence-point", 1, *made_of, draw, k)


def _point(
    prepared: Prepared,
    name: str,
    data: SegmentationCases,
    patients: list[str],
    draw: int,
    seed: int,
    key: str,
    *,
    is_all: bool,
    force: bool,
) -> pd.DataFrame:
    """The scores of one training; kept, so that a curve that was broken off goes on."""
    run = prepared.run
    k = len(patients)
    kept = point_file(run.folder, name, draw, k)
    stage = point_stage(name, draw, k)
    if not force and run.is_done(stage, key, kept):
        return _read(kept)
    train = training_cases(prepared, patients)
    with run.stage(stage, key) as entry:
        if is_all and is_trained(prepared, name, seed) and _plain(prepared, name):
            rows = read_rows(part_path(run.folder, segmenter_part(name)))
            rows = rows[rows["seed"] == seed]
            entry.update(same_as=segmenter_stage(name, seed))
        else:
            folder = point_training(run.folder, name, draw, k)
            what = f"{name}, masks of {k} of the patients, draw {draw}"
            rows = pd.DataFrame(_trained_rows(prepared, name, data, train, seed, key, folder, what))
        table = rows.assign(draw=draw, k=k, masks=masks_of(prepared, train))
        table = table.reindex(columns=list(COLUMNS))
        write_text(kept, table.to_csv(index=False, float_format="%.6g"))
        entry.update(masks=masks_of(prepared, train), patients=k)
    return _read(kept)


def _plain(prepared: Prepared, name: str) -> bool:
    """Whether the run's own rows are of one network, made as those of the curve.

    Without validation masks, an average over seeds, screening or a gate.
    """
    s = prepared.config.segmenters[name]
    screened = s.min_peak > 0 or s.min_area > 0 or s.gate != "none"
    alone = len(prepared.config.mask_seeds(name)) == len(prepared.config.segmenter_seeds(name))
    return s.keep == "last" and s.threshold == 0.5 and not s.recalibrate and alone and not screened


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
    settings = segmenter_settings(prepared, name)
    if settings.steps == AUTO:
        whole = SegmenterTask.steps_of(settings, len(training_cases(prepared)))
        settings = settings.model_copy(update={"steps": whole})
    # What a validation mask could tell is not asked.
    quiet = {"keep": "last", "validation_cases": 0, "recalibrate": False}
    settings = settings.model_copy(update=quiet)
    trained = fit_segmenter(prepared, settings, data, train, folder, seed, key=key, what=what)
    threshold = {"kind": SUPERVISED, "threshold": 0.5, "masks_seen": masks_of(prepared, train)}
    test = [i for i, c in enumerate(prepared.cases.cases) if c.split == "test"]
    scored = scored_cases(prepared)
    rows: list[dict[str, Any]] = []
    priors = priors_of(trained.settings)
    with trained.fabric.autocast():
        found = predict(trained.model, data, test, settings, trained.fabric.device, priors)
        for i, p in found:
            probability = data.original(i, p)
            rows += score_probability(prepared, i, probability, threshold, name, seed, scored)
    remove_tree(folder)
    return rows


def _read(path: Path) -> pd.DataFrame:
    text = {"case": str, "patient": str}
    return pd.read_csv(path, dtype=text, keep_default_na=False, na_values=[""])
