"""Sentences on made-up tables: what is said must follow from the intervals."""

from __future__ import annotations

from typing import Any

import pandas as pd
import pytest

from weakseg.report import words
from weakseg.scores import Interval

NAN = float("nan")


def table(**changes: Any) -> pd.DataFrame:
    row = {
        "method": "gradcam-fixed",
        "group": "no-masks",
        "masks_seen": 0,
        "seeds": 3,
        "dice": 0.481,
        "dice_low": 0.4,
        "dice_high": 0.55,
        "floor": "floor-brightest-10",
        "difference": 0.14,
        "difference_low": 0.06,
        "difference_high": 0.22,
        "difference_patients": 20,
        "missed": 0.08,
        "false_positive_rate": 0.125,
        "false_positive_rate_low": 0.05,
        "false_positive_rate_high": 0.21,
        "lesion_images": 130,
        "healthy_images": 200,
        "patients": 25,
        "gated_lesions": 0.0,
    }
    return pd.DataFrame([row | changes])


AUC = {"value": 0.97, "low": 0.95, "high": 0.99}


def text(methods: pd.DataFrame, auc: dict[str, float] | None = AUC) -> str:
    return " ".join(words.answer(methods, "gradcam-fixed", auc)).replace("\N{NO-BREAK SPACE}", " ")


def test_a_lead_above_zero_is_called_above():
    said = text(table())
    assert "Without seeing a mask, gradcam-fixed reaches a Dice of 0.481 [0.400, 0.550]" in said
    assert "130 test images with a lesion, as the mean of 3 seeds" in said
    assert "above the best trivial floor, marking floor-brightest-10" in said
    assert "+0.140 [0.060, 0.220]" in said
    assert "AUC of 0.970 [0.950, 0.990]." in said
    assert "12 % [5.0 %, 21 %] of the 200 healthy images" in said
    assert "8.0 % of the images with a lesion" in said
    assert "nothing" not in said


def test_methods_and_floors_are_called_as_people_call_them():
    names = {"gradcam-fixed": "elementwise Grad-CAM", "floor-brightest-10": "the brightest tenth"}
    names["gradcam-otsu"] = "Otsu's"
    both = pd.concat([table(), table(method="gradcam-otsu", dice=0.6)], ignore_index=True)
    said = words.answer(both, "gradcam-fixed", AUC, spoken=names.__getitem__)
    assert "seeing a mask, elementwise Grad-CAM reaches" in said[0]
    assert "best trivial floor, marking the brightest tenth:" in said[1]
    note = words.choice_note(both, "gradcam-fixed", spoken=names.__getitem__)
    assert note.startswith("Elementwise Grad-CAM is spoken of because")
    assert "images Otsu's scored higher" in note
    assert "gradcam" not in " ".join([*said, note])


def test_a_lead_below_zero_is_worth_nothing():
    said = text(table(difference=-0.1, difference_low=-0.2, difference_high=-0.01))
    assert "below the best trivial floor" in said
    assert "worth nothing" in said
    assert "−0.100 [−0.200, −0.010]" in said


@pytest.mark.parametrize(("low", "high"), [(-0.05, 0.2), (0.0, 0.2), (-0.2, 0.0)])
def test_an_interval_that_holds_zero_cannot_tell(low: float, high: float):
    said = text(table(difference_low=low, difference_high=high))
    assert "cannot be told" in said
    assert "above" not in said
    assert "worth nothing" not in said


def test_without_an_interval_it_cannot_be_told_either():
    said = text(
        table(
            difference_low=NAN,
            difference_high=NAN,
            difference_patients=1,
            dice_low=NAN,
            dice_high=NAN,
        )
    )
    assert "cannot be told: the difference is +0.140. The test lesions are of a single" in said
    assert "Dice of 0.481 on" in said


@pytest.mark.parametrize(("low", "high"), [(0.06, 0.22), (-0.22, -0.06)])
def test_a_lead_on_few_patients_is_no_claim(low: float, high: float):
    few, enough = (
        text(table(difference_low=low, difference_high=high, difference_patients=n)) for n in (4, 5)
    )
    assert "cannot be told" in few
    assert "The test lesions are of 4 patients, fewer than 5." in few
    assert "cannot be told" not in enough
    ends = Interval((low + high) / 2, low, high, 20, 4)
    assert "cannot be told" in words.lead("a", "b", ends)


def test_a_large_lead_without_interval_is_not_called_above():
    assert words.side_of_zero(NAN, NAN) == "unclear"
    assert words.side_of_zero(None, 0.3) == "unclear"


