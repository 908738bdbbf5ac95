"""Two planted cases, told apart by retraining without the lesion. Ten minutes each on two cores."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.tiny import read_rows, weakseg

CONFIGS = Path(__file__).parents[1] / "configs"


def _run(folder: Path, name: str) -> tuple[dict, dict]:
    run = folder / name
    config = CONFIGS / f"{name}.yaml"
    assert weakseg("train-classifier", config, "--run-dir", run) == 0
    assert weakseg("retrain-filtered", config, "--run-dir", run) == 0
    answers = json.loads((run / "scores" / "filtered.json").read_text())
    question = next(q for q in answers["questions"] if q["question"] == "tumour")
    rows = read_rows(run / "scores" / "filtered.csv")
    return question, {r["condition"]: r for r in rows if r["network"] == "retrained"}


@pytest.mark.slow
@pytest.mark.timeout(3000)
def test_where_only_the_lesion_tells_the_class_the_rest_is_chance(tmp_path):
    question, rows = _run(tmp_path, "phantom-lesion")
    assert float(rows["raw"]["auc"]) > 0.85
    rest = rows["truth-remove-mean"]
    assert float(rest["auc_low"]) < 0.5 < float(rest["auc_high"]) < 0.65
    assert question["verdict"] == "yes"


@pytest.mark.slow
@pytest.mark.timeout(3000)
def test_where_a_marker_tells_it_too_the_rest_is_enough(tmp_path):
    question, rows = _run(tmp_path, "phantom-shortcut")
    assert float(rows["truth-remove-mean"]["auc_low"]) > 0.9
    assert question["verdict"] == "no"
