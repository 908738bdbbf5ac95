"""Scores of retrained classifiers, with intervals over seeds and patients."""

from __future__ import annotations

from math import erf, isnan, sqrt

import numpy as np
import pytest
from sklearn import metrics

from weakseg.scores import (
    EVIDENCE_SCORES,
    Evidence,
    classification_scores,
    evidence_intervals,
    weighted_auc,
)
from weakseg.scores import retraining_effects as module

LESIONS = (1, 2)


def sample(patients=12, images=4, classes=3, random=0):
    """Truth and patients of uneven size, every class in most patients."""
    rng = np.random.default_rng(random)
    y = rng.integers(classes, size=patients * images)
    names = np.array([f"p{k:03}" for k in rng.integers(patients, size=patients * images)])
    return y, names


def predict(y, strengths, random=0, noise=1.0):
    """Probabilities (S, N, K), the more right the greater the strength of a seed."""
    rng = np.random.default_rng(random)
    k = int(y.max()) + 1
    logits = noise * rng.normal(size=(len(strengths), len(y), k))
    logits += np.asarray(strengths)[:, None, None] * np.eye(k)[y]
    p = np.exp(logits)
    return p / p.sum(axis=2, keepdims=True)


def binary(p_lesion):
    """(S, N) P(lesion) as probabilities of two classes."""
    p = np.asarray(p_lesion, dtype=float)
    return np.stack([1 - p, p], axis=-1)


def by_sklearn(y, p, lesions=LESIONS, weights=None):
    """All scores of one seed."""
    is_lesion, guess = np.isin(y, lesions), p.argmax(axis=1)
    p_lesion = p[:, list(lesions)].sum(axis=1)
    seen = np.unique(y if weights is None else y[weights > 0])
    recalls = metrics.recall_score(y, guess, labels=seen, average=None, sample_weight=weights)
    return {
        "auc": metrics.roc_auc_score(is_lesion, p_lesion, sample_weight=weights),
        "accuracy": metrics.accuracy_score(y, guess, sample_weight=weights),
        "balanced_accuracy": np.mean(recalls),
    }


def loop(predictions, y, patients, bootstrap, seed):
    """Every resample laid out image by image and scored by scikit-learn, as (B,) means."""
    names = np.unique(patients)
    seeds = len(next(iter(predictions.values())))
    drawn_patients = np.random.default_rng(seed).integers(len(names), size=(bootstrap, len(names)))
    other = int(np.random.SeedSequence([seed, 1]).generate_state(1)[0])
    drawn_seeds = np.random.default_rng(other).integers(seeds, size=(bootstrap, seeds))
    found = {name: {score: [] for score in EVIDENCE_SCORES} for name in predictions}
    for b in range(bootstrap):
        rows = np.concatenate([np.flatnonzero(patients == names[k]) for k in drawn_patients[b]])
        assert set(y[rows]) == set(y), "otherwise the resample is dropped"
        for name, p in predictions.items():
            each = [by_sklearn(y[rows], p[s][rows]) for s in drawn_seeds[b]]
            for score in EVIDENCE_SCORES:
                found[name][score].append(np.mean([e[score] for e in each]))
    return {n: {s: np.array(v) for s, v in scores.items()} for n, scores in found.items()}


def width(interval):
    return interval.high - interval.low


@pytest.mark.parametrize(("classes", "lesions"), [(2, (1,)), (3, (1, 2)), (4, (0, 2))])
def test_values_equal_to_sklearn_mean_over_seeds(classes, lesions):
    y, patients = sample(classes=classes)
    predictions = {"raw": predict(y, [1, 2, 0.5]), "dark": predict(y, [0, 0.2, 0.1], random=1)}
    found = evidence_intervals(predictions, y, lesions, patients, bootstrap=30)
    assert found.conditions == ("raw", "dark")
    assert (found.seeds, found.cases, found.patients) == (3, len(y), len(np.unique(patients)))
    for name, p in predictions.items():
        each = [by_sklearn(y, one, lesions) for one in p]
        for score in EVIDENCE_SCORES:
            interval = found.interval(name, score)
            np.testing.assert_allclose(found.by_seed[name][score], [e[score] for e in each])
            assert interval.value == pytest.approx(np.mean([e[score] for e in each]))
            assert interval.low < interval.high
            assert interval[3:] == (found.cases, found.patients)


