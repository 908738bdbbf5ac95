"""How well the classifier knows images with a lesion from those without."""

from __future__ import annotations

from typing import Any

import pandas as pd

from weakseg.report import figures
from weakseg.report.read import RunTables
from weakseg.report.sections.base import Content, Section, Subject
from weakseg.report.tables import classifier_table, confusion_table


def build(subject: Subject) -> Content:
    """Scores of every split and seed, confusion, and three figures."""
    run = subject.run
    table = classifier_table({s: t.scores for s, t in run.classifiers.items()})
    predictions = [t.predictions for t in run.classifiers.values()]
    confusion = confusion_table(predictions, subject.labels, split="test")
    context = {
        "scores": _score_rows(table),
        "splits": sorted(table["split"].unique()),
        "many_seeds": len(run.classifiers) > 1,
        "seeds": [str(s) for s in run.classifiers],
        "confusion": confusion,
    }
    tables = {"classifier": table, "confusion": confusion.rename_axis("label").reset_index()}
    return Content(context, tables, _figures(run), shown=subject.has_classifier)


def _score_rows(classifier: pd.DataFrame) -> dict[str, dict[str, dict[str, Any]]]:
    """Score → split → seed or "mean" → value, low, high and seed_sd."""
    rows: dict[str, dict[str, dict[str, Any]]] = {}
    for _, row in classifier.iterrows():
        by_seed = rows.setdefault(str(row["score"]), {}).setdefault(str(row["split"]), {})
        by_seed[str(row["seed"])] = {k: row[k] for k in ("value", "low", "high", "seed_sd")}
    return rows


def _figures(run: RunTables) -> dict[str, str]:
    drawn = {}
    metrics = {s: t.metrics for s, t in run.classifiers.items() if len(t.metrics)}
    if metrics:
        drawn["training"] = figures.training_figure(metrics)
    lesion_labels = run.data.get("lesion_labels", [])
    truths, p = {}, {}
    for seed, t in run.classifiers.items():
        test = t.predictions[t.predictions["split"] == "test"]
        truth = test["label"].isin(lesion_labels)
        if truth.any() and not truth.all():
            truths[seed] = truth.to_numpy()
            p[seed] = test["lesion_probability"].to_numpy()
    if truths:
        drawn["roc"] = figures.roc_figure(truths, p)
        drawn["reliability"] = figures.reliability_figure(truths, p)
    return drawn


TEMPLATE = r"""
<h2>Classifier</h2>
{% if scores %}
<div class="scroll"><table><thead><tr><th class="text">score</th>{% for split in splits %}{% if many_seeds %}<th>{{ split }}: mean over seeds</th><th>seed sd</th>{% for s in seeds %}<th>seed {{ s }}</th>{% endfor %}{% else %}<th>{{ split }}</th>{% endif %}{% endfor %}</tr></thead><tbody>
{% for score, by_split in scores.items() %}<tr><td class="text">{{ score | replace("_", " ") | replace("auc", "AUC") }}</td>{% for split in splits %}{% set c = by_split[split] %}<td>{{ value(c["mean"].value, c["mean"].low, c["mean"].high) }}</td>{% if many_seeds %}<td>{{ c["mean"].seed_sd | num }}</td>{% for s in seeds %}<td>{{ value(c[s].value, c[s].low, c[s].high) }}</td>{% endfor %}{% endif %}{% endfor %}</tr>
{% endfor %}</tbody></table></div>
<p class="note">Brackets: 95&nbsp;% intervals over patients.{% if many_seeds %} The ends of the mean's interval are the means of the seeds' ends, which makes it a little too wide.{% endif %} Sensitivity and specificity are those of the most probable class; ece: expected calibration error, brier: mean squared error of P(lesion).</p>
<div class="grid">
{% if figures.roc is defined %}{{ figure(figures.roc, "ROC of P(lesion) on the test split.") }}
{{ figure(figures.reliability, "Reliability on the test split: points on the diagonal are well calibrated; larger points hold more images.") }}{% endif %}
{% if figures.training is defined %}{{ figure(figures.training, "Training, a line a seed. The network of the best validation AUC is used.") }}{% endif %}
<div class="heat{% if r.labels | length > 2 %} across{% endif %}"><h3>Confusion on the test split{% if many_seeds %}, mean over seeds{% endif %}</h3>
<div class="scroll"><table><thead><tr><th class="text">true ↓ predicted →</th>{% for l in r.labels %}<th>{{ l }}</th>{% endfor %}</tr></thead><tbody>
{% for l in r.labels %}{% set total = confusion.loc[l].sum() %}<tr><th class="text">{{ l }}</th>{% for k in r.labels %}{% set n = confusion.loc[l, k] %}<td style="--s:{{ '%.2f' | format(n / total if total else 0) }}">{{ n | num(1 if many_seeds else 0) }}</td>{% endfor %}</tr>
{% endfor %}</tbody></table></div></div>
</div>
{% else %}
<p>No classifier was trained.</p>
{% endif %}
"""

SECTION = Section("classifier", build, TEMPLATE)
