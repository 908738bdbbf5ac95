"""What a report shows of heatmap-filtered retraining: answers, conditions, faithfulness."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image

from weakseg.report.pictures import data_uri
from weakseg.report.read import RunTables
from weakseg.report.sections.base import Content, Section, Subject
from weakseg.report.sections.filtered_figures import (
    conditions_figure,
    curves_figure,
    faithfulness_figure,
)
from weakseg.report.sections.filtered_words import FILLS, answered, condition_words, grouped

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
        "elsewhere": list(answers.get("elsewhere", [])),
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


def build(subject: Subject) -> Content:
    """Answers, conditions and faithfulness; shown where networks were retrained."""
    run = subject.run
    tables = {"filtered": filtered_table(run), "faithfulness": faithfulness_table(run)}
    part = filtered_part(run)
    summary = {"filtered": filtered_summary(part)}
    if part is None:
        return Content(tables=tables, summary=summary, shown=False)
    return Content(part, tables, part["figures"], summary)


def filtered_summary(part: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """What ``report.json`` holds of it beside the tables."""
    if part is None:
        return None
    keys = ("questions", "cautions", "left_out", "seeds", "cases", "patients", "fills")
    return {k: part[k] for k in keys}


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


TEMPLATE = r"""
{% macro filtered_rows(rows, pictures) %}
<div class="scroll"><table class="wrapped filtered"><thead><tr><th class="text">what the network sees</th><th class="text">condition</th><th>share kept <small>[5–95 %]</small></th><th>AUC, retrained</th><th>accuracy, retrained</th><th>AUC, original network</th><th>masks used</th>{% if pictures %}<th class="text">two images with a lesion, one without</th>{% endif %}</tr></thead><tbody>
{% for c in rows %}<tr><th class="text wrap" scope="row">{{ c.in_words }}</th><td class="text"><code>{{ c.condition }}</code></td><td>{% if c.fill == "shape" %}–{% else %}{{ share(c.kept_area, c.kept_area_low, c.kept_area_high) }}{% endif %}</td><td><b>{{ c.auc | num }}</b>{% if interval(c.auc_low, c.auc_high) %} <small>{{ interval(c.auc_low, c.auc_high) }}</small>{% endif %}</td><td>{{ value(c.accuracy, c.accuracy_low, c.accuracy_high) }}</td><td>{{ value(c.original_auc, c.original_auc_low, c.original_auc_high) }}</td><td>{{ c.masks_used | num(0) }}{% if elsewhere and c.size == "hard" %} + elsewhere{% endif %}</td>{% if pictures %}<td class="text">{% if c.picture %}<img src="{{ c.picture }}" alt="{{ c.in_words }}" loading="lazy">{% endif %}</td>{% endif %}</tr>
{% endfor %}</tbody></table></div>
{% endmacro %}
{% macro cell(v, is_share) %}{% if v is none %}–{% elif is_share %}{{ share(v.value, v.low, v.high) }}{% else %}{{ value(v.value, v.low, v.high) }}{% endif %}{% endmacro %}
<h2>Does the classifier need what the heatmap shows?</h2>
<p>For each way to hide a part of the images a fresh network is trained and tested on images that are hidden so. What it can still tell, the rest of the image told.</p>
{% if cautions %}<div class="warn"><ul>{% for c in cautions %}<li>{{ c }}</li>{% endfor %}</ul></div>{% endif %}
{% for g in groups %}
<h3>{{ g.heading }}</h3>
<div class="answer">{% for s in g.sentences %}<p>{{ s }}</p>{% endfor %}</div>
{% for c in g.cautions %}<p class="note"><b>Caution:</b> {{ c }}</p>{% endfor %}
{% endfor %}
<h3>All conditions</h3>
{{ filtered_rows(rows, rows | selectattr("picture") | list) }}
<p class="note">{{ count(cases, "test image") }}, {{ count(patients, "patient") }}, {{ count(seeds, "seed") }}. Brackets: 95&nbsp;% intervals over patients and seeds, both drawn anew in every resample and alike for all conditions; those of the share kept hold 90&nbsp;% of the images. <b>Retrained</b> networks speak of the evidence in the images. The <b>original network</b>, which made the heatmaps, never saw such images in training: where it does worse than the retrained one, a part of its loss comes from images that are strange to it rather than from lost evidence; the rest of the difference may be what the retrained one learnt of the filter's shape.</p>
<p class="note">The heatmap's region is the mask of the rule {{ rule }}{% if elsewhere %}, and so stands on masks seen elsewhere, by {{ elsewhere | join(", ") }}{% endif %}; the gate on the classifier's probability is not applied, so that images called healthy are filtered as well. {% if rows | selectattr("source", "in", ["truth", "box"]) | list %}True masks are grown by {{ count(margin, "pixel") }} of the network's square. A healthy image borrows the true mask of another image, lest an empty mask tell the class; “shape alone of the lesion” says how well that went.{% endif %} Rest of the image: {{ fills | join(", ") or "nothing" }} (zero: black; the training mean: of each channel; imputation: smoothly from the pixels around, with noise). <b>Shape alone</b>: the filter itself, without any pixel of the image.{% if curve_rows %} Conditions of the curves stand below them.{% endif %}</p>
{% for what, why in left_out.items() %}<p class="note"><b>Left out</b>: {{ what }}, because {{ why }}.</p>{% endfor %}
{{ figure(figures.conditions, "AUC of each condition. Filled: trained anew on such images; hollow: the original network on the same images. Blue: heatmap; purple: true mask; grey: controls; green: the whole image.", wide=true) }}
{% if figures.curves is defined %}
{{ figure(figures.curves, "AUC of networks trained anew at every share, by what ranks the pixels; bands: 95\u00a0% intervals. Removing (ROAR): a good heatmap falls fast. Keeping (KAR): a good heatmap rises fast. A share of 0 removed and of 100\u00a0% kept is the whole image.", wide=true) }}
<details><summary>The curves as a table</summary>
{{ filtered_rows(curve_rows, false) }}</details>
{% endif %}
{% if scored %}
<h3>The heatmap against its own network</h3>
<p>Nothing is trained here: pixels are removed or shown in the order of the heatmap, and the original network predicts again. Scored are {{ called }}: {{ count(scored.images, "pair") }} of a test image and a seed, from {{ count(scored.patients, "patient") }}.</p>
{% if figures.faithfulness is defined %}{{ figure(figures.faithfulness, "Mean probability of the target class; bands: 95\u00a0% intervals over patients. ROAD and deletion: hottest first should fall below random. Insertion, from a blurred image: hottest first should rise above it.", wide=true) }}{% endif %}

<div class="scroll"><table><thead><tr><th class="text">measure</th><th>heatmap</th><th>random order</th></tr></thead><tbody>
{% for s in scored.rows %}<tr><td class="text">{{ s.name }}</td><td>{{ cell(s.heat, s.is_share) }}</td><td>{{ cell(s.random, s.is_share) }}</td></tr>
{% endfor %}</tbody></table></div>
<p class="note">Prediction preserved: how often the predicted class stays when only the heatmap's region is kept and the rest filled with the training mean; probability kept: that of this class; image preserved: the share of the image that is kept. These definitions are ours: work on attribution uses the first and the last name, but we do not know its formulas. Much of the prediction from little of the image is good.</p>
{% endif %}
"""

SECTION = Section("filtered", build, TEMPLATE)