@pytest.mark.parametrize("seeds", [1, 3])
def test_intervals_equal_to_a_naive_loop(seeds):
    y, patients = sample()
    predictions = {
        "raw": predict(y, [1.0, 2.0, 0.6][:seeds]),
        "dark": predict(y, [0.5, 0.1, 0.3][:seeds], random=1),
    }
    found = evidence_intervals(predictions, y, LESIONS, patients, bootstrap=40, seed=5)
    expected = loop(predictions, y, patients, 40, 5)
    for score in EVIDENCE_SCORES:
        for name in predictions:
            np.testing.assert_allclose(found.replicates[name][score], expected[name][score])
        lead = expected["raw"][score] - expected["dark"][score]
        difference = found.difference("raw", "dark", score)
        assert difference[1:3] == pytest.approx(tuple(np.percentile(lead, [2.5, 97.5])))


def test_one_seed_has_the_intervals_of_the_classification_scores():
    y, patients = sample(30)
    p = predict(y, [1.0])
    found = evidence_intervals({"raw": p}, y, LESIONS, patients, bootstrap=200, seed=3)
    expected = classification_scores(y, p[0], LESIONS, patients, bootstrap=200, seed=3)
    for score, other in [("auc", "auc_lesion"), ("accuracy",) * 2, ("balanced_accuracy",) * 2]:
        interval = found.interval("raw", score)._asdict()
        assert {k: interval[k] for k in expected[other]} == pytest.approx(expected[other]), score


def test_blocks_do_not_change_the_replicates(monkeypatch):
    y, patients = sample()
    p = {"raw": predict(y, [1, 2])}
    whole = evidence_intervals(p, y, LESIONS, patients, bootstrap=50)
    monkeypatch.setattr(module, "_BLOCK_CELLS", 7 * len(y))
    monkeypatch.setattr("weakseg.scores.statistics._BLOCK_CELLS", 100)
    blocks = evidence_intervals(p, y, LESIONS, patients, bootstrap=50)
    for score in EVIDENCE_SCORES:
        np.testing.assert_allclose(
            blocks.replicates["raw"][score], whole.replicates["raw"][score], rtol=1e-12
        )


@pytest.mark.parametrize("strengths", [[1.2], [1, 1.5]])
def test_more_images_of_the_same_patients_are_no_more_evidence(strengths):
    y, patients = sample()
    p = predict(y, strengths)
    more, more_y = {"raw": np.repeat(p, 5, axis=1)}, np.repeat(y, 5)

    once = evidence_intervals({"raw": p}, y, LESIONS, patients, bootstrap=100)
    copies = evidence_intervals(more, more_y, LESIONS, np.repeat(patients, 5), bootstrap=100)
    for score in EVIDENCE_SCORES:
        assert copies.interval("raw", score)[:3] == pytest.approx(once.interval("raw", score)[:3])


def test_more_images_of_other_patients_are():
    """One seed: what seeds differ by would stay."""
    y, patients = sample()
    p = predict(y, [1.2])
    once = evidence_intervals({"raw": p}, y, LESIONS, patients, bootstrap=200)
    more, more_y = {"raw": np.repeat(p, 5, axis=1)}, np.repeat(y, 5)
    strangers = evidence_intervals(more, more_y, LESIONS, np.arange(len(more_y)), bootstrap=200)
    for score in EVIDENCE_SCORES:
        assert width(strangers.interval("raw", score)) < 0.7 * width(once.interval("raw", score))


def test_a_tie_goes_to_the_lowest_class():
    p = np.array([[[0.5, 0.5], [0.5, 0.5], [0.2, 0.8]]])
    found = evidence_intervals({"raw": p}, [0, 1, 1], (1,), list("abc"), bootstrap=5)
    assert found.interval("raw", "accuracy").value == pytest.approx(2 / 3)
    assert found.interval("raw", "balanced_accuracy").value == pytest.approx(3 / 4)
    assert found.interval("raw").value == pytest.approx(3 / 4)


def test_a_difference_to_itself_is_nothing_and_to_another_has_two_sides():
    y, patients = sample()
    predictions = {"a": predict(y, [1, 2]), "b": predict(y, [0.5, 0.6], random=1)}
    found = evidence_intervals(predictions, y, LESIONS, patients, bootstrap=100)
    for score in EVIDENCE_SCORES:
        assert found.difference("a", "a", score)[:3] == (0, 0, 0)
        one, other = found.difference("a", "b", score), found.difference("b", "a", score)
        assert one[:3] == pytest.approx((-other.value, -other.high, -other.low))
        values = [found.interval(name, score).value for name in "ab"]
        assert one.value == pytest.approx(values[0] - values[1])


