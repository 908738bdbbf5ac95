"""Every method against every other."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from weakseg.report.tables import paired_difference
from weakseg.scores import holm, paired_tests
from weakseg.scores.paired import PAIRED_COLUMNS, lesion_dice, signed_rank_p

P_VALUES = st.lists(st.floats(0, 1), min_size=1, max_size=12)


def table(dice, seeds=1, images=1):
    """Rows of ``per_case.csv``: method → one Dice a patient."""
    rows = [
        (f"c{p:02}-{i}", f"p{p:02}", method, seed, value, True)
        for method, values in dice.items()
        for p, value in enumerate(values)
        for i in range(images)
        for seed in range(seeds)
    ]
    return pd.DataFrame(rows, columns=["case", "patient", "method", "seed", "dice", "has_lesion"])


def all_sign_flips(differences):
    """Two-sided p by trying every sign, zeros ranked and then left out."""
    d = np.asarray(differences, dtype=float)
    ranks = stats.rankdata(np.abs(d))[d != 0]
    kept = d[d != 0]
    observed = abs((np.sign(kept) * ranks).sum())
    flips = np.array(list(itertools.product([-1, 1], repeat=len(kept))))
    return float(np.mean(np.abs(flips @ ranks) >= observed - 1e-9))


@pytest.mark.parametrize(
    ("p", "expected"),
    [
        ([0.01], [0.01]),
        ([0.01, 0.04, 0.03, 0.005], [0.03, 0.06, 0.06, 0.02]),
        # The second would be 2 × 0.02 = 0.04, less than the first: it takes the first's 0.045.
        ([0.015, 0.02, 0.9], [0.045, 0.045, 0.9]),
        ([0.5, 0.6, 0.7], [1, 1, 1]),
        ([np.nan, 0.01, np.nan, 0.04], [np.nan, 0.02, np.nan, 0.04]),
        ([0.0, 1.0], [0.0, 1.0]),
        ([np.nan], [np.nan]),
        ([], []),
    ],
)
def test_holm_by_hand(p, expected):
    np.testing.assert_allclose(holm(p), expected)


@given(P_VALUES, st.randoms(use_true_random=False))
def test_holm_lies_between_p_and_bonferroni_in_any_order(p, random):
    adjusted = holm(p)
    assert (adjusted >= np.array(p)).all()
    assert (adjusted <= np.minimum(1, len(p) * np.array(p)) + 1e-12).all()
    by_p = adjusted[np.argsort(p, kind="stable")]
    assert (np.diff(by_p) >= 0).all()
    order = list(range(len(p)))
    random.shuffle(order)
    np.testing.assert_array_equal(holm(np.array(p)[order]), adjusted[order])


def test_holm_refuses_what_is_no_p():
    with pytest.raises(ValueError, match=r"p must lie between 0 and 1, got -0\.1 to 2"):
        holm([-0.1, 2.0])
    with pytest.raises(ValueError, match=r"got 0\.5 to 1\.5"):
        holm([1.5, 0.5])


@given(st.lists(st.integers(-4, 4), min_size=1, max_size=10))
@settings(max_examples=80, deadline=None)
def test_signed_rank_with_ties_and_zeros_equals_all_sign_flips(differences):
    d = np.array(differences) / 10
    assert signed_rank_p(d) == pytest.approx(all_sign_flips(d) if d.any() else 1.0)


@pytest.mark.parametrize("n", [4, 12, 30])
def test_signed_rank_without_ties_equals_scipy(n):
    d = np.random.default_rng(n).normal(0.3, 1, n)
    assert signed_rank_p(d) == pytest.approx(stats.wilcoxon(d, method="exact").pvalue)
    assert signed_rank_p(-d) == pytest.approx(signed_rank_p(d))


def test_signed_rank_of_many_is_near_the_exact_one(monkeypatch):
    d = np.round(np.random.default_rng(1).normal(0.1, 1, 150), 1)
    exact = signed_rank_p(d)
    monkeypatch.setattr("weakseg.scores.paired._EXACT_PATIENTS", 10)
    assert signed_rank_p(d) == pytest.approx(exact, rel=0.03)


def test_signed_rank_limits():
    assert signed_rank_p([0.0, 0.0]) == 1
    assert math.isnan(signed_rank_p([]))
    assert signed_rank_p([0.2, np.nan]) == 1
    assert signed_rank_p([0.2, None]) == 1
    assert signed_rank_p([0.1] * 6) == 2 / 2**6
    # 0.3 - 0.2 and 0.1 differ by rounding only: they tie. (Broken by rounding, p would be 1.)
    assert signed_rank_p([0.3 - 0.2] * 3 + [-0.1]) == 0.625


def test_signed_rank_p_is_uniform_enough_without_a_difference():
    rng = np.random.default_rng(3)
    p = np.array([signed_rank_p(rng.normal(size=15)) for _ in range(1000)])
    for level in (0.05, 0.2, 0.5):
        assert np.mean(p <= level) == pytest.approx(level, abs=0.035)


def test_pairs_by_hand():
    base = np.linspace(0.2, 0.8, 10)
    dice = {"low": base - 0.1, "high": base + 0.1, "same": base + 0.1, "wild": base[::-1]}
    found = paired_tests(table(dice, seeds=2, images=3), bootstrap=200)
    assert tuple(found.columns) == PAIRED_COLUMNS
    assert list(zip(found["method"], found["other"], strict=True)) == list(
        itertools.combinations(dice, 2)
    )
    by = found.set_index(["method", "other"])
    first = by.loc["low", "high"]
    assert first["difference"] == pytest.approx(-0.2)
    assert first["p"] == 2 / 2**10
    assert first["p_holm"] == 6 * 2 / 2**10
    assert first["better"] == "other"
    assert by.loc["low", "same"]["p_holm"] == 6 * 2 / 2**10  # the second of two equal ones
    assert by.loc["high", "same"]["p"] == 1
    assert by.loc["high", "same"]["better"] == "unclear"
    assert by.loc["low", "wild"]["better"] == "unclear"
    assert (found["patients"] == 10).all()
    assert not found["too_few"].any()
    turned = paired_tests(table(dice), ["high", "low"], bootstrap=200).iloc[0]
    assert turned["better"] == "method"
    assert turned["p_holm"] == turned["p"]


def test_difference_is_that_of_the_report():
    rng = np.random.default_rng(0)
    rows = table({"a": rng.random(9), "b": rng.random(9)}, seeds=2, images=2)
    rows["dice"] = rng.random(len(rows))
    rows.loc[[3, 8], "dice"] = np.nan
    found = paired_tests(rows, bootstrap=300, seed=4).iloc[0]
    expected = paired_difference(rows, "a", "b", bootstrap=300, seed=4)
    assert found[["difference", "low", "high", "patients"]].tolist() == pytest.approx(
        [expected.value, expected.low, expected.high, expected.patients]
    )


@pytest.mark.parametrize(
    ("patients", "methods", "too_few"),
    [(5, 2, True), (6, 2, False), (6, 3, True), (8, 4, False), (1, 2, True)],
)
def test_too_few_patients_are_named(patients, methods, too_few):
    # With 6 patients the least p is 1/32; times three pairs that is above 0.05.
    dice = {f"m{i}": np.full(patients, 0.1 * i) for i in range(methods)}
    found = paired_tests(table(dice), bootstrap=50)
    assert (found["too_few"] == too_few).all()
    assert (found["better"] == ("unclear" if too_few else "other")).all()


def test_patients_count_once_however_many_images_they_have():
    # One patient with many images that says the opposite of nine others.
    rows = table({"a": np.full(10, 0.5), "b": np.full(10, 0.4)})
    many = table({"a": [0.1], "b": [0.9]}, images=60)
    many["case"] = "x" + many["case"]
    found = paired_tests(pd.concat([rows, many]), bootstrap=50).iloc[0]
    assert found["difference"] < 0
    assert found["p"] == all_sign_flips([0.1] * 9 + [-0.79])
    assert found["better"] == "unclear"


def test_methods_without_shared_cases():
    rows = pd.concat([table({"a": [0.1] * 8}), table({"b": [0.2] * 8})], ignore_index=True)
    rows.loc[rows["method"] == "b", "case"] = "other-" + rows["case"]
    found = paired_tests(rows, bootstrap=50).iloc[0]
    assert found["patients"] == 0
    assert np.isnan(found["p"])
    assert np.isnan(found["p_holm"])
    assert found["better"] == "unclear"
    assert found["too_few"]


def test_one_method_and_healthy_images():
    rows = table({"a": [0.1, 0.2], "b": [1.0, 1.0]})
    rows.loc[rows["method"] == "b", "has_lesion"] = False
    assert paired_tests(rows).empty
    assert tuple(paired_tests(rows).columns) == PAIRED_COLUMNS
    with pytest.raises(ValueError, match="method 'b' has no scored image with a lesion"):
        lesion_dice(rows, "b")
    with pytest.raises(ValueError, match="method 'aa' is not in per_case; did you mean 'a'"):
        paired_tests(rows, ["a", "aa"])


def test_the_side_is_that_of_the_rank_sum_not_of_the_count_or_of_the_least():
    """30 patients: 15 small losses, which hold 120 of the 465 ranks, and 15 greater gains."""
    lead = np.r_[-0.001 * np.arange(1, 16), 0.02 * np.arange(1, 16)]
    found = paired_tests(table({"a": 0.3 + lead, "b": np.full(30, 0.3)}), bootstrap=50).iloc[0]
    assert found["p_holm"] < 0.05
    assert found["better"] == "method"
    turned = paired_tests(table({"a": 0.3 - lead, "b": np.full(30, 0.3)}), bootstrap=50).iloc[0]
    assert turned["better"] == "other"


def test_a_pair_of_one_patient_is_a_test_among_the_others():
    """Six patients give at least p = 1/32: alone that is few enough, of three tests it is not."""
    six, one = table({"a": np.full(6, 0.5), "b": np.full(6, 0.1)}), table({"c": [0.3]})
    assert not paired_tests(six, bootstrap=50)["too_few"].any()
    found = paired_tests(pd.concat([six, one]), bootstrap=50).set_index(["method", "other"])
    assert found["patients"].to_dict() == {("a", "b"): 6, ("a", "c"): 1, ("b", "c"): 1}
    assert found["too_few"].all()
    assert found.loc[("a", "b"), "p_holm"] == pytest.approx(3 / 32)


def test_exact_up_to_two_hundred_differences_and_the_library_beyond():
    assert signed_rank_p(np.full(200, 0.1)) == 2.0**-199
    many = np.r_[np.zeros(60), np.random.default_rng(5).normal(0.2, 1, 230)].round(2)
    expected = stats.wilcoxon(many, zero_method="pratt", method="asymptotic").pvalue
    assert signed_rank_p(many) == expected
    assert expected != stats.wilcoxon(many, zero_method="wilcox", method="asymptotic").pvalue


def test_gaps_elsewhere_leave_a_dice_as_it_is():
    """Methods without a seed, and lesions that nothing touched, have empty cells."""
    rows = table({"a": [0.1, 0.2, 0.4], "b": [0.3, 0.3, 0.5]}).assign(seed=np.nan, hd95=np.nan)
    assert lesion_dice(rows, "a")["dice"].tolist() == [0.1, 0.2, 0.4]
    rows.loc[0, "dice"] = np.nan
    assert lesion_dice(rows, "a")["dice"].tolist() == [0.2, 0.4]


def test_who_a_case_is_of_must_be_known():
    rows = table({"a": [0.1, 0.2], "b": [0.3, 0.3]})
    rows.loc[rows["case"] == "c00-0", "patient"] = None
    with pytest.raises(ValueError, match="name the patient of every case, got 1 without"):
        paired_tests(rows, bootstrap=5)


def test_names_may_be_numbers():
    rows = table({"a": [0.1, 0.2, 0.4], "b": [0.3, 0.3, 0.5]})
    named = paired_tests(rows, bootstrap=50)
    numbered = rows.assign(case=rows["case"].str[1:3].astype(int))
    numbered["patient"] = rows["patient"].str[1:].astype(int)
    pd.testing.assert_frame_equal(paired_tests(numbered, bootstrap=50), named)
    rows["method"] = rows["method"].map({"a": 1, "b": 2})
    assert paired_tests(rows, bootstrap=50)[["method", "other"]].iloc[0].tolist() == ["1", "2"]
