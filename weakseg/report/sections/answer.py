"""What comes first: the answer in sentences, and what speaks against taking it as it stands."""

from __future__ import annotations

from typing import Any

import pandas as pd

from weakseg.report import words
from weakseg.report.read import RunTables
from weakseg.report.sections.base import Content, Section, Subject
from weakseg.report.sections.equivalence import equivalence_of
from weakseg.report.tables import classifier_table


def build(subject: Subject) -> Content:
    """The sentences of the method that the report speaks of."""
    run, methods, method = subject.run, subject.methods, subject.method
    classifier = classifier_table({s: t.scores for s, t in run.classifiers.items()})
    epochs = subject.config.classifier.epochs
    said = {
        "answer": words.answer(
            methods,
            method,
            _test_auc(classifier),
            equivalence_of(subject)["headline"],
            run.averaged(method or ""),
        ),
        "note": words.choice_note(methods, method, subject.config.report.method == method),
        "warnings": _split_warning(run)
        + _data_warning(run)
        + words.warnings(methods, method, run.stages, epochs),
    }
    return Content(said, summary=said)


def _test_auc(classifier: pd.DataFrame) -> dict[str, Any] | None:
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