def test_pairing_narrows_the_difference_of_alike_conditions():
    y, patients = sample(30)
    rng = np.random.default_rng(2)
    alike = predict(y, [0.5, 1.5])
    other = np.clip(alike + 0.02 * rng.normal(size=alike.shape), 1e-3, 1)
    other /= other.sum(axis=2, keepdims=True)
    found = evidence_intervals({"a": alike, "b": other}, y, LESIONS, patients, bootstrap=300)
    unpaired = found.replicates["a"]["auc"] - np.random.default_rng(0).permutation(
        found.replicates["b"]["auc"]
    )
    low, high = np.percentile(unpaired, [2.5, 97.5])
    assert width(found.difference("a", "b")) < 0.3 * (high - low)


def test_seeds_that_differ_widen_the_interval():
    y, patients = sample(60)
    good, bad = predict(y, [3.0])[0], predict(y, [0.2])[0]
    middle = predict(y, [1.0])[0]

    def found(p):
        return evidence_intervals({"raw": np.stack(p)}, y, LESIONS, patients, bootstrap=400)

    spread, same = found([good, middle, bad]), found([middle] * 3)
    assert width(spread.interval("raw")) > 2 * width(same.interval("raw"))
    one = found([middle])
    assert same.interval("raw")[:3] == pytest.approx(one.interval("raw")[:3])
    assert (same.seeds, one.seeds) == (3, 1)


def test_seeds_and_patients_are_drawn_independently():
    """As many seeds as patients: with one stream for both, a patient would bring its seed."""
    n = 6
    y = np.tile([0, 1], n)
    patients = np.repeat([f"p{k}" for k in range(n)], 2)
    # Seed k is wrong on patient k alone, so that the score tells whether both were drawn together.
    right = ~np.eye(n, dtype=bool).repeat(2, axis=1)
    p = {"raw": binary(np.where(right, y, 1 - y))}
    found = evidence_intervals(p, y, (1,), patients, bootstrap=3000)
    assert found.replicates["raw"]["accuracy"].mean() == pytest.approx(1 - 1 / n, abs=0.005)
    assert found.interval("raw", "accuracy").value == pytest.approx(1 - 1 / n)


def test_intervals_cover_what_they_claim():
    """Accuracies that vary with patient and seed: 95 % intervals, and one blind to seeds."""
    rng = np.random.default_rng(11)
    patients, images, seeds, runs = 40, 2, 8, 120
    by_patient, by_seed = 0.5, 0.35
    truth = 0.5 * (1 + erf(0.8 / sqrt(1 + by_patient**2 + by_seed**2) / sqrt(2)))
    names = np.repeat(np.arange(patients), images)
    y = np.tile([0, 1], patients)
    covered = blind = 0
    for run in range(runs):
        ease = 0.8 + np.repeat(by_patient * rng.normal(size=patients), images)
        ease = ease + by_seed * rng.normal(size=(seeds, 1))
        right = ease + rng.normal(size=(seeds, patients * images)) > 0
        p = {"raw": binary(np.where(right, y, 1 - y))}
        interval = evidence_intervals(p, y, (1,), names, bootstrap=200, seed=run).interval(
            "raw", "accuracy"
        )
        covered += interval.low <= truth <= interval.high
        means = right.mean(axis=0).reshape(patients, images).mean(axis=1)
        spread = 1.96 * means.std() / sqrt(patients)
        blind += abs(means.mean() - truth) <= spread
    assert 0.89 <= covered / runs <= 1
    assert blind / runs < 0.85


def made(raw, rest, raw_drawn, rest_drawn, patients=9):
    """Evidence with replicates of choice."""
    return Evidence(
        {"raw": {"auc": np.array(raw)}, "rest": {"auc": np.array(rest)}},
        {"raw": {"auc": np.array(raw_drawn)}, "rest": {"auc": np.array(rest_drawn)}},
        len(raw),
        20,
        patients,
    )


def test_share_lost_by_hand():
    # Seeds' means 0.9 and 0.6, so that 0.3 of 0.4 are lost; the resamples lose 0, 1/2 and 1.
    found = made([0.8, 1.0], [0.5, 0.7], [0.9, 0.9, 0.7, np.nan], [0.9, 0.7, 0.5, np.nan])
    share = found.share_lost("raw", "rest")
    assert share == pytest.approx((0.75, 0.025, 0.975, 20, 9))
    assert found.share_lost("raw", "raw")[:3] == (0, 0, 0)


