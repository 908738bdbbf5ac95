"""Cuts that keep the most lesions at a share of false alarms."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from scipy import stats

from weakseg.scores.false_alarms import cuts_for_false_alarms, upper_share

LESION = [True, True, True, True, False, False, False, False]
SAID = [0.9, 0.9, 0.6, 0.2, 0.8, 0.3, 0.1, 0.1]
PEAK = [0.9, 0.4, 0.9, 0.8, 0.3, 0.95, 0.2, 0.0]


def marked(cuts, said=SAID, peak=PEAK):
    return [a >= cuts[0] and b >= cuts[1] and b > 0 for a, b in zip(said, peak, strict=True)]


@pytest.mark.parametrize(
    ("share", "cuts"),
    [
        (0.0, (0.45, 0.35)),  # 0.3 goes by the first, 0.3 by the second; one lesion goes as well
        (0.25, (0.0, 0.35)),  # one of the four may stay: that of 0.95
        (0.3, (0.0, 0.25)),  # of 1.2 the whole: two
        (0.75, (0.0, 0.0)),  # the fourth marks nothing at all
    ],
)
def test_the_cuts_by_hand(share, cuts):
    assert cuts_for_false_alarms(LESION, SAID, PEAK, share) == pytest.approx(cuts)


def test_one_kind_of_evidence_alone():
    # Just above 0.95 there is no lesion left, and nothing to be midway to: 0.3 and 0.95 stay.
    ones = [1.0] * 8
    assert cuts_for_false_alarms(LESION, ones, PEAK, 0.25) == pytest.approx((0.0, 0.35))
    assert cuts_for_false_alarms(LESION, ones, [*PEAK[:5], 0.5, 0.2, 0.0], 0.0) == pytest.approx(
        (0.0, 0.65)
    )


def test_a_healthy_image_that_nothing_exceeds_is_cut_as_far_as_can_be():
    found = cuts_for_false_alarms([True, False, False], [1.0, 1.0, 1.0], [0.5, 0.9, 0.4], 0.0)
    assert found == pytest.approx((0.0, 0.45))


def test_without_any_evidence_nothing_is_cut():
    assert cuts_for_false_alarms([True, False], [0.9, 0.1], [0.0, 0.0], 0.0) == (0.0, 0.0)


values = st.sampled_from([0.0, 0.1, 0.2, 0.5, 0.7, 0.9, 1.0])


@given(
    st.lists(st.tuples(st.booleans(), values, values), min_size=2, max_size=9),
    st.sampled_from([0.0, 0.2, 0.5, 1.0]),
)
def test_no_other_pair_does_better(rows, share):
    lesion, said, peak = (np.array(v) for v in zip(*rows, strict=True))
    if lesion.all() or not lesion.any():
        with pytest.raises(ValueError, match="with and without"):
            cuts_for_false_alarms(lesion, said, peak, share)
        return
    allowed = math.ceil(share * (~lesion).sum())

    def rank(cuts):
        found = np.array(marked(cuts, said, peak))
        return max(int((found & ~lesion).sum()) - allowed, 0), -int((found & lesion).sum())

    cuts = cuts_for_false_alarms(lesion, said, peak, share)
    assert all(0 <= c <= 1 for c in cuts)
    # All cuts that differ on these images, but those above the highest value, which are none.
    grid = [0.0, 0.05, 0.15, 0.35, 0.6, 0.8, 0.95]
    tops = said[peak > 0].max(initial=0), peak.max()
    tried = [(a, b) for a, b in itertools.product(grid, grid) if a <= tops[0] and b <= tops[1]]
    assert rank(cuts) == min(rank(c) for c in tried)


@pytest.mark.parametrize(
    ("said", "peak", "share"),
    [
        ([0.5], [0.5, 0.5], 0),
        ([0.5, 2], [0.5, 0.5], 0),
        ([0.5, 1], [0.5, math.nan], 0),
        ([0.5, 1], [0.5, 0.5], 1.1),
    ],
)
def test_what_is_no_evidence_is_refused(said, peak, share):
    with pytest.raises(ValueError, match=r"one length|in \[0, 1\]"):
        cuts_for_false_alarms([True, False], said, peak, share)


# What the share may be among other patients


def test_the_upper_share_by_hand():
    """1 of 4 images, one patient's alone: s = 1/4, squares 1/4 + 1/4, so that the standard error
    is sqrt(2 / 1 * 1/2) / 4 = 1/4; Student's quantile of 3/4 with one degree is tan 45 deg = 1."""
    assert upper_share([1, 0], [2, 2], 0.75) == pytest.approx(0.5)
    # Both of the same patient: squares 1 + 1, error 1/2.
    assert upper_share([2, 0], [2, 2], 0.75) == pytest.approx(1.0)
    # One of each: patients do not differ.
    assert upper_share([1, 1], [2, 2], 0.75) == pytest.approx(0.5)
    np.testing.assert_allclose(upper_share([[1, 0], [2, 0]], [2, 2], 0.5), [0.25, 0.5])


