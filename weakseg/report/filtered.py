"""What a report shows of heatmap-filtered retraining: answers, conditions, faithfulness."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image

from weakseg.report.filtered_figures import (
    conditions_figure,
    curves_figure,
    faithfulness_figure,
)
from weakseg.report.filtered_words import FILLS, answered, condition_words, grouped
from weakseg.report.pictures import data_uri
from weakseg.report.read import RunTables

FILTERED_COLUMNS = (
    "condition", "in_words", "source", "size", "side", "fill", "network",
    "auc", "auc_low", "auc_high", "accuracy", "accuracy_low", "accuracy_high",
    "balanced_accuracy", "balanced_accuracy_low", "balanced_accuracy_high",
    "kept_area", "kept_area_low", "kept_area_high", "masks_used",
)  # fmt: skip
FAITHFULNESS_COLUMNS = (
    "measure", "order", "kind", "share", "value", "low", "high", "images", "patients",
)  # fmt: skip
STRIP_HEIGHT = 112
"""Pixels of a strip of examples; the page shows it somewhat smaller."""
_SUMMED = (
    ("area under the deletion curve (low is good)", "deletion", "area"),
    ("area under the insertion curve (high is good)", "insertion", "area"),
    ("prediction preserved", "prediction_preserved", "preserved"),
    ("probability kept", "probability_kept", "preserved"),
    ("image preserved", "image_preserved", "preserved"),
)
_SHARES = ("prediction_preserved", "image_preserved")


def filtered_table(run: RunTables) -> pd.DataFrame:
    """``scores/filtered.csv`` with each condition in words; empty where it was not made."""
    table = run.filtered
    if table.empty:
        return pd.DataFrame(columns=list(FILTERED_COLUMNS))
    several = len(_fills(table)) > 1
    named = [condition_words(row, several) for row in table.to_dict(orient="records")]
    return table.assign(in_words=named).reindex(columns=list(FILTERED_COLUMNS))


def faithfulness_table(run: RunTables) -> pd.DataFrame:
    """Mean and interval of every measure of the heatmaps against their own network."""
    rows = run.filtered_answers.get("faithfulness", [])
    table = pd.DataFrame(rows).reindex(columns=list(FAITHFULNESS_COLUMNS))
    # A missing end is null in JSON.
    numbers = ["share", "value", "low", "high"]
    return table.assign(**{c: pd.to_numeric(table[c]) for c in numbers})


def filtered_part(run: RunTables) -> dict[str, Any] | None:
    """The section of a run; None where nothing was retrained, or with other splits.

    Returns
    -------
    dict or None
        ``questions`` (see `answered`), ``groups`` (the same by question), ``rows`` and
        ``curve_rows`` (the conditions), ``scored`` (faithfulness, or None), ``figures``
        (name → SVG), and what the notes name.
    """
    table, answers = filtered_table(run), run.filtered_answers
    if table.empty:
        return None
    said = answered(answers, table)
    top = is_curve(table)
    faithful = faithfulness_table(run)
    drawn = {"conditions": conditions_figure(table[~top])}
    if top.any():
        drawn["curves"] = curves_figure(table)
    if (faithful["kind"] == "curve").any():
        drawn["faithfulness"] = faithfulness_figure(faithful)
    pictured = run.config.report.gallery > 0
    return {
        "questions": said,
        "groups": grouped(said),
        "rows": [
            row | {"picture": _examples(run, row["condition"]) if pictured else ""}
            for row in condition_rows(table[~top])
        ],
        "curve_rows": condition_rows(table[top]),
        "scored": faithfulness_rows(faithful),
        "figures": drawn,
        "fills": [FILLS.get(f, f) for f in _fills(table)],
        "rule": _rule_words(answers.get("rule", {})),
        "called": _called(str(answers.get("target", "lesion"))),
        "margin": answers.get("margin", 0),
        "seeds": len(answers.get("seeds", [])),
        "cases": answers.get("cases"),
        "patients": answers.get("patients"),
        "cautions": list(answers.get("cautions", [])),
        "left_out": dict(answers.get("left_out", {})),
    }


def is_curve(table: pd.DataFrame) -> pd.Series:
    """Which conditions belong to the curves over the share of the image, not to the table."""
    sizes = table["size"].astype(str)
    top = sizes.str.startswith("top") & (table["fill"] != "shape")
    # One share alone is that of the controls: no curve, and a row like any other.
    return top & (sizes[top].nunique() > 1)


def condition_rows(table: pd.DataFrame) -> list[dict[str, Any]]:
    """A line a condition: the retrained networks, and the AUC of the original ones beside it."""
    columns = ["condition", "auc", "auc_low", "auc_high"]
    original = table.loc[table["network"] == "original", columns]
    fresh = table[table["network"] == "retrained"]
    beside = original.set_index("condition").add_prefix("original_")
    rows = fresh.join(beside, on="condition").to_dict(orient="records")
    return [{str(k): v for k, v in row.items()} for row in rows]


def faithfulness_rows(faithful: pd.DataFrame) -> dict[str, Any] | None:
    """The areas and what is preserved: by the order of the heatmap and by a random one."""
    summed = faithful[faithful["kind"] != "curve"].dropna(subset=["value"])
    if summed.empty:
        return None
    rows = []
    for name, measure, kind in _SUMMED:
        of = summed[(summed["measure"] == measure) & (summed["kind"] == kind)]
        if len(of):
            by_order = of.set_index("order")[["value", "low", "high"]].to_dict(orient="index")
            cells = {"heat": by_order.get("most"), "random": by_order.get("random")}
            rows.append({"name": name, "is_share": measure in _SHARES} | cells)
    first = summed.iloc[0]
    return {"rows": rows, "images": int(first["images"]), "patients": int(first["patients"])}


def filtered_summary(part: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """What ``report.json`` holds of it beside the tables."""
    if part is None:
        return None
    told = ("questions", "cautions", "left_out", "seeds", "cases", "patients", "fills")
    return {k: part[k] for k in told}


def _fills(table: pd.DataFrame) -> Sequence[str]:
    filtered = table[(table["source"] != "raw") & (table["fill"] != "shape")]
    return [str(f) for f in dict.fromkeys(filtered["fill"])]


def _rule_words(rule: Mapping[str, Any]) -> str:
    settings = ", ".join(f"{k} {json.dumps(v)}" for k, v in rule.items() if k != "rule")
    return f"{rule.get('rule', '?')} ({settings})" if settings else str(rule.get("rule", "?"))


def _called(target: str) -> str:
    """Which images are scored against the network that made the heatmaps."""
    if target == "predicted":
        return "every image, for the class that the network itself gives it"
    named = "a lesion" if target == "lesion" else target
    return f"the images that the network itself calls {named}"


def _examples(run: RunTables, condition: str) -> str:
    """The first seed's strip of test images as the network sees them; empty where it is gone."""
    try:
        with Image.open(run.examples_path(run.config.seeds[0], condition)) as picture:
            width = max(1, round(picture.width * STRIP_HEIGHT / picture.height))
            strip = picture.convert("RGB").resize((width, STRIP_HEIGHT), Image.Resampling.LANCZOS)
    except (OSError, ValueError):
        return ""
    return data_uri(np.asarray(strip))