def test_share_lost_drops_resamples_where_raw_is_at_chance():
    raw, rest = np.r_[np.full(199, 0.9), 0.5], np.r_[np.full(199, 0.7), 0.9]
    share = made([0.9], [0.7], raw, rest).share_lost("raw", "rest")
    assert share[:3] == pytest.approx((0.5, 0.5, 0.5))


def test_a_twentieth_of_the_resamples_at_chance_is_not_yet_too_many():
    """Of twenty the low end lies between the two lowest."""
    raw = [0.5] + [0.9] * 19
    assert made([0.9], [0.7], raw, [0.7] * 20).share_lost("raw", "rest").value == pytest.approx(0.5)
    assert isnan(made([0.9], [0.7], raw[:19], [0.7] * 19).share_lost("raw", "rest").value)


def test_sums_of_half_precision_are_probabilities_of_at_most_one():
    p = np.array([[[0, 0.6, 0.405], [0, 0.5, 0.5]]])
    found = evidence_intervals({"raw": p}, [0, 1], LESIONS, list("ab"), bootstrap=5)
    assert found.interval("raw").value == 0.5


def test_half_precision_is_summed_in_double():
    """By itself it has no number between 1/2 + 1/2048 and 1/2 + 2/2048: the two would tie."""
    least = 0.5 + 2.0**-11
    half = np.array([[[0.5, least, 0], [0.5, least, 2.0**-13]]], dtype=np.float16)
    found = evidence_intervals({"raw": half}, [0, 1], LESIONS, list("ab"), bootstrap=5)
    assert found.interval("raw").value == 1
    assert half[0, 1, 1:].sum() == half[0, 0, 1:].sum(), "the example must show something"


@pytest.mark.parametrize(
    ("value", "drawn"),
    [
        (0.8, [0.4] * 4 + [0.9] * 96),  # The low end is below chance; a twenty-fifth is.
        (0.8, [0.5] + [0.9] * 9),  # The low end, between two resamples, is above; a tenth is not.
        (0.5, [0.6] * 100),
        (0.4, [0.9] * 100),
        (np.nan, [np.nan] * 100),
    ],
)
def test_no_share_of_nothing(value, drawn):
    share = made([value], [0.5], drawn, [0.5] * len(drawn)).share_lost("raw", "rest")
    assert np.isnan(share[:3]).all()


def test_share_lost_of_predictions():
    y, patients = sample(60)
    predictions = {"raw": predict(y, [2, 2.5]), "rest": predict(y, [0.6, 0.7], random=1)}
    predictions["chance"] = np.full_like(predictions["raw"], 1 / 3)
    found = evidence_intervals(predictions, y, LESIONS, patients, bootstrap=300)
    share = found.share_lost("raw", "rest")
    assert 0 < share.low < share.value < share.high < 1
    assert found.share_lost("raw", "chance")[:3] == (1, 1, 1)
    assert isnan(found.share_lost("chance", "rest").value)


def test_one_patient_has_values_but_no_ends():
    y, _ = sample()
    predictions = {"raw": predict(y, [2, 2.5]), "rest": predict(y, [0.6, 0.7], random=1)}
    found = evidence_intervals(predictions, y, LESIONS, ["x"] * len(y), bootstrap=20)
    for interval in (
        found.interval("raw"),
        found.difference("raw", "rest"),
        found.share_lost("raw", "rest"),
    ):
        assert np.isfinite(interval.value)
        assert np.isnan(interval[1:3]).all()


def test_resamples_without_a_class_are_dropped():
    """One patient holds every lesion: a third of the resamples have none."""
    y = [0, 0, 0, 1]
    predictions = {
        "raw": binary([[0.1, 0.6, 0.2, 0.5], [0.1, 0.2, 0.2, 0.9]]),
        "dark": binary([[0.3, 0.4, 0.5, 0.4]] * 2),
    }
    found = evidence_intervals(predictions, y, (1,), ["a", "b", "c", "c"], bootstrap=400)
    missing = np.isnan(found.replicates["raw"]["auc"])
    assert 0.2 < missing.mean() < 0.4
    np.testing.assert_array_equal(missing, np.isnan(found.replicates["dark"]["auc"]))
    assert np.isfinite(found.interval("raw")[:3]).all()
    assert np.isfinite(found.difference("raw", "dark")[:3]).all()
    assert not np.isnan(found.replicates["raw"]["accuracy"]).any()


