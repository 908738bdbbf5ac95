"""How the Dice moves with the threshold, and with the lesion's size."""

from __future__ import annotations

import pandas as pd

from weakseg.report import figures
from weakseg.report.read import RunTables
from weakseg.report.sections.base import Content, Section, Subject
from weakseg.report.tables import size_table


def build(subject: Subject) -> Content:
    """Both figures, each where there are numbers for it."""
    sizes = size_table(subject.run.per_case, _main_methods(subject.methods, subject.method))
    drawn = {}
    if subject.scored and len(sizes.dropna(subset=["dice"])):
        drawn["size"] = figures.size_figure(sizes, subject.groups)
    if len(subject.run.curves):
        drawn["curve"] = _curve(subject.run)
    return Content(
        {"sizes": sizes.to_dict(orient="records")},
        {"lesion_size": sizes},
        drawn,
        shown=subject.scored and bool(drawn),
    )


def _main_methods(methods: pd.DataFrame, method: str | None) -> list[str]:
    """The method spoken of, and the first of each other group: enough lines for one figure."""
    if method is None:
        return []
    firsts = methods.drop_duplicates("group")["method"].tolist()
    return [method, *(m for m in firsts if m != method)]


def _curve(run: RunTables) -> str:
    """The Dice at every fixed threshold, with those that were set and those that were chosen."""
    of = {
        rule: list(run.thresholds.get(f"{run.config.heatmap.method}-{rule}", {}).values())
        for rule in ("fixed", "validation")
    }
    fixed = next((e["threshold"] for e in of["fixed"] if not e.get("search")), None)
    searched = [e for e in of["fixed"] if e.get("search")]
    chosen = [e["threshold"] for e in (*of["validation"], *searched)]
    return figures.curve_figure(run.curves, fixed, chosen)


TEMPLATE = r"""
<h2>Threshold and lesion size</h2>
<div class="grid">
{% if figures.curve is defined %}{{ figure(figures.curve, "Test Dice at every fixed threshold, without the gate on the classifier's probability. For looking, never for choosing: it is drawn from the test masks.") }}{% endif %}
{% if figures["size"] is defined %}{{ figure(figures["size"], "Mean Dice by size of the lesion: thirds of the test images with a lesion.") }}{% endif %}
</div>
<details><summary>Dice by lesion size as a table</summary>
<div class="scroll"><table><thead><tr><th class="text">method</th><th>third</th><th>pixels</th><th>images</th><th>Dice</th></tr></thead><tbody>
{% for s in sizes %}<tr><td class="text">{{ s.method }}</td><td>{{ s["size"] }}</td><td>{{ s.pixels_low | num(0) }}{% if s.n %}–{{ s.pixels_high | num(0) }}{% endif %}</td><td>{{ s.n }}</td><td>{{ s.dice | num }}</td></tr>
{% endfor %}</tbody></table></div></details>
"""

SECTION = Section("threshold and size", build, TEMPLATE)
