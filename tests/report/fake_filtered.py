"""Results of heatmap-filtered retraining, written by hand into a fake run."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from PIL import Image

from weakseg.config import filtered_fingerprint, load_config, parse_condition
from weakseg.runs import read_json, write_json, write_text

SPLITS_KEY = "splits"
AUCS = {
    "raw": 0.93,
    "heat-hard-keep-mean": 0.9,
    "heat-hard-remove-mean": 0.75,
    "heat-hard-shape": 0.7,
    "truth-keep-mean": 0.88,
    "truth-remove-mean": 0.56,
    "truth-shape": 0.52,
    "random-hard-keep-mean": 0.7,
    "gaussian-hard-keep-mean": 0.8,
    "shuffled-hard-keep-mean": 0.72,
    "truth-hard-keep-mean": 0.91,
    "heat-top10-remove-mean": 0.8,
    "heat-top50-remove-mean": 0.6,
    "random-top10-remove-mean": 0.92,
    "random-top50-remove-mean": 0.85,
    "heat-top10-keep-mean": 0.85,
    "heat-top50-keep-mean": 0.92,
    "random-top10-keep-mean": 0.6,
    "random-top50-keep-mean": 0.84,
}
HALF = 0.04


def ends(value: float | None, half: float | None = HALF) -> dict[str, float | None]:
    """An interval as the JSON holds it; without a half width it has no ends."""
    if value is None or half is None:
        return {"value": value, "low": None, "high": None}
    return {"value": value, "low": value - half, "high": value + half}


def conditions(aucs: dict[str, float] | None = None, half: float | None = HALF) -> pd.DataFrame:
    """The table; the original network does 0.1 worse everywhere but on raw images."""
    rows = []
    for network, worse in (("retrained", 0.0), ("original", 0.1)):
        for name, auc in (aucs or AUCS).items():
            c = parse_condition(name)
            row: dict[str, Any] = {"condition": name, "network": network}
            row |= {k: getattr(c, k) for k in ("source", "size", "side", "fill")}
            for score, lower in (("auc", 0.0), ("accuracy", 0.05), ("balanced_accuracy", 0.06)):
                value = auc - lower - (worse if name != "raw" else 0)
                found = ends(value, half)
                row |= {score: value, f"{score}_low": found["low"], f"{score}_high": found["high"]}
            kept = 0.0 if c.fill == "shape" else 1.0 if name == "raw" else 0.25
            row |= {"kept_area": kept, "kept_area_low": kept / 2, "kept_area_high": kept}
            rows.append(row | {"masks_used": 64 if c.sees_masks else 0})
    table = pd.DataFrame(rows)
    return table.astype({c: float for c in table if c.endswith(("_low", "_high"))})


def tumour(verdict: str = "yes", reason: str = "clear", **changes: Any) -> dict[str, Any]:
    return {
        "question": "tumour",
        "fill": "mean",
        "verdict": verdict,
        "reason": reason,
        "share_lost": {"value": 0.84, "low": 0.7, "high": 0.95},
        "raw": ends(0.93),
        "removed": ends(0.56),
        "alone": ends(0.88),
        "shape": ends(0.52),
    } | changes


def dark(verdict: str = "yes", reason: str = "beyond shape", **changes: Any) -> dict[str, Any]:
    return {
        "question": "dark",
        "size": "hard",
        "fill": "mean",
        "verdict": verdict,
        "reason": reason,
        "raw": ends(0.93),
        "dark": ends(0.75),
        "bright": ends(0.9),
        "shape": ends(0.7),
        "beyond_shape": ends(0.05, 0.02),
    } | changes


def control(verdict: str = "more", reason: str = "clear", **changes: Any) -> dict[str, Any]:
    return {
        "question": "control",
        "size": "hard",
        "fill": "mean",
        "control": "random",
        "verdict": verdict,
        "reason": reason,
        "heat": ends(0.9),
        "other": ends(0.7),
        "lead": ends(0.2),
        "shape": ends(0.52),
    } | changes


def faithfulness(half: float | None = 0.05) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []

    def add(measure: str, order: str, kind: str, value: float, **more: Any) -> None:
        what = {"measure": measure, "order": order, "kind": kind, "images": 40, "patients": 9}
        found.append(what | ends(value, half) | more)

    falls = {"most": 0.8, "random": 0.4, "least": 0.1}
    for order, slope in falls.items():
        for share in (0.1, 0.5, 0.9):
            add("road", order, "curve", 0.9 - slope * share, share=share)
    for order in ("most", "random"):
        for k in range(21):
            add("deletion", order, "curve", 0.9 - falls[order] * k / 20, share=k / 20)
            add("insertion", order, "curve", 0.1 + falls[order] * k / 20, share=k / 20)
    add("deletion", "most", "area", 0.311)
    add("deletion", "random", "area", 0.622)
    add("insertion", "most", "area", 0.733)
    add("insertion", "random", "area", 0.444)
    add("prediction_preserved", "most", "preserved", 0.85)
    add("probability_kept", "most", "preserved", 0.777)
    add("image_preserved", "most", "preserved", 0.23)
    return found


def add_filtered(
    run: Path,
    questions: Sequence[dict[str, Any]] | None = None,
    *,
    table: pd.DataFrame | None = None,
    data: str = SPLITS_KEY,
    arch: str = "resnet18",
    scored: bool = True,
    **answers: Any,
) -> Path:
    """Write the results, the pictures and the record into a run of `make_run`.

    Parameters
    ----------
    data : str
        The splits that the results are of; the run has `SPLITS_KEY`.
    answers
        Changes to ``scores/filtered.json``.
    """
    record = read_json(run / "run.json")
    seeds = [int(s.rsplit("/", 1)[1]) for s in record["stages"] if s.startswith("classifier/")]
    table = conditions() if table is None else table
    write_text(run / "scores" / "filtered.csv", table.to_csv(index=False, float_format="%.6g"))
    held = {
        "target": "lesion",
        "rule": {"rule": "fixed", "at": 0.5},
        "margin": 2,
        "seeds": seeds,
        "cases": 24,
        "patients": 6,
        "cautions": [],
        "left_out": {},
        "questions": [tumour(), dark(), control()] if questions is None else list(questions),
        "faithfulness": faithfulness() if scored else [],
    }
    write_text(run / "scores" / "filtered.json", json.dumps(held | answers))
    record["data"]["splits_key"] = SPLITS_KEY
    for seed in seeds:
        for name in dict.fromkeys(table["condition"]):
            record["stages"][f"filtered/{arch}/{seed}/{name}"] = {"key": "k", "seconds": 1.0}
            folder = run / "filtered" / arch / f"seed-{seed}" / name
            folder.mkdir(parents=True, exist_ok=True)
            Image.new("L", (96, 32), 128).save(folder / "examples.png")
    asked = filtered_fingerprint(load_config(run / "config.yaml"))
    made = {"key": "k", "seconds": 1.0, "data": data, "asked": asked}
    record["stages"]["filtered"] = made
    write_json(run / "run.json", record)
    return run