def test_nothing_marked_is_nothing_and_one_patient_tells_nothing_else():
    assert upper_share([0, 0, 0], [5, 1, 2], 0.95) == 0
    np.testing.assert_array_equal(upper_share([[0], [1]], [9], 0.9), [0, np.inf])


@given(st.lists(st.booleans(), min_size=2, max_size=30), st.floats(0.5, 0.99))
def test_of_patients_with_one_image_it_is_the_bound_of_a_mean(marked, confidence):
    values = np.array(marked, dtype=float)
    t = stats.t.ppf(confidence, len(values) - 1)
    bound = values.mean() + t * stats.sem(values)
    assert upper_share(values, np.ones(len(values)), confidence) == pytest.approx(bound, abs=1e-12)


@pytest.mark.parametrize(("second", "marks"), [("a", 1), ("b", 2)])
def test_cuts_for_other_patients_by_hand(second, marks):
    """At a share of 1/2 two of four healthy images may be marked; for other patients as well, by
    the figures above, if they are of two patients, and one if they are of one."""
    lesion, peaks = [True, False, False, False, False], [1.0, 0.9, 0.8, 0.2, 0.1]
    patients = ["a", "a", second, "b", "b" if second == "a" else "a"]

    def found(**how):
        cuts = cuts_for_false_alarms(lesion, [1.0] * 5, peaks, 0.5, patients=patients, **how)
        return sum(marked(cuts, [1.0] * 5, peaks)[1:])

    assert found() == 2
    assert found(confidence=0.75) == marks


# With the first cut at 0 one of two marked images is too many, at 0.5 the only one.
@example([(False, 0.0, 0.0, "a")] * 4 + [(False, 0.0, 0.9, "a"), (False, 0.9, 0.9, "b")], 0.3, 0.8)
@given(
    st.lists(st.tuples(st.booleans(), values, values, st.sampled_from("abc")), max_size=12),
    st.sampled_from([0.0, 0.1, 0.3, 1.0]),
    st.sampled_from([0.5, 0.8, 0.95]),
)
def test_the_bound_is_kept_or_no_cuts_mark_fewer(rows, share, confidence):
    rows = [(True, 0.9, 0.9, "a"), (False, 0.1, 0.1, "b"), *rows]
    lesion, said, peak, patient = (np.array(v) for v in zip(*rows, strict=True))
    known, numbers = np.unique(patient[~lesion], return_inverse=True)
    healthy = np.bincount(numbers)

    def alarms(cuts):
        found = np.array(marked(cuts, said, peak))[~lesion]
        return np.bincount(numbers, weights=found, minlength=len(known))

    how = {"patients": patient, "confidence": confidence}
    found = alarms(cuts_for_false_alarms(lesion, said, peak, share, **how))
    if upper_share(found, healthy, confidence) > share + 1e-9:
        kinds = [np.unique(v[peak > 0]) for v in (said, peak)]
        between = [[0.0, *(u[1:] + u[:-1]) / 2] for u in kinds]
        fewest = min(alarms(cuts).sum() for cuts in itertools.product(*between))
        assert found.sum() == fewest


@pytest.mark.parametrize(
    ("how", "match"),
    [
        ({"confidence": 0.9}, "needs patients"),
        ({"confidence": 0.9, "patients": ["a"]}, "needs patients"),
        ({"confidence": 1.0, "patients": list("abcdefgh")}, r"in \[1/2, 1\)"),
        ({"confidence": 0.4, "patients": list("abcdefgh")}, r"in \[1/2, 1\)"),
    ],
)
def test_bounds_that_cannot_be_are_refused(how, match):
    with pytest.raises(ValueError, match=match):
        cuts_for_false_alarms(LESION, SAID, PEAK, 0.1, **how)
