"""The first screen: verdict and light, three numbers, three pictures; then the answer in detail."""

from __future__ import annotations

from typing import Any

import pandas as pd

from weakseg.report import words
from weakseg.report.pictures import MASK_COLOUR, TRUTH_COLOUR
from weakseg.report.read import RunTables
from weakseg.report.sections.base import Content, Section, Subject
from weakseg.report.sections.equivalence import equivalence_of
from weakseg.report.sections.filtered_words import answered
from weakseg.report.sections.gallery import compared_network, first_pictures
from weakseg.report.tables import classifier_table
from weakseg.report.verdict import RULES, Verdict, judge

FIRST = {"median": "Typical", "best": "Best", "failed": "Failed"}
"""Picture of the first screen → its heading."""


def build(subject: Subject) -> Content:
    """What is said of the method that the report speaks of."""
    run, methods, method = subject.run, subject.methods, subject.method
    auc = test_auc(run)
    epochs = subject.config.classifier.epochs
    verdict = verdict_of(subject)
    said = {
        "verdict": {
            "light": verdict.light,
            "sentence": verdict.sentence,
            "conditions": [c._asdict() for c in verdict.conditions],
        },
        "answer": words.answer(
            methods,
            method,
            auc,
            equivalence_of(subject)["headline"],
            run.averaged(method or ""),
            spoken=subject.spoken,
        ),
        "note": words.choice_note(
            methods, method, subject.config.report.method == method, spoken=subject.spoken
        ),
        "warnings": _split_warning(run)
        + _data_warning(run)
        + words.warnings(methods, method, run.stages, epochs),
    }
    shown = {
        "rules": RULES,
        "retrained": retrained_answer(run),
        "numbers": [] if method is None else _numbers(methods, method),
        "pictures": first_pictures(subject),
        "first": FIRST,
        "compared": compared_network(run),
        "mask_colour": MASK_COLOUR,
        "truth_colour": TRUTH_COLOUR,
    }
    return Content(said | shown, summary=said)


def verdict_of(subject: Subject) -> Verdict:
    """The verdict on a run; see `weakseg.report.verdict.judge`."""
    method = subject.method
    answer = next((q["verdict"] for q in _tumour_answers(subject.run)), None)
    weak = subject.groups.get(method or "") in ("no-masks", "masks", "foundation")
    return judge(
        subject.methods,
        method,
        subject.spoken,
        test_auc(subject.run) if weak else None,
        answer if weak else None,
        [check.what for check in subject.checks if check.holds is False],
    )


def _tumour_answers(run: RunTables) -> list[dict[str, Any]]:
    said = answered(run.filtered_answers, run.filtered) if len(run.filtered) else []
    return [q for q in said if q["question"] == "tumour"]


def retrained_answer(run: RunTables) -> str | None:
    """What filtered retraining says of where the network looks; None where it did not run."""
    first = next(iter(_tumour_answers(run)), None)
    return None if first is None else f"{first['heading']} {first['sentence']}"


def _numbers(methods: pd.DataFrame, method: str) -> list[dict[str, str]]:
    """Three numbers to remember, each with its interval and what it is of."""
    row = methods[methods["method"] == method].iloc[0]
    lesions, healthy = int(row["lesion_images"]), int(row["healthy_images"])
    alarms = words.percent(row["false_positive_rate"])
    ends = [words.percent(row[f"false_positive_rate_{end}"]) for end in ("low", "high")]
    return [
        {
            "value": words.number(row["dice"], 2),
            "interval": words.interval(row["dice_low"], row["dice_high"], 2),
            "name": "Dice",
            "means": "overlap of mask and truth, from 0 (none) to 1 (the same); mean of "
            f"{words.count(lesions, 'image')} with a lesion",
        },
        {
            "value": words.percent(row["missed"]),
            "interval": "",
            "name": "lesions missed",
            "means": "images with a lesion whose mask is empty",
        },
        {
            "value": alarms if healthy else "–",
            "interval": f"[{ends[0]}, {ends[1]}]" if words.NONE not in ends else "",
            "name": "false alarms",
            "means": f"of {words.count(healthy, 'healthy image')} get a mark"
            if healthy
            else "no healthy image was tested",
        },
    ]


