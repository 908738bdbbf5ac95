"""Means with intervals over patients."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from weakseg.scores import Interval, cluster_mean_interval
from weakseg.scores import statistics as module
from weakseg.scores.statistics import (
    check_bootstrap,
    other_seed,
    patient_numbers,
    percentile_interval,
    ratio,
    resampled_counts,
)

SCORES = st.lists(
    st.tuples(st.floats(0, 1), st.sampled_from("abcdefg")), min_size=1, max_size=30
).map(lambda rows: tuple(np.array(column) for column in zip(*rows, strict=True)))


def naive(values, patients, bootstrap, level, seed):
    """Draw patients, lay out their cases one after the other, average."""
    names = sorted(set(patients))
    rng = np.random.default_rng(seed)
    means = []
    for _ in range(bootstrap):
        cases = []
        for drawn in rng.integers(len(names), size=len(names)):
            cases += [v for v, p in zip(values, patients, strict=True) if p == names[drawn]]
        means.append(sum(cases) / len(cases))
    tail = 100 * (1 - level) / 2
    return np.percentile(means, tail), np.percentile(means, 100 - tail)


@pytest.mark.parametrize(("cases", "count"), [(12, 3), (60, 11), (25, 25)])
@pytest.mark.parametrize("level", [0.95, 0.5])
def test_equal_to_a_naive_loop(cases, count, level):
    rng = np.random.default_rng(cases)
    values = rng.random(cases)
    patients = [f"p{k:02}" for k in np.r_[np.arange(count), rng.integers(count, size=cases)]]
    patients = np.array(patients[:cases])
    found = cluster_mean_interval(values, patients, bootstrap=150, level=level, seed=7)
    low, high = naive(values, patients, 150, level, 7)
    assert found == Interval(
        pytest.approx(values.mean()), pytest.approx(low), pytest.approx(high), cases, count
    )
    assert low < high


def test_blocks_do_not_change_the_draw(monkeypatch):
    whole = np.concatenate(list(resampled_counts(7, 50, seed=3)))
    monkeypatch.setattr(module, "_BLOCK_CELLS", 30)
    blocks = list(resampled_counts(7, 50, seed=3))
    assert len(blocks) == 13
    np.testing.assert_array_equal(np.concatenate(blocks), whole)
    assert whole.shape == (50, 7)
    np.testing.assert_array_equal(whole.sum(axis=1), 7)
    assert [len(rows) for rows in resampled_counts(70, 3, seed=3)] == [1, 1, 1]


def test_two_patients_by_hand():
    # Three outcomes: 0 (1/4), 0.5 (1/2), 1 (1/4).
    found = cluster_mean_interval([0, 1], ["a", "b"], bootstrap=4000)
    assert found == Interval(0.5, 0.0, 1.0, 2, 2)
    middle = cluster_mean_interval([0, 1], ["a", "b"], bootstrap=4000, level=0.4)
    assert (middle.low, middle.high) == (0.5, 0.5)


def test_a_patient_with_more_cases_weighs_more():
    found = cluster_mean_interval([0, 0, 0, 1], ["a", "a", "a", "b"])
    assert found.value == 0.25
    assert (found.low, found.high) == (0, 1)


def test_gaps_are_left_out():
    values, patients = [0.1, np.nan, 0.5, np.nan], ["a", "a", "b", "c"]
    assert cluster_mean_interval(values, patients) == cluster_mean_interval([0.1, 0.5], ["a", "b"])
    objects = [0.1, None, 0.5, None]
    assert cluster_mean_interval(objects, patients) == cluster_mean_interval(values, patients)


def test_nothing_left():
    for values, patients in [([], []), ([np.nan, np.nan], ["a", "b"])]:
        found = cluster_mean_interval(values, patients)
        assert found[3:] == (0, 0)
        assert np.isnan(found[:3]).all()


def test_one_patient_has_a_mean_but_no_interval():
    found = cluster_mean_interval([0.2, 0.4], ["a", "a"])
    assert found.value == pytest.approx(0.3)
    assert math.isnan(found.low)
    assert math.isnan(found.high)
    assert found[3:] == (2, 1)


@given(SCORES, st.randoms(use_true_random=False))
@settings(max_examples=60, deadline=None)
def test_order_and_names_of_patients_do_not_matter(rows, random):
    values, patients = rows
    found = cluster_mean_interval(values, patients, bootstrap=100)
    order = list(range(len(values)))
    random.shuffle(order)
    shuffled = cluster_mean_interval(values[order], patients[order], bootstrap=100)
    renamed = cluster_mean_interval(values, [f"x{p}9" for p in patients], bootstrap=100)
    np.testing.assert_allclose(shuffled, found, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(renamed, found, rtol=1e-12)


@given(SCORES, st.floats(-3, 3), st.sampled_from([0.5, 2.0, 10.0]))
@settings(max_examples=60, deadline=None)
def test_shift_and_scale(rows, shift, scale):
    values, patients = rows
    found = np.array(cluster_mean_interval(values, patients, bootstrap=100)[:3])
    moved = cluster_mean_interval(scale * values + shift, patients, bootstrap=100)[:3]
    np.testing.assert_allclose(moved, scale * found + shift, rtol=1e-9, atol=1e-9)


@given(SCORES)
@settings(max_examples=60, deadline=None)
def test_interval_lies_within_the_patients_means(rows):
    values, patients = rows
    found = cluster_mean_interval(values, patients, bootstrap=100)
    means = [values[patients == p].mean() for p in np.unique(patients)]
    assert min(means) - 1e-9 <= found.value <= max(means) + 1e-9
    if found.patients > 1:
        assert min(means) - 1e-9 <= found.low <= found.high <= max(means) + 1e-9


def test_equal_scores_have_an_interval_without_width():
    found = cluster_mean_interval([0.1] * 7, list("aabbccc"))
    assert found[:3] == pytest.approx((0.1, 0.1, 0.1))


def test_coverage_with_clusters_and_its_lack_without():
    rng = np.random.default_rng(5)
    patients = np.repeat(np.arange(40), 8).astype(str)
    clustered = naively = 0
    for trial in range(200):
        values = np.repeat(rng.normal(size=40), 8) + 0.5 * rng.normal(size=320)
        a = cluster_mean_interval(values, patients, bootstrap=200, seed=trial)
        b = cluster_mean_interval(values, np.arange(320), bootstrap=200, seed=trial)
        clustered += a.low <= 0 <= a.high
        naively += b.low <= 0 <= b.high
    assert 0.88 <= clustered / 200 <= 0.99
    assert naively / 200 < 0.7


def test_seeds():
    values, patients = np.random.default_rng(0).random(30), [f"{i}" for i in range(30)]
    first = cluster_mean_interval(values, patients, bootstrap=100, seed=1)
    assert first == cluster_mean_interval(values, patients, bootstrap=100, seed=1)
    assert first != cluster_mean_interval(values, patients, bootstrap=100, seed=2)


def test_undefined_resamples_are_dropped():
    replicates = np.array([np.nan, 1.0, 2.0, np.nan, 3.0])
    assert percentile_interval(replicates, 5, 0.5) == (1.5, 2.5)
    assert np.isnan(percentile_interval(np.full(3, np.nan), 5)).all()
    assert np.isnan(percentile_interval(replicates, 1)).all()
    assert percentile_interval(np.array([np.nan, 2.0]), 5) == (2, 2)


def test_patients_are_numbered_by_name():
    number, count = patient_numbers(["b", "a", "b", "c"])
    assert number.tolist() == [1, 0, 1, 2]
    assert count == 3
    assert patient_numbers([10, 9, 10])[0].tolist() == [0, 1, 0]


@pytest.mark.parametrize(
    ("values", "patients", "options", "message"),
    [
        ([1.0, 2.0], ["a"], {}, r"one length, got shapes \(2,\) and \(1,\)"),
        ([[1.0]], [["a"]], {}, "one length"),
        ([1.0, np.inf], ["a", "b"], {}, "must not be infinite, got 1; charge a missed lesion"),
        ([1.0, 2.0], ["a", ""], {}, "patients must name the patient of every case, got 1 without"),
        ([1.0, 2.0], np.array(["a", None], dtype=object), {}, "got 1 without"),
        ([1.0, 2.0], [1.0, np.nan], {}, "got 1 without"),
        ([1.0], ["a"], {"bootstrap": 0}, "bootstrap must be at least 1 resample, got 0"),
        ([1.0], ["a"], {"level": 95}, "level must lie between 0 and 1, got 95"),
    ],
)
def test_errors(values, patients, options, message):
    with pytest.raises(ValueError, match=message):
        cluster_mean_interval(values, patients, **options)


def test_the_least_that_is_allowed():
    check_bootstrap(1)
    for level in (0, 1):
        with pytest.raises(ValueError, match="level must lie between 0 and 1"):
            check_bootstrap(1, level)


def test_a_quotient_by_nothing_is_undefined():
    np.testing.assert_array_equal(ratio([1, 0, 3, 5], [2, 0, 0, 1]), [0.5, np.nan, np.nan, 5])
    assert ratio(-1, -4) == 0.25


def test_the_second_seed_is_another_and_stays():
    """Of what was drawn with it once, the intervals are to be found again."""
    seeds = [other_seed(s) for s in range(50)]
    assert len({*seeds, *range(50)}) == 100
    assert seeds[3] == np.random.SeedSequence([3, 1]).generate_state(1)[0]
