"""What the retrained networks tell: the table of conditions, their differences, the answers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from weakseg import contents
from weakseg.config import Condition, FilteredConfig, filtered_fingerprint, fingerprint
from weakseg.errors import RunError
from weakseg.filtering.measured import summarise_measures
from weakseg.filtering.questions import questions
from weakseg.layout import (
    AREAS,
    BEST,
    CURVES,
    FILTERED,
    FILTERED_ANSWERS,
    FILTERED_STAGE,
    ORIGINAL,
    PREDICTIONS,
    PRESERVED,
    condition_folder,
    condition_stage,
    faithfulness_folder,
    faithfulness_stage,
    filtered_folder,
    scores_file,
    seed_folder,
)
from weakseg.methods.prepared import Prepared
from weakseg.methods.stored_heatmaps import PREDICTED
from weakseg.runs import file_hash, write_json, write_text
from weakseg.scores import (
    Evidence,
    caution,
    evidence_intervals,
)
from weakseg.spreadsheets import csv_text
from weakseg.stages.base import Stage, perform
from weakseg.stored import read_csv

NETWORKS = {"retrained": PREDICTIONS, "original": ORIGINAL}
SCORES = ("auc", "accuracy", "balanced_accuracy")


def write_evidence(
    prepared: Prepared,
    settings: FilteredConfig,
    target: str,
    conditions: Sequence[Condition],
    masks_used: dict[str, int],
    left_out: dict[str, str],
    keys: Sequence[str],
    *,
    force: bool = False,
) -> Path:
    """Score every condition over its seeds, and answer the questions.

    Parameters
    ----------
    prepared : Prepared
        With the predictions of every condition and seed in its run folder.
    settings : FilteredConfig
    target : str
    conditions : sequence of Condition
    masks_used : dict
        Condition → how many true masks made its filters.
    left_out : dict
        What was left out → why.
    keys : sequence of str
        Of the networks, see `weakseg.stages.base.Stage`.
    force : bool

    Returns
    -------
    Path
        ``scores/filtered.csv``.
    """
    config, run = prepared.config, prepared.run
    out, answers = (scores_file(run.folder, n) for n in (FILTERED, FILTERED_ANSWERS))
    stage = FILTERED_STAGE
    key = fingerprint(stage, 2, keys, masks_used, left_out, settings, config.scores, config.seed)

    def write(_: None) -> dict[str, Any]:
        evidence, rows = {}, []
        for network, name in NETWORKS.items():
            evidence[network], areas = _read(prepared, conditions, name)
            for c in conditions:
                rows.append(_row(c, network, evidence[network], areas[c.name], masks_used[c.name]))
        write_text(out, csv_text(pd.DataFrame(rows), float_format="%.6g"))
        retrained = evidence["retrained"]
        patients = len({c.patient for c in prepared.cases.of("test")})
        write_json(
            answers,
            {
                "target": target,
                "rule": settings.rule.model_dump(mode="json"),
                "margin": settings.margin,
                "seeds": list(config.seeds),
                "cases": len(prepared.cases.of("test")),
                "patients": patients,
                "cautions": caution(len(config.seeds), patients),
                "left_out": left_out,
                "questions": questions(retrained, conditions, settings.control_sizes),
                "faithfulness": _faithfulness(prepared, target),
            },
        )
        weights = {str(s): file_hash(seed_folder(run.folder, arch, s) / BEST) for s in config.seeds}
        wanted = filtered_fingerprint(config)
        return {
            "data": prepared.key,
            "conditions": len(conditions),
            "weights": weights,
            "asked": wanted,
        }

    arch = config.classifier.arch
    read = [condition_stage(arch, s, c.name) for s in config.seeds for c in conditions]
    if settings.faithfulness.images:
        read += [faithfulness_stage(arch, s) for s in config.seeds]
    what = "answers of filtered retraining"
    made = Stage(stage, key, (out, answers), write, what=what, inputs=tuple(read))
    perform(run, made, force=force)
    return out


def _read(
    prepared: Prepared, conditions: Sequence[Condition], name: str
) -> tuple[Evidence, dict[str, np.ndarray]]:
    """The intervals of all conditions by one kind of network, and the kept area of each image."""
    config, labels = prepared.config, prepared.cases.labels
    columns = [f"p({label})" for label in labels.names]
    predictions, areas, cases = {}, {}, pd.DataFrame()
    for condition in conditions:
        tables = []
        for seed in config.seeds:
            folder = condition_folder(
                prepared.run.folder, config.classifier.arch, seed, condition.name
            )
            table = read_condition(folder / name, columns)
            tables.append(table[table["split"] == "test"].reset_index(drop=True))
        cases = tables[0]
        if any(t["case"].tolist() != cases["case"].tolist() for t in tables):
            raise RunError(
                "The seeds of a condition were predicted on other cases.",
                where=str(filtered_folder(prepared.run.folder)),
                fix="run `weakseg retrain-filtered CONFIG --force`",
            )
        predictions[condition.name] = np.stack([t[columns].to_numpy(dtype=float) for t in tables])
        areas[condition.name] = np.stack([t["kept_area"].to_numpy(dtype=float) for t in tables])
    evidence = evidence_intervals(
        predictions,
        np.array([labels.index(v) for v in cases["label"]]),
        labels.lesion_indices,
        cases["patient"].to_numpy(dtype=str),
        bootstrap=config.scores.bootstrap,
        seed=config.seed,
    )
    return evidence, areas


def read_condition(path: Path, probabilities: Sequence[str]) -> pd.DataFrame:
    """A table of predictions of a condition with a column of probabilities a class."""
    kinds = contents.CONDITION_PREDICTIONS | dict.fromkeys(probabilities, "number")
    return read_csv(path, kinds, unique=("case",), blank=False)


def _row(
    condition: Condition, network: str, evidence: Evidence, area: np.ndarray, masks: int
) -> dict[str, Any]:
    row: dict[str, Any] = {
        "condition": condition.name,
        "source": condition.source,
        "size": condition.size,
        "side": condition.side,
        "fill": condition.fill,
        "network": network,
    }
    for score in SCORES:
        value, low, high = evidence.interval(condition.name, score)[:3]
        row |= {score: value, f"{score}_low": low, f"{score}_high": high}
    return row | {
        "kept_area": float(area.mean()),
        "kept_area_low": float(np.quantile(area, 0.05)),
        "kept_area_high": float(np.quantile(area, 0.95)),
        "masks_used": masks,
    }


def _faithfulness(prepared: Prepared, target: str) -> list[dict[str, Any]]:
    """Every measure over the images of all seeds together; none where none was made."""
    config = prepared.config
    folders = [
        faithfulness_folder(prepared.run.folder, config.classifier.arch, s) for s in config.seeds
    ]
    if not all((f / CURVES).exists() for f in folders):
        return []
    curves, areas, kept = (
        pd.concat([read_csv(f / name, contents.FAITHFULNESS[name], blank=False) for f in folders])
        for name in (CURVES, AREAS, PRESERVED)
    )
    return summarise_measures(
        curves,
        areas,
        kept,
        by_image=target == PREDICTED,
        bootstrap=config.scores.bootstrap,
        seed=config.seed,
    )
