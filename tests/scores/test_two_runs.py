"""Paired differences of two runs, held against cases computed by hand."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from weakseg.scores.paired import holm, signed_rank_p
from weakseg.scores.statistics import cluster_mean_interval
from weakseg.scores.two_runs import TWO_RUNS_COLUMNS, compare_two_runs

# Case, patient, lesion, group: three images of p1, one each of p2 and p3; two healthy ones.
CASES = [
    ("c1", "p1", True, "x"),
    ("c2", "p1", True, "x"),
    ("c3", "p1", True, "y"),
    ("c4", "p2", True, "x"),
    ("c5", "p3", True, "y"),
    ("h1", "p2", False, "x"),
    ("h2", "p4", False, "y"),
]
GROUPS = {case: group for case, *_, group in CASES}


def rows(dice, alarms=(False, False), seed=0):
    """A method's rows: Dice of the lesions in order (0 is missed), marks on the healthy images."""
    out = []
    values = iter([*dice, *[float(not a) for a in alarms]])
    for case, patient, lesion, _ in CASES:
        value = next(values)
        out.append((case, patient, seed, lesion, value, lesion and value == 0))
    columns = ["case", "patient", "seed", "has_lesion", "dice", "missed"]
    return pd.DataFrame(out, columns=columns).assign(false_alarm=[False] * 5 + list(alarms))


def test_by_hand():
    a, b = rows([0.2, 0.4, 0.6, 0.0, 0.8], (True, True)), rows([0.3, 0.6, 0.9, 0.5, 0.7])
    table = compare_two_runs(a, b, GROUPS, bootstrap=300, seed=3)
    assert tuple(table.columns) == TWO_RUNS_COLUMNS
    whole, x, y = table.to_dict("records")
    assert [r["group"] for r in (whole, x, y)] == ["all", "x", "y"]
    assert [whole[k] for k in ("images", "patients", "lesion_images", "lesion_patients")] == [
        7, 4, 5, 3,
    ]  # fmt: skip
    # Gains 0.1, 0.2, 0.3 of p1, 0.5 of p2, -0.1 of p3.
    assert whole["dice_a"] == pytest.approx(0.4)
    assert whole["dice_b"] == pytest.approx(0.6)
    assert whole["difference"] == pytest.approx(0.2)
    gains, patients = [0.1, 0.2, 0.3, 0.5, -0.1], ["p1", "p1", "p1", "p2", "p3"]
    ends = cluster_mean_interval(gains, patients, bootstrap=300, seed=3)
    assert (whole["low"], whole["high"]) == pytest.approx((ends.low, ends.high))
    # Patients' means 0.2, 0.5, -0.1: the smallest alone is negative, 2 of 8 sign flips at a side.
    assert whole["p"] == whole["p_holm"] == pytest.approx(0.5)
    assert (whole["missed_a"], whole["missed_b"]) == pytest.approx((0.2, 0))
    assert (whole["false_positive_rate_a"], whole["false_positive_rate_b"]) == (1, 0)
    assert x["difference"] == pytest.approx((0.1 + 0.2 + 0.5) / 3)
    assert y["difference"] == pytest.approx(0.1)
    assert (x["lesion_patients"], y["lesion_patients"]) == (2, 2)
    assert (x["healthy_images"], y["healthy_images"]) == (1, 1)
    assert [x["p"], y["p"]] == [signed_rank_p([0.15, 0.5]), signed_rank_p([0.3, -0.1])]
    assert [x["p_holm"], y["p_holm"]] == holm([x["p"], y["p"]]).tolist()


def test_seeds_are_averaged_within_a_case_first():
    a = rows([0.5] * 5)
    two = pd.concat([rows([0.4] * 4 + [0.0], seed=0), rows([0.8] * 5, seed=1)])
    found = compare_two_runs(a, two).iloc[0]
    assert found["difference"] == pytest.approx((4 * 0.1 - 0.1) / 5)
    assert found["missed_b"] == pytest.approx(0.5 / 5)


def test_what_one_has_no_dice_of_is_left_out_of_both():
    a, b = rows([0.2, 0.4, np.nan, 0.4, 0.8]), rows([0.3, np.nan, 0.9, 0.5, 0.7])
    found = compare_two_runs(a, b).iloc[0]
    assert (found["lesion_images"], found["images"]) == (3, 7)
    assert found["dice_a"] == pytest.approx(1.4 / 3)
    assert found["difference"] == pytest.approx(0.1 / 3)


def test_the_other_way_round_has_the_other_sign():
    a, b = rows([0.2, 0.4, 0.6, 0.0, 0.8]), rows([0.3, 0.6, 0.9, 0.5, 0.7])
    there, back = (compare_two_runs(*p, bootstrap=50).iloc[0] for p in ((a, b), (b, a)))
    assert there["difference"] == -back["difference"]
    assert (there["low"], there["high"]) == pytest.approx((-back["high"], -back["low"]))
    assert there["p"] == back["p"]


def test_without_a_lesion_there_is_no_dice_and_alarms_are_counted():
    healthy = rows([0.1] * 5, (True, False)).query("not has_lesion")
    found = compare_two_runs(healthy, healthy).iloc[0]
    assert np.isnan(found["difference"])
    assert np.isnan(found["p"])
    assert (found["lesion_images"], found["false_positive_rate_a"]) == (0, 0.5)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda b: b[1:], "the same cases"),
        (lambda b: b.assign(patient="p1"), "agree in the patient"),
        (lambda b: b.assign(has_lesion=True), "agree in the has_lesion"),
    ],
)
def test_other_cases_are_refused(change, words):
    a = rows([0.2] * 5)
    with pytest.raises(ValueError, match=words):
        compare_two_runs(a, change(a))


def test_a_case_without_a_group_is_refused():
    a = rows([0.2] * 5)
    with pytest.raises(ValueError, match="none of 'h2'"):
        compare_two_runs(a, a, {c: g for c, g in GROUPS.items() if c != "h2"})
