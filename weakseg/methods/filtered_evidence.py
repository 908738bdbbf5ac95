"""What the networks of filtered retraining have shown: read from a run, and brought together."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from weakseg import contents
from weakseg.config import Condition
from weakseg.errors import RunError
from weakseg.filtering.measured import summarise_measures
from weakseg.layout import (
    AREAS,
    CURVES,
    PRESERVED,
    condition_folder,
    faithfulness_folder,
    filtered_folder,
)
from weakseg.methods.prepared import Prepared
from weakseg.methods.stored_heatmaps import PREDICTED
from weakseg.scores import EVIDENCE_SCORES, Evidence, evidence_intervals
from weakseg.stored import read_csv


def condition_evidence(
    prepared: Prepared, conditions: Sequence[Condition], name: str
) -> tuple[Evidence, dict[str, np.ndarray]]:
    """The intervals of all conditions by one kind of network, and the kept area of each image.

    Parameters
    ----------
    prepared : Prepared
    conditions : sequence of Condition
    name : str
        Of the file with that network's predictions, in each condition's folder.

    Raises
    ------
    RunError
        If a file is missing or damaged, or the seeds were predicted on other cases.
    """
    config, labels = prepared.config, prepared.cases.labels
    columns = [f"p({label})" for label in labels.names]
    predictions, areas, cases = {}, {}, pd.DataFrame()
    for condition in conditions:
        tables = []
        for seed in config.seeds:
            folder = condition_folder(
                prepared.run.folder, config.classifier.arch, seed, condition.name
            )
            table = _read_condition(folder / name, columns)
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


def _read_condition(path: Path, probabilities: Sequence[str]) -> pd.DataFrame:
    """A table of predictions of a condition with a column of probabilities a class."""
    kinds = contents.CONDITION_PREDICTIONS | dict.fromkeys(probabilities, "number")
    return read_csv(path, kinds, unique=("case",), blank=False)


def condition_row(
    condition: Condition, network: str, evidence: Evidence, area: np.ndarray, masks: int
) -> dict[str, Any]:
    """A row of ``scores/filtered.csv``."""
    row: dict[str, Any] = {
        "condition": condition.name,
        "source": condition.source,
        "size": condition.size,
        "side": condition.side,
        "fill": condition.fill,
        "network": network,
    }
    for score in EVIDENCE_SCORES:
        value, low, high = evidence.interval(condition.name, score)[:3]
        row |= {score: value, f"{score}_low": low, f"{score}_high": high}
    return row | {
        "kept_area": float(area.mean()),
        "kept_area_low": float(np.quantile(area, 0.05)),
        "kept_area_high": float(np.quantile(area, 0.95)),
        "masks_used": masks,
    }


def measured_faithfulness(prepared: Prepared, target: str) -> list[dict[str, Any]]:
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
