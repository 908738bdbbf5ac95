"""How a run was kept honest: what was checked, who saw which masks, and the field's checklists."""

from __future__ import annotations

from typing import Any

import pandas as pd

from weakseg.report.honesty import checklist
from weakseg.report.sections.base import Content, Section, Subject
from weakseg.report.words import masks_told

CHECKS = ("what", "holds", "found", "asks")
SEEN = ("method", "in_words", "masks_seen", "chosen_on", "upper_bound")
ITEMS = ("claim", "tripod", "question", "answer")


LABELS, MASKS = "labels of the validation split", "masks of the validation split, counted"


def build(subject: Subject) -> Content:
    """Checks, masks seen, choices and checklist; of every run."""
    run = subject.run
    checks = pd.DataFrame(subject.checks, columns=list(CHECKS))
    seen = masks_table(subject)
    items = pd.DataFrame(checklist(run, subject.patients_known, subject.seeds), columns=list(ITEMS))
    context = {
        "checks": [check._asdict() for check in subject.checks],
        "seen": [
            row | {"told": masks_told({**row, "kind": _kind(subject, row["method"])})}
            for row in seen.to_dict(orient="records")
        ],
        "items": items.to_dict(orient="records"),
        "answered": int((items["answer"] != "").sum()),
        "choices": choices_of(subject),
    }
    checks = checks.drop(columns="asks")
    return Content(context, {"checks": checks, "masks_seen": seen, "checklist": items})


def masks_table(subject: Subject) -> pd.DataFrame:
    """How many true masks each method saw, and what its choices were made on.

    Where the networks of several seeds saw different numbers, the largest is given.
    """
    rows = []
    for method, entries in subject.run.thresholds.items():
        of = list(entries.values())
        if of:
            on = list(dict.fromkeys(str(e["chosen_on"]) for e in of))
            seen = max(int(e["masks_seen"]) for e in of)
            bound = any(e["upper_bound"] for e in of)
            rows.append((method, subject.spoken(method), seen, "; ".join(on), bound))
    order = {name: i for i, name in enumerate(subject.groups)}
    rows.sort(key=lambda row: order.get(row[0], len(order)))
    return pd.DataFrame(rows, columns=list(SEEN))


def _kind(subject: Subject, method: str) -> str:
    return str(next(iter(subject.run.thresholds[method].values()))["kind"])


def choices_of(subject: Subject) -> list[dict[str, Any]]:
    """What was chosen in a run, and on which split."""
    config, run = subject.config, subject.run
    set_beforehand = config.report.method is not None and config.report.method == subject.method
    choices = []
    if subject.method is not None:
        how = (
            "the experiment names it"
            if set_beforehand
            else "the first that saw no mask, else the first"
        )
        choices.append(("The method that the verdict is on", f"no score: {how}"))
    if run.classifiers:
        choices.append(("The epoch of each classifier", LABELS))
    if run.segmenters:
        choices.append(
            ("The epoch of each segmentation network", "the validation split, if at all")
        )
    if config.masks.gate != "none" and subject.has_classifier:
        on = LABELS if config.masks.gate == "validation" else "nothing"
        choices.append((f"The gate on P(lesion), {config.masks.gate}", on))
    choices += _of_heatmaps(subject) + _of_segmenters(subject)
    choices.append(("The threshold of each method", "see the table"))
    return [{"what": what, "on": on} for what, on in choices]


def _of_heatmaps(subject: Subject) -> list[tuple[str, str]]:
    """What validation labels chose of heatmaps."""
    heats = subject.config.all_heatmaps if subject.has_classifier else {}
    asked = {
        "What the layers count": [n for n, heat in heats.items() if heat.learns_weights],
        "The scales": [n for n, heat in heats.items() if heat.auc_drop is not None],
    }
    return [(f"{what} of {', '.join(names)}", LABELS) for what, names in asked.items() if names]


def _of_segmenters(subject: Subject) -> list[tuple[str, str]]:
    """What the validation split chose of segmenters once they were trained."""
    trained = {n: s for n, s in subject.config.segmenters.items() if n in subject.run.segmenters}
    asked = {
        ("The least peak, and the gate if there is one,", LABELS): [
            n for n, s in trained.items() if s.false_alarms is not None
        ],
        ("What each network counts in the mean", MASKS): [
            n for n, s in trained.items() if s.weighting == "validation"
        ],
        ("Which kinds of network count in the mean", LABELS): [
            n for n, s in trained.items() if s.weighting == "labels"
        ],
        ("The smallest part", MASKS): [n for n, s in trained.items() if s.min_area == "validation"],
    }
    return [(f"{what} of {', '.join(of)}", on) for (what, on), of in asked.items() if of]


TEMPLATE = r"""
<h2>How this was kept honest</h2>
<ul class="checks">
{% for c in checks %}<li><b>{{ c.what }}</b>{% if c.holds is true %}: yes{% elif c.holds is false %}: <b class="bad">NO</b>{% elif c.asks %}: <b>not shown</b>{% endif %}. {{ c.found[0] | upper }}{{ c.found[1:] }}.</li>
{% endfor %}</ul>
<p>Seeds of the classifiers: {{ r.seeds | join(", ") or "none" }}. That test masks are read for scores, for curves to look at and for upper bounds only is how the program is made; of a run's files it can be checked as far as they name the masks that were seen, as above.</p>
{% if seen %}<h3>Who saw which masks</h3>
<div class="scroll"><table><thead><tr><th class="text">method</th><th class="text">in words</th><th>masks seen</th><th class="text">chosen on</th></tr></thead><tbody>
{% for m in seen %}<tr><th class="text" scope="row">{{ m.method }}</th><td class="text wrap">{{ m.in_words }}{% if m.upper_bound %} <b>UPPER BOUND</b>{% endif %}</td><td>{{ m.told }}</td><td class="text wrap">{{ m.chosen_on }}</td></tr>
{% endfor %}</tbody></table></div>{% endif %}
<h3>What was chosen, and on what</h3>
<dl>{% for c in choices %}<dt>{{ c.what }}</dt><dd>{{ c.on }}</dd>{% endfor %}</dl>
<details class="appendix"><summary>Checklist of CLAIM and TRIPOD+AI: {{ answered }} of {{ items | length }} questions that the run can answer; the rest is for you</summary>
<div class="scroll"><table><thead><tr><th class="text">question</th><th class="text">CLAIM</th><th class="text">TRIPOD+AI</th><th class="text">answer</th></tr></thead><tbody>
{% for i in items %}<tr><th class="text" scope="row">{{ i.question }}</th><td class="text">{{ i.claim }}</td><td class="text">{{ i.tripod }}</td><td class="text wrap">{% if i.answer %}{{ i.answer }}{% else %}<i>the run does not know: to be filled in</i>{% endif %}</td></tr>
{% endfor %}</tbody></table></div>
<p class="note">Numbers of CLAIM, 2024 Update (Tejani et al., Radiology: AI 2024), and TRIPOD+AI (Collins et al., BMJ 2024); none where a list does not ask just this. A selection that bears on such a run, not the whole lists.</p>
</details>
"""

SECTION = Section("honest", build, TEMPLATE)
