"""Cuts that keep the most lesions at a share of false alarms."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from weakseg.scores.false_alarms import cuts_for_false_alarms

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
