"""What intervals allow to say."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from weakseg.scores import Interval, caution, dark_contributes, depends_mainly, keeps_more
from weakseg.scores.conclusions import LEAST_SEEDS
from weakseg.settings import LEAST_PATIENTS

NAN = float("nan")
VERDICT = {"no": 0, "cannot tell": 1, "yes": 2}


def ends(low, high, value=None):
    return Interval((low + high) / 2 if value is None else value, low, high, 20, 9)


NONE = ends(NAN, NAN, 0.7)
WIDTHS = st.floats(0, 0.6)
INTERVALS = st.builds(lambda low, width: ends(low, low + width), st.floats(-0.7, 1), WIDTHS)
RISES = st.tuples(st.floats(0, 0.5), st.floats(0, 0.5))


def raised(interval, rise):
    """Both ends moved up, the upper one at least as far as it takes to stay above."""
    low = interval.low + rise[0]
    return ends(low, max(low, interval.high + rise[1]))


@pytest.mark.parametrize(
    ("share", "expected"),
    [
        (ends(0.6, 0.9), ("yes", "clear")),
        (ends(0.5, 0.9), ("cannot tell", "interval")),
        (ends(0.3, 0.8), ("cannot tell", "interval")),
        (ends(0.2, 0.5), ("cannot tell", "interval")),
        (ends(0.2, 0.49), ("no", "clear")),
        (ends(-0.4, 0.1), ("no", "clear")),
        (ends(1.1, 1.4), ("yes", "clear")),
        (ends(NAN, NAN), ("cannot tell", "chance")),
        (NONE, ("cannot tell", "too few")),
    ],
)
def test_depends_mainly(share, expected):
    assert depends_mainly(share) == expected


@pytest.mark.parametrize(
    ("dark", "minus_shape", "headroom", "expected"),
    [
        # Without a control.
        (ends(0.6, 0.8), None, None, ("yes", "no control")),
        (ends(0.51, 0.54), None, None, ("yes", "no control")),
        (ends(0.5, 0.54), None, None, ("no", "chance")),
        (ends(0.3, 0.4), None, None, ("cannot tell", "below chance")),
        (ends(0.3, 0.5), None, None, ("no", "chance")),
        (ends(0.0, 0.0), ends(-0.4, -0.3), ends(0.2, 0.3), ("cannot tell", "below chance")),
        (ends(0.5, 0.55), None, None, ("cannot tell", "interval")),
        (ends(0.4, 0.7), None, None, ("cannot tell", "interval")),
        # Above chance, and above what the shape gives away.
        (ends(0.7, 0.8), ends(0.05, 0.2), ends(0.1, 0.3), ("yes", "beyond shape")),
        (ends(0.7, 0.8), ends(0.01, 0.02), ends(0.0, 0.03), ("yes", "beyond shape")),
        # At chance: whatever the shape does.
        (ends(0.4, 0.54), ends(-0.4, -0.3), ends(-0.01, 0.01), ("no", "chance")),
        (ends(0.4, 0.54), ends(0.01, 0.1), ends(0.2, 0.3), ("no", "chance")),
        # Above chance and no better than the shape, though the whole image is.
        (ends(0.7, 0.8), ends(-0.1, 0.04), ends(0.06, 0.2), ("no", "only shape")),
        (ends(0.45, 0.8), ends(-0.1, 0.04), ends(0.06, 0.2), ("no", "only shape")),
        # The shape does as well as the whole image.
        (ends(0.7, 0.8), ends(-0.1, 0.04), ends(0.05, 0.2), ("cannot tell", "shape")),
        (ends(0.7, 0.8), ends(-0.1, 0.2), ends(-0.1, 0.1), ("cannot tell", "shape")),
        # Too wide.
        (ends(0.7, 0.8), ends(0.0, 0.05), ends(0.1, 0.3), ("cannot tell", "interval")),
        (ends(0.5, 0.8), ends(0.01, 0.2), ends(0.1, 0.3), ("cannot tell", "interval")),
        # One patient.
        (NONE, None, None, ("cannot tell", "too few")),
        (NONE, NONE, NONE, ("cannot tell", "too few")),
        (ends(0.7, 0.8), NONE, ends(0.1, 0.3), ("cannot tell", "too few")),
        (ends(0.7, 0.8), ends(0.1, 0.2), NONE, ("cannot tell", "too few")),
        (ends(NAN, NAN), None, None, ("cannot tell", "too few")),
    ],
)
def test_dark_contributes(dark, minus_shape, headroom, expected):
    assert dark_contributes(dark, minus_shape, headroom) == expected


def test_the_margin_of_dark_contributes():
    assert dark_contributes(ends(0.4, 0.54), margin=0.04).answer == "cannot tell"
    assert dark_contributes(ends(0.4, 0.54), margin=0.1) == ("no", "chance")
    given_shape = ends(0.7, 0.8), ends(-0.1, 0.08), ends(0.15, 0.3)
    assert dark_contributes(*given_shape) == ("cannot tell", "interval")
    assert dark_contributes(*given_shape, margin=0.1) == ("no", "only shape")
    assert dark_contributes(*given_shape, margin=0.2) == ("cannot tell", "shape")


@pytest.mark.parametrize(
    ("difference", "expected"),
    [
        (ends(0.1, 0.2), ("more", "clear")),
        (ends(0.01, 0.02), ("more", "clear")),
        (ends(-0.2, -0.1), ("less", "clear")),
        (ends(-0.02, -0.01), ("less", "clear")),
        (ends(0, 0), ("as much", "clear")),
        (ends(0, 0.04), ("as much", "clear")),
        (ends(-0.04, 0.04), ("as much", "clear")),
        (ends(-0.05, 0.04), ("cannot tell", "interval")),
        (ends(-0.04, 0.05), ("cannot tell", "interval")),
        (ends(0, 0.3), ("cannot tell", "interval")),
        (ends(-0.3, 0), ("cannot tell", "interval")),
        (NONE, ("cannot tell", "too few")),
        (ends(NAN, NAN), ("cannot tell", "too few")),
    ],
)
def test_keeps_more(difference, expected):
    assert keeps_more(difference) == expected


def test_the_margin_of_keeps_more():
    assert keeps_more(ends(-0.08, 0.08)).answer == "cannot tell"
    assert keeps_more(ends(-0.08, 0.08), margin=0.1).answer == "as much"
    assert keeps_more(ends(0, 0), margin=0).answer == "cannot tell"


@given(INTERVALS, RISES)
def test_a_greater_share_never_makes_the_answer_smaller(share, rise):
    before, after = depends_mainly(share), depends_mainly(raised(share, rise))
    assert VERDICT[before.answer] <= VERDICT[after.answer]


@given(INTERVALS, INTERVALS, INTERVALS, RISES, RISES, st.booleans())
def test_better_dark_pixels_never_make_the_answer_smaller(
    dark, minus_shape, headroom, rise, other_rise, control
):
    rest = (minus_shape, headroom) if control else (None, None)
    up = (raised(minus_shape, other_rise), headroom) if control else (None, None)
    before, after = dark_contributes(dark, *rest), dark_contributes(raised(dark, rise), *up)
    assume(before.reason != "below chance")  # an answer of its own: none
    assert VERDICT[before.answer] <= VERDICT[after.answer]


@given(INTERVALS, INTERVALS, INTERVALS)
def test_the_shape_control_never_turns_no_into_yes(dark, minus_shape, headroom):
    alone, controlled = dark_contributes(dark), dark_contributes(dark, minus_shape, headroom)
    if alone.answer == "no":
        assert controlled == alone
    if controlled.answer == "yes":
        assert alone.answer == "yes"


@given(INTERVALS, INTERVALS, st.floats(0, 0.5))
def test_the_more_headroom_the_fewer_doubts_about_the_shape(dark, minus_shape, low):
    little = dark_contributes(dark, minus_shape, ends(low, 1.0))
    much = dark_contributes(dark, minus_shape, ends(low + 0.5, 1.5))
    assert not (little.reason == "only shape" and much != little)
    assert (little.answer == "yes") == (much.answer == "yes")


@given(INTERVALS, RISES)
def test_a_greater_difference_never_makes_the_answer_smaller(difference, rise):
    before, after = keeps_more(difference).answer, keeps_more(raised(difference, rise)).answer
    if before == "more":
        assert after == "more"
    if after == "less":
        assert before == "less"


@given(INTERVALS)
def test_swapped_conditions_swap_the_answer(difference):
    swapped = {"more": "less", "less": "more"}
    mirrored = keeps_more(ends(-difference.high, -difference.low))
    answer = keeps_more(difference).answer
    assert mirrored.answer == swapped.get(answer, answer)


@given(INTERVALS, st.floats(0, 1), st.floats(0, 1))
def test_a_sure_answer_survives_a_narrower_interval(interval, a, b):
    low, high = (
        float(np.clip(interval.low + t * (interval.high - interval.low), *interval[1:3]))
        for t in sorted((a, b))
    )
    narrow = ends(low, high)
    if depends_mainly(interval).answer != "cannot tell":
        assert depends_mainly(narrow) == depends_mainly(interval)
    if keeps_more(interval).answer in ("more", "less"):
        assert keeps_more(narrow) == keeps_more(interval)
    elif keeps_more(interval).answer == "as much":
        assert keeps_more(narrow).answer != "cannot tell"
    if dark_contributes(interval).answer == "yes":
        assert dark_contributes(narrow).answer == "yes"


@pytest.mark.parametrize(
    ("seeds", "patients", "words"),
    [
        (LEAST_SEEDS, LEAST_PATIENTS, []),
        (9, 900, []),
        (1, 900, ["with one seed"]),
        (2, 900, ["only 2 seeds"]),
        (5, 900, ["only 5 seeds"]),
        (6, 4, ["only 4 patients, fewer than 5"]),
        (6, 1, ["of one patient: there are no intervals"]),
        (1, 2, ["with one seed", "only 2 patients"]),
    ],
)
def test_caution(seeds, patients, words):
    found = caution(seeds, patients)
    assert len(found) == len(words)
    for sentence, part in zip(found, words, strict=True):
        assert part in sentence
        assert sentence[0].isupper()
        assert sentence.endswith(".")


def test_errors():
    for margin in (-0.1, NAN):
        with pytest.raises(ValueError, match="margin must not be negative, got"):
            keeps_more(ends(0, 1), margin=margin)
        with pytest.raises(ValueError, match="margin must not be negative, got"):
            dark_contributes(ends(0, 1), margin=margin)
    with pytest.raises(ValueError, match="give both or neither"):
        dark_contributes(ends(0, 1), ends(0, 1))
    with pytest.raises(ValueError, match="give both or neither"):
        dark_contributes(ends(0, 1), raw_minus_shape=ends(0, 1))


def test_a_hole_that_tells_the_class_forbids_the_no():
    small = ends(0.1, 0.3)
    assert depends_mainly(small, ends(0.4, 0.6)) == ("no", "clear")
    assert depends_mainly(small, ends(0.5, 0.6)) == ("no", "clear")
    assert depends_mainly(small, ends(0.51, 0.6)) == ("cannot tell", "shape")
    assert depends_mainly(ends(0.6, 0.9), ends(0.51, 0.6)) == ("yes", "clear")


@pytest.mark.parametrize("one_end", [ends(NAN, 0.9, 0.8), ends(0.6, NAN, 0.8)])
def test_a_single_end_is_no_interval(one_end):
    too_few = ("cannot tell", "too few")
    whole = ends(0.6, 0.9)
    assert depends_mainly(one_end) == keeps_more(one_end) == dark_contributes(one_end) == too_few
    assert dark_contributes(whole, one_end, whole) == too_few
    assert dark_contributes(whole, whole, one_end) == too_few