@pytest.mark.parametrize("label", [0, 1])
def test_a_single_class_leaves_the_accuracy_only(label):
    _, patients = sample()
    y = np.full(len(patients), label)
    p = np.full((2, len(y), 3), 1 / 3)
    found = evidence_intervals({"raw": p}, y, LESIONS, patients, bootstrap=20)
    assert np.isnan(found.interval("raw")[:3]).all()
    assert np.isnan(found.interval("raw", "balanced_accuracy")[:3]).all()
    assert found.interval("raw", "accuracy")[:3] == (1 - label,) * 3
    assert isnan(found.share_lost("raw", "raw").value)


def test_resamples_are_scored_many_at_a_time(monkeypatch):
    """One by one, forty conditions of 2000 images would take an hour instead of 20 seconds."""
    rows = []

    def counted(positive, score, weights):
        rows.append(len(weights))
        return weighted_auc(positive, score, weights)

    monkeypatch.setattr(module, "weighted_auc", counted)
    y, patients = sample(200, 10)
    p = {name: predict(y, [1, 1, 1]) for name in "ab"}
    evidence_intervals(p, y, LESIONS, patients, bootstrap=500)
    assert sorted(rows) == [1] * 6 + [50] * 60
    rows.clear()
    monkeypatch.setattr(module, "_BLOCK_CELLS", 1)
    evidence_intervals(p, y, LESIONS, patients, bootstrap=5)
    assert rows == [1] * 36


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"predictions": {}}, "at least one condition, got none"),
        ({"predictions": {"raw": [[0.5, 0.5]] * 2}}, r"\(S, N, K\).*got \(2, 2\) for.*'raw'"),
        ({"predictions": {"raw": np.ones((0, 2, 2))}}, "at least one seed"),
        (
            {"predictions": {"raw": [np.eye(2)] * 2, "dark": [np.eye(2)]}},
            r"same seeds.*\(2, 2, 2\) for 'raw' and \(1, 2, 2\) for 'dark'; leave out",
        ),
        (
            {"predictions": {"raw": [np.eye(2)], "dark": [2 * np.eye(2)]}},
            r"condition 'dark', seed number 0: probabilities must lie in \[0, 1\]",
        ),
        ({"y": [0, 2]}, r"condition 'raw', seed number 0: y must lie in 0 \.\.\. 1"),
        ({"y": [0, 1, 1]}, r"shape \(3, K\)"),
        ({"lesion_classes": (2,)}, "lesion_classes must be different class numbers"),
        ({"patients": ["a"]}, r"patients must have one entry an image, \(2,\), got shape \(1,\)"),
        ({"patients": ["a", ""]}, "patients must name"),
        ({"bootstrap": 0}, "bootstrap must be at least 1"),
    ],
)
def test_errors(change, message):
    good = {
        "predictions": {"raw": [np.eye(2)]},
        "y": [0, 1],
        "lesion_classes": (1,),
        "patients": ["a", "b"],
        "bootstrap": 5,
    }
    evidence_intervals(**good)
    with pytest.raises(ValueError, match=message):
        evidence_intervals(**(good | change))


def test_errors_of_names():
    found = evidence_intervals({"raw": [np.eye(2)]}, [0, 1], (1,), ["a", "b"], bootstrap=5)
    with pytest.raises(ValueError, match=r"no condition 'rwa'; did you mean 'raw'\?"):
        found.interval("rwa")
    with pytest.raises(ValueError, match="no condition 'dark'"):
        found.difference("raw", "dark")
    with pytest.raises(ValueError, match="no condition 'dark'"):
        found.share_lost("raw", "dark")
    with pytest.raises(ValueError, match=r"one of auc, accuracy, balanced_accuracy, got 'f1'"):
        found.interval("raw", "f1")


def drawn(raw, rest):
    """Evidence of two conditions whose resamples are as told."""
    each = {"raw": np.asarray(raw, float), "rest": np.asarray(rest, float)}
    values = {n: {"auc": v[:1]} for n, v in each.items()}
    return Evidence(values, {n: {"auc": v} for n, v in each.items()}, 1, 9, 9)


def test_a_classifier_whose_interval_begins_at_chance_has_nothing_to_lose():
    """Of 81 resamples about the third lowest is the lower end of the interval."""
    raw, rest = np.full(81, 0.9), np.full(81, 0.7)
    assert drawn(raw, rest).share_lost("raw", "rest").value == pytest.approx(0.5)
    raw[1:5] = 0.5
    assert drawn(raw, rest).interval("raw").low == 0.5
    assert isnan(drawn(raw, rest).share_lost("raw", "rest").value)
    raw[2:5] = 0.51
    assert drawn(raw, rest).interval("raw").low > 0.5
    assert drawn(raw, rest).share_lost("raw", "rest").value == pytest.approx(0.5)