def test_auc(run: RunTables) -> dict[str, Any] | None:
    """Mean AUC of a run's classifiers on the test split with its interval; None without any."""
    classifier = classifier_table({s: t.scores for s, t in run.classifiers.items()})
    rows = classifier[
        (classifier["split"] == "test")
        & (classifier["score"] == "auc_lesion")
        & (classifier["seed"] == "mean")
    ]
    return None if rows.empty else {str(k): v for k, v in rows.iloc[0].items()}


def _split_warning(run: RunTables) -> list[str]:
    """A classifier that was trained with other splits may have seen the test patients."""
    now = dict(zip(run.splits["case"], run.splits["split"], strict=True))
    for seed, t in run.classifiers.items():
        then = dict(zip(t.predictions["case"], t.predictions["split"], strict=True))
        if then != now:
            return [
                f"The classifier of seed {seed} was made with other splits than splits.csv now "
                "holds: test images may have been trained on. Make the run again with --force."
            ]
    return []


def _data_warning(run: RunTables) -> list[str]:
    """Pictures would show other images than those that were scored."""
    return [words.DATA_CHANGED] if run.data_changed else []


TEMPLATE = r"""
<div class="verdict {{ verdict.light | replace(" ", "-") }}">
<p class="sentence"><span class="lamp" aria-hidden="true"></span>{% set light, _, said = verdict.sentence.partition(": ") %}<b>{{ light }}:</b> {{ said }}</p>
{% if retrained %}<p class="retrained">{{ retrained }}</p>{% endif %}
</div>
{% if numbers %}<div class="numbers">
{% for n in numbers %}<div><b>{{ n.value }}</b>{% if n.interval %} <small>{{ n.interval }}</small>{% endif %}<span>{{ n.name }}</span><small>{{ n.means }}</small></div>
{% endfor %}</div>
<p class="note">In brackets: 95&nbsp;% intervals, bootstrap over patients.</p>{% endif %}
{% if pictures %}<div class="first">
{% for row, c in pictures.items() %}<figure><figcaption><b>{{ first[row] }}</b>: {{ c.case }}{% if c.row == "missed" %}, no mask at all{% elif c.dice | given %}, Dice {{ c.dice | num(2) }}{% endif %}</figcaption>{% if c.picture %}<img src="{{ c.picture }}" alt="{{ first[row] }} case, {{ c.case }}: image{% if r.method in r.config.heatmap_methods %}, heatmap{% endif %}, outlines of mask and truth">{% else %}<p class="note">No picture: {{ c.problem }}</p>{% endif %}</figure>
{% endfor %}</div>
<p class="note">Each strip: the image{% if r.method in r.config.heatmap_methods %}, the heatmap over it{% endif %}, and the outlines of <span class="key"><span class="swatch" style="background:{{ truth_colour }}"></span>truth</span> and <span class="key"><span class="swatch" style="background:{{ mask_colour }}"></span>mask</span>{% if compared and compared != r.method %}; last, the same of {{ compared }}{% endif %}. Typical: the median Dice of all lesions; failed: the largest lesion without a mask, else the lowest Dice.</p>
{% elif r.config.report.gallery == 0 %}<p class="note">No pictures: this report was asked to have none (<code>report.gallery: 0</code>, or <code>--gallery 0</code>), so that it shows nothing of a patient's images.</p>
{% endif %}
<details class="rules"><summary>How the light is decided</summary>
<p>By these rules, on 95&nbsp;% intervals over patients; the first that fits counts.</p>
<dl>{% for light, rule in rules.items() %}<dt>{{ light | capitalize }}</dt><dd>{{ rule }}</dd>{% endfor %}</dl>
{% if verdict.conditions %}<p>Conditions of "worth using", and what this run has:</p>
<ul>{% for c in verdict.conditions %}<li>{{ c.rule }} <b>{{ "Holds" if c.holds else "Does not hold" }}</b>: {{ c.found }}.</li>{% endfor %}</ul>{% endif %}
</details>
<div class="answer">{% for sentence in answer %}<p>{{ sentence }}</p>{% endfor %}</div>
{% if note %}<p class="note">{{ note }}</p>{% endif %}
{% if not r.patients_known or warnings %}
<div class="warn"><ul>
{% if not r.patients_known %}<li>Patients are unknown. Near-duplicate images are kept on one side of the splits and count as one patient; other images of the same patient may still stand on both sides, and the intervals may be too narrow.</li>{% endif %}
{% for w in warnings %}<li>{{ w }}</li>{% endfor %}
</ul></div>
{% endif %}
"""

SECTION = Section("answer", build, TEMPLATE)
