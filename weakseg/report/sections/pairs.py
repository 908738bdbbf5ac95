"""Who is better than whom: every pair of methods on the same images."""

from __future__ import annotations

from typing import Any

import pandas as pd

from weakseg.report.read import RunTables
from weakseg.report.sections.base import Content, Section, Subject
from weakseg.report.tables import best_floor
from weakseg.scores import paired_tests

PAIR_COLUMNS = (
    "method", "other", "difference", "low", "high", "patients", "p", "p_holm", "better", "too_few",
)  # fmt: skip


def build(subject: Subject) -> Content:
    """The tests of all pairs; shown where there are two methods."""
    pairs = pair_table(subject.run)
    square = pair_matrix(pairs)
    shown = subject.scored and len(square["methods"]) > 1
    return Content(square, {"paired_tests": pairs}, shown=shown)


def pair_table(run: RunTables) -> pd.DataFrame:
    """Every pair of results: all methods but upper bounds, and the best floor."""
    table = run.per_case
    if table.empty or run.summary.empty:
        return pd.DataFrame(columns=list(PAIR_COLUMNS))
    kinds = run.summary.set_index("method")["kind"]
    floor = best_floor(run.summary)
    chosen = [m for m in kinds.index if kinds[m] not in ("oracle", "floor") or m == floor]
    with_lesion = set(table.loc[table["has_lesion"].astype(bool), "method"])
    chosen = [m for m in chosen if m in with_lesion]
    draw = {"bootstrap": run.config.scores.bootstrap, "seed": run.config.seed}
    return paired_tests(table, chosen, **draw)


def pair_matrix(pairs: pd.DataFrame) -> dict[str, Any]:
    """The pairs as a square for the page.

    Returns
    -------
    dict
        ``methods``; ``cells``: method → other → ``difference`` (method minus other), ``p_holm``
        and ``better`` ("method", "other", "unclear"); ``too_few``: whether some pair has too few
        patients for any answer.
    """
    methods = list(dict.fromkeys([*pairs["method"], *pairs["other"]]))
    cells: dict[str, dict[str, dict[str, Any]]] = {m: {} for m in methods}
    turned = {"method": "other", "other": "method", "unclear": "unclear"}
    for _, row in pairs.iterrows():
        one, other = str(row["method"]), str(row["other"])
        cell = {"difference": row["difference"], "p_holm": row["p_holm"], "better": row["better"]}
        cells[one][other] = cell
        cells[other][one] = cell | {
            "difference": -row["difference"],
            "better": turned[str(row["better"])],
        }
    return {
        "methods": methods,
        "cells": cells,
        "too_few": bool(pairs["too_few"].any()) if len(pairs) else False,
    }


TEMPLATE = r"""
<h2>Who is better than whom</h2>
<div class="scroll"><table class="pairs wrapped"><thead><tr><th class="text">Dice of row − column</th>{% for o in methods %}<th>{{ o }}</th>{% endfor %}</tr></thead><tbody>
{% for m in methods %}<tr><th class="text">{{ m }}</th>{% for o in methods %}{% if m == o %}<td></td>{% else %}{% set c = cells[m][o] %}<td class="{{ {"method": "win", "other": "loss", "unclear": ""}[c.better] }}" title="p (Holm) = {{ c.p_holm | num(4) }}">{{ c.difference | signed(2) }}</td>{% endif %}{% endfor %}</tr>
{% endfor %}</tbody></table></div>
<p class="note">Mean difference in Dice on the same test images with a lesion. <span class="win">Blue</span>: the row is better, <span class="loss">orange</span>: worse, by Wilcoxon's signed-rank test over patients with Holm's correction for all pairs, p &lt; 0.05. Plain: cannot tell.{% if too_few %} For some pairs there are too few patients for any difference, however clear, to pass.{% endif %} Upper bounds are left out; of the trivial floors only the best is there.</p>
"""

SECTION = Section("pairs", build, TEMPLATE)
