"""Pixels in the order of their heat."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from weakseg.filtering.ranking import rank, share_count, top_count, top_share

SHAPES = hnp.array_shapes(min_dims=2, max_dims=2, max_side=9)
SHARES = st.one_of(st.floats(0, 1), st.integers(0, 100).map(lambda t: t / 100))


@st.composite
def images(draw):
    """Scores with many ties and some that are not finite, and where they count."""
    shape = draw(SHAPES)
    values = st.sampled_from([-1.5, -0.0, 0.0, 0.0, 0.25, 1.0, np.nan, np.inf, -np.inf])
    scores = draw(hnp.arrays(np.float64, shape, elements=values))
    return scores, draw(hnp.arrays(np.bool_, shape))


def generator(seed=0):
    return np.random.default_rng(seed)


@given(images(), st.integers(0, 99))
def test_every_valid_pixel_once_and_never_a_hotter_one_later(image, seed):
    scores, valid = image
    order = rank(scores, valid, generator(seed))
    assert sorted(order) == np.flatnonzero(valid).tolist()
    heat = scores.ravel()[order]
    finite = np.isfinite(heat)
    assert (np.diff(heat[finite]) <= 0).all()
    assert (np.diff(finite.astype(int)) <= 0).all()
    np.testing.assert_array_equal(order, rank(scores, valid, generator(seed)))


@given(images(), SHARES, SHARES, st.integers(0, 99))
def test_shares_are_exact_and_nested(image, one, other, seed):
    scores, valid = image
    small, large = sorted((one, other))
    n = int(valid.sum())
    less, more = (top_share(scores, s, valid, generator(seed)) for s in (small, large))
    assert less.sum() == share_count(small, n)
    assert more.sum() == share_count(large, n)
    assert not (less & ~valid).any()
    assert not (less & ~more).any()
    assert not (more & ~valid).any()
    nothing, everything = (top_share(scores, s, valid, generator(seed)) for s in (0, 1))
    assert not nothing.any()
    np.testing.assert_array_equal(everything, valid)


@given(st.integers(0, 10_000), st.integers(0, 1000))
def test_round_half_up_of_the_decimal_share(n, thousandths):
    exact = Fraction(thousandths, 1000) * n
    assert share_count(thousandths / 1000, n) == int(exact + Fraction(1, 2))
    assert share_count(np.float64(thousandths / 1000), n) == int(exact + Fraction(1, 2))


def test_rounding_by_hand():
    assert [share_count(0.5, n) for n in range(6)] == [0, 1, 1, 2, 2, 3]
    assert 0.29 * 50 < 14.5
    assert share_count(0.29, 50) == 15


@given(st.integers(0, 60), st.sampled_from([0.1, 0.3, 0.5, 0.7, 0.9]), st.integers(0, 99))
def test_mostly_zero_heat_never_takes_more_than_asked(hot, share, seed):
    heat = np.zeros((12, 20))
    heat.flat[generator(seed + 1).choice(240, hot, replace=False)] = 1 + np.arange(hot)
    valid = np.ones(heat.shape, bool)
    top = top_share(heat, share, valid, generator(seed))
    assert top.sum() == share * 240
    # All hot pixels before any cold one.
    assert (heat[top] > 0).sum() == min(hot, top.sum())


def test_ties_are_broken_evenly():
    """Each of 12 pixels of equal heat is among the first 3, and in each place, equally often."""
    heat, valid = np.zeros((3, 5)), np.ones((3, 5), bool)
    heat[0, :2], valid[2, 4] = (2, 1), False  # hotter ones and a pixel outside change nothing
    tied = [p for p in range(14) if p > 1]
    trials = 6000
    places = np.zeros((15, 12))
    for seed in range(trials):
        order = rank(heat, valid, generator(seed))
        assert order[:2].tolist() == [0, 1]
        places[order[2:], range(12)] += 1
    counts = places[tied]
    expected = trials / 12
    chi2 = ((counts - expected) ** 2 / expected).sum()
    assert chi2 < 173.6  # 99.9 % of the chi-square with 11² degrees of freedom
    assert counts[:, :3].sum(1) == pytest.approx(np.full(12, 3 * expected), rel=0.1)


def test_seeds_break_ties_differently_and_not_in_reading_order():
    heat, valid = np.zeros((16, 16)), np.ones((16, 16), bool)
    marks = [top_share(heat, 0.5, valid, generator(seed)) for seed in range(6)]
    assert len({m.tobytes() for m in marks}) == 6
    for m in marks:
        assert 40 < m[:8].sum() < 88  # about half of the upper half


def test_without_ties_the_seed_does_not_matter():
    heat, valid = generator().random((7, 9)), np.ones((7, 9), bool)
    order = rank(heat, valid, generator(1))
    np.testing.assert_array_equal(order, np.argsort(-heat.ravel()))
    np.testing.assert_array_equal(order, rank(heat, valid, generator(2)))


def test_what_is_not_finite_comes_last():
    heat = np.array([[np.inf, -5.0, np.nan], [3.0, -np.inf, 0.0]])
    order = rank(heat, np.ones((2, 3), bool), generator())
    assert order[:3].tolist() == [3, 5, 1]
    assert set(order[3:]) == {0, 2, 4}


def test_inputs_stay_as_they_are():
    heat, valid = np.array([[np.nan, 1.0]]), np.ones((1, 2), bool)
    rank(heat, valid, generator())
    assert np.isnan(heat[0, 0])
    assert valid.all()


def test_bad_input():
    valid = np.ones((2, 2), bool)
    with pytest.raises(ValueError, match="share must lie in"):
        top_share(np.zeros((2, 2)), 1.1, valid, generator())
    with pytest.raises(ValueError, match="share must lie in"):
        share_count(float("nan"), 3)
    with pytest.raises(ValueError, match=r"0\.\.4"):
        top_count(np.zeros((2, 2)), 5, valid, generator())
    with pytest.raises(ValueError, match="one shape"):
        rank(np.zeros((2, 3)), valid, generator())
    with pytest.raises(ValueError, match="one shape"):
        rank(np.zeros((1, 2, 2)), np.ones((1, 2, 2), bool), generator())
    with pytest.raises(ValueError, match="real numbers"):
        rank(np.full((2, 2), "a"), valid, generator())