def test_masks_that_were_seen_are_counted_and_a_single_seed_is_no_mean():
    said = text(table(masks_seen=1, seeds=1))
    assert said.startswith("After seeing 1 mask, gradcam-fixed")
    assert "seeds" not in said


def test_floors_that_were_not_scored_are_missed():
    assert "No trivial floor was scored" in text(table(floor=""))


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [(0.45, 0.7, "is not shown"), (0.3, 0.45, "worse than chance"), (NAN, NAN, "is not shown")],
)
def test_an_auc_is_held_against_chance(low: float, high: float, expected: str):
    assert expected in text(table(), {"value": 0.5, "low": low, "high": high})


def test_no_healthy_image_gives_no_false_positive_rate():
    said = text(table(false_positive_rate=NAN, false_positive_rate_low=NAN, healthy_images=0))
    assert "No healthy image was tested; it leaves 8.0 %" in said


def test_nothing_scored_says_so_and_still_gives_the_auc():
    said = words.answer(pd.DataFrame(), None, AUC)
    assert said[0].startswith("Nothing could be scored")
    assert "0.970" in said[1]


def test_a_method_that_scored_higher_is_named_and_a_lower_one_is_not():
    both = pd.concat([table(dice=0.2), table(method="gradcam-otsu", dice=0.3)], ignore_index=True)
    note = words.choice_note(both, "gradcam-fixed")
    assert note is not None
    assert "gradcam-otsu scored higher (0.300" in note
    assert words.choice_note(both, "gradcam-otsu") is None
    assert words.choice_note(table(), "gradcam-fixed") is None


def test_warnings_name_gate_patients_flat_maps_epochs_and_rules():
    stages = {
        "classifier/resnet18/0": {"best_epoch": 5},
        "classifier/resnet18/1": {"best_epoch": 3},
        "heatmaps/resnet18/seed-0/gradcam": {"flat": 4, "images": 90},
        "segment": {"left_out": {"validation": "no mask"}},
    }
    said = words.warnings(table(gated_lesions=0.25, patients=4), "gradcam-fixed", stages, 5)
    joined = "\n".join(said).replace("\N{NO-BREAK SPACE}", " ")
    assert "emptied the masks of 25 % of the test images" in joined
    assert "4 patients" in joined
    assert "4 of 90 heatmaps of resnet18/seed-0/gradcam are flat" in joined
    assert "last (5) for classifier/resnet18/0:" in joined
    assert "rule validation was left out: no mask." in joined
    assert len(said) == 5


def test_of_a_rule_that_was_left_out_it_names_the_heatmap():
    left_out = {"deep-affinity": "too few pairs (seed 1)", "gradcam-affinity": "none"}
    said = words.warnings(pd.DataFrame(), None, {"segment": {"left_out": left_out}}, 5)
    assert said == [
        "The method deep-affinity was left out: too few pairs (seed 1).",
        "The method gradcam-affinity was left out: none.",
    ]


def test_nothing_to_warn_of_gives_no_warning():
    stages = {"classifier/resnet18/0": {"best_epoch": 3}, "segment": {"left_out": {}}}
    assert words.warnings(table(), "gradcam-fixed", stages, 5) == []


@pytest.mark.parametrize(
    ("value", "low", "high", "expected"),
    [
        (0.1, 0.02, 0.2, "a is better than b: the difference is +0.100 [0.020, 0.200]."),
        (-0.1, -0.2, -0.02, "a is worse than b"),
        (0.1, -0.02, 0.2, "Whether a is better than b cannot be told"),
    ],
)
def test_runs_are_compared_by_their_interval(value: float, low: float, high: float, expected: str):
    assert expected in words.lead("a", "b", Interval(value, low, high, 20, 5))


@pytest.mark.parametrize(
    ("value", "expected"),
    [(0, "0 %"), (0.004, "0.4 %"), (0.5, "50 %"), (0.996, "99.6 %"), (1, "100 %"), (NAN, "–")],
)
def test_percentages_keep_small_shares_apart_from_none(value: float, expected: str):
    assert words.percent(value).replace("\N{NO-BREAK SPACE}", " ") == expected


def test_a_rounded_zero_has_no_sign():
    assert words.number(-0.0001) == "0.000"
    assert words.signed(0.0001) == "0.000"
    assert words.signed(0.02) == "+0.020"


def test_of_a_mean_of_networks_it_says_so():
    said = " ".join(words.answer(table(seeds=1), "gradcam-fixed", AUC, averaged=[0, 3, 7]))
    assert "with a lesion, by the mean of 3 networks (seeds 0, 3, 7)." in said
    assert "as the mean of" not in said
