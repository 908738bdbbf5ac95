"""What filtered retraining answers: of enough patients, and of too few."""

from __future__ import annotations

import numpy as np
import pytest

from weakseg.config.filtered import RAW, Condition
from weakseg.filtering.questions import questions
from weakseg.scores import Evidence
from weakseg.scores.conclusions import LEAST_PATIENTS

AUCS = {
    RAW: 0.95,
    "truth-remove-mean": 0.6,
    "heat-hard-keep-mean": 0.9,
    "random-hard-keep-mean": 0.7,
    "heat-hard-remove-mean": 0.8,
}
CONDITIONS = (
    Condition(RAW),
    Condition("truth", "own", "remove"),
    Condition("heat", "hard"),
    Condition("random", "hard"),
    Condition("heat", "hard", "remove"),
)


NOTHING = [(q, "cannot tell", "too few") for q in ("tumour", "dark", "control")]


def evidence(patients: int) -> Evidence:
    """Six seeds of one AUC a condition, and resamples that hardly move."""
    moved = np.linspace(-0.01, 0.01, 50)
    return Evidence(
        {name: {"auc": np.full(6, auc)} for name, auc in AUCS.items()},
        {name: {"auc": auc + moved} for name, auc in AUCS.items()},
        6,
        20,
        patients,
    )


@pytest.mark.parametrize(
    ("patients", "said"),
    [
        (LEAST_PATIENTS, [("tumour", "yes", "clear"), ("dark", "yes", "no control"),
                          ("control", "more", "clear")]),
        (LEAST_PATIENTS - 1, NOTHING),
        (1, NOTHING),
    ],
)  # fmt: skip
def test_of_too_few_patients_nothing_is_answered(patients, said):
    answers = questions(evidence(patients), CONDITIONS, ("hard",))
    assert [(q["question"], q["verdict"], q["reason"]) for q in answers] == said
    if patients > 1:  # the figures stay, for looking
        assert answers[0]["share_lost"]["value"] == pytest.approx(0.35 / 0.45)
