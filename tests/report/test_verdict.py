"""The light and its sentence on made-up rows: both follow from intervals, by the printed rules."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from scipy.stats import binomtest

from weakseg.report.tables import alarm_interval, method_table
from weakseg.report.verdict import RULES, judge
from weakseg.report.words import percent
from weakseg.scores.summary import summarise

NAN = float("nan")
ROW = {
    "method": "m",
    "group": "no-masks",
    "masks_seen": 0,
    "dice": 0.62,
    "dice_low": 0.55,
    "dice_high": 0.7,
    "floor": "f",
    "difference": 0.3,
    "difference_low": 0.2,
    "difference_high": 0.4,
    "difference_patients": 20,
    "false_positive_rate": 0.1,
    "false_positive_rate_low": 0.05,
    "false_positive_rate_high": 0.2,
    "patients": 25,
    "healthy_images": 40,
}
AUC = {"value": 0.9, "low": 0.8, "high": 0.95}
SPOKEN = {"m": "Grad-CAM with Otsu's threshold", "f": "the whole of every image"}


def verdict(
    auc: dict[str, float] | None = AUC,
    depends: str | None = None,
    failed: list[str] | None = None,
    **changes: Any,
):
    floor = ROW | {"method": "f", "group": "floor", "dice": 0.32}
    rows = pd.DataFrame([ROW | changes, floor])
    return judge(rows, "m", SPOKEN.__getitem__, auc, depends, failed)


def test_all_conditions_make_a_method_worth_using():
    made = verdict(depends="yes")
    assert made.light == "worth using"
    assert made.sentence == (
        "Worth using: Grad-CAM with Otsu's threshold, without seeing a mask, reaches a Dice of "
        "0.62 (95\N{NO-BREAK SPACE}% interval 0.55 to 0.70), clearly more than marking the whole "
        "of every image (0.32)."
    )
    assert all(c.holds for c in made.conditions)
    assert len(made.conditions) == 5


@pytest.mark.parametrize(
    ("changes", "but"),
    [
        ({"dice_low": 0.499}, "that the Dice is 0.5 or more is not certain"),
        ({"dice_low": NAN, "dice_high": NAN}, "that the Dice is 0.5 or more is not certain"),
        ({"false_positive_rate_high": 0.26}, "more than 25"),
        ({"false_positive_rate_low": NAN, "false_positive_rate_high": NAN}, "more than 25"),
        ({"patients": 9}, "only 9 patients"),
        ({"auc": {"value": 0.7, "low": 0.5, "high": 0.9}}, "not clearly better than chance"),
        ({"depends": "no"}, "gets by without the lesion"),
    ],
)
def test_a_lead_alone_is_better_than_nothing_and_the_sentence_says_what_lacks(changes, but):
    made = verdict(**changes)
    assert made.light == "better than nothing"
    assert made.sentence.startswith("Better than nothing: ")
    assert but in made.sentence
    assert sum(not c.holds for c in made.conditions) == 1


@pytest.mark.parametrize(
    "changes",
    [
        {"dice_low": 0.5},
        {"false_positive_rate_high": 0.25},
        {"patients": 10},
        {"depends": "cannot tell"},
        {"auc": None},
        {"failed": []},
        dict.fromkeys([f"false_positive_rate{e}" for e in ("", "_low", "_high")], NAN),
    ],
)
def test_ends_count_as_inside_and_what_was_not_tried_speaks_against_nothing(changes):
    assert verdict(**changes).light == "worth using"


@pytest.mark.parametrize(
    "ends",
    [
        {"difference_low": 0.0},
        {"difference_low": -0.1},
        {"difference_high": 0.0, "difference_low": -0.2},
    ],
)
def test_an_interval_that_holds_zero_shows_nothing(ends):
    made = verdict(**ends)
    assert made.light == "not shown"
    assert "cannot be told" in made.sentence


def test_a_lead_below_zero_or_a_classifier_below_chance_is_worth_nothing():
    below = verdict(difference_low=-0.3, difference_high=-0.1)
    assert below.light == "worth nothing"
    assert "less than marking the whole of every image (0.32)" in below.sentence
    chance = verdict(auc={"value": 0.4, "low": 0.3, "high": 0.49})
    assert chance.light == "worth nothing"
    assert "worse than chance (AUC 0.40)" in chance.sentence


@pytest.mark.parametrize(("healthy", "light"), [(3, "better than nothing"), (13, "worth using")])
def test_no_false_alarm_among_few_healthy_images_proves_little(healthy, light):
    none = dict.fromkeys([f"false_positive_rate{e}" for e in ("", "_low", "_high")], 0.0)
    low, high = alarm_interval(0.0, 0.0, 0.0, healthy)
    none |= {"false_positive_rate_low": low, "false_positive_rate_high": high}
    made = verdict(healthy_images=healthy, **none)
    assert made.light == light
    high = binomtest(0, healthy).proportion_ci(0.95, "exact").high
    assert f", {percent(high)}]" in made.conditions[1].found


@pytest.mark.parametrize("patients", [1, 7, 200])
def test_the_interval_of_alarms_is_exact_where_draws_cannot_differ(patients):
    for share in (0, patients):
        exact = binomtest(share, patients).proportion_ci(0.95, "exact")
        found = alarm_interval(share / patients, share / patients, share / patients, patients)
        assert found == pytest.approx((exact.low, exact.high))
    assert alarm_interval(0.3, 0.1, 0.6, patients) == (0.1, 0.6)
    assert all(map(pd.isna, alarm_interval(0.0, NAN, NAN, patients)))


def test_images_of_one_patient_are_one_proof_that_nothing_is_marked_falsely():
    """40 healthy images of 4 patients: the exact interval of 0 of 4, by hand 1 - 0.025^(1/4)."""
    of = [(p, k, k < 10) for p in "abcd" for k in range(12)]
    per_case = pd.DataFrame(
        {
            "case": [f"{p}-{k}" for p, k, _ in of],
            "patient": [p for p, _, _ in of],
            "has_lesion": [not healthy for *_, healthy in of],
            "false_alarm": [0.0 if healthy else NAN for *_, healthy in of],
        }
    ).assign(method="m", kind="weak", seed=0, masks_seen=0, dice=1.0)
    row = method_table(summarise(per_case, bootstrap=50), per_case, bootstrap=50).iloc[0]
    assert row["healthy_images"] == 40
    assert row["false_positive_rate"] == row["false_positive_rate_low"] == 0
    assert row["false_positive_rate_high"] == pytest.approx(1 - 0.025**0.25, abs=1e-12)
    assert row["false_positive_rate_high"] == pytest.approx(0.6024, abs=5e-5)


@pytest.mark.parametrize("ends", [(0.2, 0.4), (-0.4, -0.2)])
def test_lesions_of_few_patients_show_nothing(ends):
    low, high = ends
    few, enough = (
        verdict(difference_low=low, difference_high=high, difference_patients=n) for n in (4, 5)
    )
    assert few.light == "not shown"
    assert few.sentence.endswith(": the test lesions are of 4 patients, fewer than 5.")
    assert enough.light in ("worth using", "worth nothing")


def test_lesions_of_few_patients_among_many_healthy_ones_show_nothing_either():
    low = {"value": 0.3, "low": 0.2, "high": 0.45}
    unclear = {"difference_low": -0.1, "difference_high": 0.1}
    few, enough = (verdict(auc=low, patients=13, difference_patients=n, **unclear) for n in (3, 5))
    assert (few.light, enough.light) == ("not shown", "worth nothing")


def test_without_a_floor_the_sentence_names_what_the_light_stands_on():
    ends = dict.fromkeys(["difference", "difference_low", "difference_high"], NAN)
    low = {"value": 0.3, "low": 0.2, "high": 0.45}
    worse = verdict(auc=low, floor="", **ends)
    assert worse.light == "worth nothing"
    assert worse.sentence.endswith("does worse than chance (AUC 0.30).")
    failed = verdict(failed=["a check"], floor="", **ends)
    assert failed.light == "not shown"
    assert '"a check"' in failed.sentence


def test_a_failed_check_shows_nothing():
    made = verdict(failed=["No patient stands on two sides of the splits"])
    assert made.light == "not shown"
    assert "the run fails 1 check of how it was kept honest" in made.sentence
    assert '"No patient stands on two sides of the splits"' in made.sentence
    assert made.sentence.endswith("what stands on it is not shown.")
    worse = verdict(failed=["x"], difference_low=-0.3, difference_high=-0.1)
    assert worse.light == "worth nothing"


def test_without_scores_or_floor_nothing_is_shown():
    none = judge(pd.DataFrame(), None, str)
    assert (none.light, none.conditions) == ("not shown", ())
    assert none.sentence.startswith("Not shown: ")
    ends = dict.fromkeys(["difference", "difference_low", "difference_high"], NAN)
    alone = verdict(floor="", **ends)
    assert alone.light == "not shown"
    assert "no trivial floor was scored" in alone.sentence


def test_masks_that_were_seen_are_counted_in_the_sentence():
    assert "after seeing 1 mask, reaches" in verdict(masks_seen=1).sentence
    assert "after seeing 12 masks, reaches" in verdict(masks_seen=12).sentence


def test_the_rules_stand_in_the_documentation():
    text = " ".join((Path(__file__).parents[2] / "docs" / "report.md").read_text().split())
    for light, rule in RULES.items():
        assert f"**{light}**" in text
        assert rule in text
    for condition in verdict(depends="yes", failed=[]).conditions:
        assert condition.rule.replace("\N{NO-BREAK SPACE}", " ") in text
