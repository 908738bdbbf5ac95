"""Dice by the counting rules of others."""

import numpy as np
import pandas as pd
import pytest

from tests.report.fake_run import make_run
from weakseg.report.page import build_report
from weakseg.report.read import read_runs
from weakseg.report.sections.base import Subject
from weakseg.report.sections.counting import RULES, build, counted_dice
from weakseg.scores import score_case

SHAPE = (20, 20)


def area(pixels, start=0):
    mask = np.zeros(SHAPE, bool)
    mask.ravel()[start : start + pixels] = True
    return mask


def cases(seeds=(0,)):
    """Of 400 pixels: a lesion of 100 half covered, one of 2 missed, a healthy and a marked one."""
    pairs = [
        (area(50), area(100)),
        (area(0), area(2)),
        (area(0), area(0)),
        (area(10), area(0)),
    ]
    return pd.DataFrame(
        [
            {"case": f"c{i}", "patient": f"p{i}", "method": "m", "seed": s} | score_case(p, t)
            for s in seeds
            for i, (p, t) in enumerate(pairs)
        ]
    )


@pytest.mark.parametrize("seeds", [(0,), (0, 1), (np.nan,)])
def test_by_hand(seeds):
    found = {r: (v.value, n) for r, (v, n) in counted_dice(cases(seeds), "m", bootstrap=20).items()}
    half = 2 * 50 / 150
    assert list(found) == list(RULES)
    assert found["lesions"] == (pytest.approx(half / 2), 2)
    assert found["all"] == (pytest.approx((half + 0 + 1 + 0) / 4), 4)
    assert found["large"] == (pytest.approx(half), 1)  # 100 of 400 pixels; the other has 0.5 %
    assert found["pooled"] == (pytest.approx(2 * 50 / (150 + 2 + 0 + 10)), 4)


def test_pooled_is_the_dice_of_all_pixels_and_the_mean_over_seeds():
    rng = np.random.default_rng(0)
    truth = [rng.random(SHAPE) < 0.1 for _ in range(5)]
    masks = {s: [rng.random(SHAPE) < 0.2 for _ in truth] for s in (0, 1)}
    rows = pd.DataFrame(
        [
            {"case": i, "patient": i, "method": "m", "seed": s} | score_case(m, t)
            for s, of in masks.items()
            for i, (m, t) in enumerate(zip(of, truth, strict=True))
        ]
    )
    whole = [score_case(np.vstack(of), np.vstack(truth))["dice"] for of in masks.values()]
    assert counted_dice(rows, "m", bootstrap=20)["pooled"][0].value == pytest.approx(np.mean(whole))


@pytest.mark.usefixtures("alone")
def test_it_is_on_the_page_with_the_name_of_every_rule(tmp_path):
    (run,) = read_runs([make_run(tmp_path / "run")])
    report = build_report([run], 0)
    assert "By the counting rules of others" in report.html
    table = report.tables["counting"]
    assert set(table["rule"]) == set(RULES)
    dice = run.summary.set_index("method")["dice"]
    as_above = table[table["rule"] == "lesions"].set_index("method")["dice"]
    assert as_above.to_dict() == pytest.approx(dice.to_dict(), abs=1e-5)


def test_without_scores_there_is_no_section(tmp_path):
    (run,) = read_runs([make_run(tmp_path / "run", scored=False)])
    content = build(Subject(run, "run1"))
    assert not content.shown
    assert content.tables["counting"].empty
