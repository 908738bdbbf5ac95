"""Scores of the classifier."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics
from sklearn.calibration import calibration_curve
from torchmetrics.functional.classification import binary_calibration_error

from weakseg.scores import classification as module
from weakseg.scores import classification_scores, reliability_curve, weighted_auc, youden_threshold


def sample(n, classes, seed, decimals=8):
    """Labels, probabilities that know something of them, and patients of uneven size."""
    rng = np.random.default_rng(seed)
    y = np.r_[np.arange(classes), rng.integers(classes, size=n - classes)]
    logits = rng.normal(size=(n, classes)) + 1.2 * np.eye(classes)[y]
    p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    p = np.round(p, decimals)
    p[:, 0] += 1 - p.sum(axis=1)
    patients = np.array([f"p{k:02}" for k in rng.integers(n // 5, size=n)])
    return y, np.clip(p, 0, 1), patients


def by_sklearn(y, p, lesions):
    """All scores of one sample by scikit-learn and torchmetrics."""
    is_lesion, p_lesion = np.isin(y, lesions), p[:, lesions].sum(axis=1).clip(0, 1)
    guess = p.argmax(axis=1)
    called = np.isin(guess, lesions)
    found = {
        "auc_lesion": metrics.roc_auc_score(is_lesion, p_lesion),
        "accuracy": metrics.accuracy_score(y, guess),
        "balanced_accuracy": np.mean(
            metrics.recall_score(y, guess, labels=np.unique(y), average=None)
        ),
        "sensitivity": metrics.recall_score(is_lesion, called),
        "specificity": metrics.recall_score(is_lesion, called, pos_label=False),
        "ece": float(
            binary_calibration_error(
                torch.from_numpy(p_lesion), torch.from_numpy(is_lesion).int(), n_bins=10, norm="l1"
            )
        ),
        "brier": metrics.brier_score_loss(is_lesion, p_lesion),
    }
    if p.shape[1] > 2:
        found["auc_macro"] = np.mean([metrics.roc_auc_score(y == k, p[:, k]) for k in np.unique(y)])
    return found


@pytest.mark.parametrize(("classes", "lesions"), [(2, [1]), (3, [1, 2]), (4, [2, 3]), (4, [0, 2])])
@pytest.mark.parametrize("seed", range(3))
def test_values_equal_to_sklearn_and_torchmetrics(classes, lesions, seed):
    y, p, patients = sample(120, classes, seed)
    found = classification_scores(y, p, tuple(lesions), patients, bootstrap=50)
    expected = by_sklearn(y, p, lesions)
    assert set(found) == set(expected)
    for name, value in expected.items():
        assert found[name]["value"] == pytest.approx(value, rel=1e-5), name
        assert found[name]["low"] <= found[name]["high"]


@pytest.mark.parametrize(("classes", "lesions"), [(2, [1]), (3, [1, 2])])
def test_intervals_equal_to_a_naive_loop(classes, lesions):
    y, p, patients = sample(60, classes, 5)
    found = classification_scores(y, p, lesions, patients, bootstrap=60, seed=9)
    names = np.unique(patients)
    rng = np.random.default_rng(9)
    draws = []
    for _ in range(60):
        drawn = names[rng.integers(len(names), size=len(names))]
        rows = np.concatenate([np.flatnonzero(patients == name) for name in drawn])
        assert set(y[rows]) == set(range(classes)), "otherwise the resample is dropped"
        draws.append(by_sklearn(y[rows], p[rows], lesions))
    for name, interval in found.items():
        low, high = np.percentile([d[name] for d in draws], [2.5, 97.5])
        assert interval["low"] == pytest.approx(low, rel=1e-5), name
        assert interval["high"] == pytest.approx(high, rel=1e-5), name
        assert low < high


def test_blocks_do_not_change_the_intervals(monkeypatch):
    y, p, patients = sample(40, 3, 2)
    whole = classification_scores(y, p, (1, 2), patients, bootstrap=50)
    monkeypatch.setattr(module, "_BLOCK_CELLS", 7 * 40)
    blocks = classification_scores(y, p, (1, 2), patients, bootstrap=50)
    for name, interval in whole.items():
        assert blocks[name] == pytest.approx(interval, rel=1e-12), name


@pytest.mark.parametrize(
    ("cells", "blocks"), [(2_000_000, [1, 30]), (7 * 40, [1, 7, 7, 7, 7, 2]), (1, [1] * 31)]
)
def test_resamples_are_scored_many_at_a_time_and_no_more_than_memory_holds(
    monkeypatch, cells, blocks
):
    y, p, patients = sample(40, 2, 2)
    rows = []

    def counted(positive, score, weights):
        rows.append(len(weights))
        return weighted_auc(positive, score, weights)

    monkeypatch.setattr(module, "weighted_auc", counted)
    monkeypatch.setattr(module, "_BLOCK_CELLS", cells)
    classification_scores(y, p, (1,), patients, bootstrap=30)
    assert rows == blocks


def test_by_hand():
    y = [0, 0, 1, 1]
    p_lesion = np.array([0.15, 0.85, 0.45, 0.95])
    p = np.stack([1 - p_lesion, p_lesion], axis=1)
    found = classification_scores(y, p, (1,), list("abcd"), bootstrap=20)
    value = {name: s["value"] for name, s in found.items()}
    assert value == pytest.approx(
        {
            "auc_lesion": 0.75,
            "accuracy": 0.5,
            "balanced_accuracy": 0.5,
            "sensitivity": 0.5,
            "specificity": 0.5,
            "ece": (0.15 + 0.85 + 0.55 + 0.05) / 4,
            "brier": (0.15**2 + 0.85**2 + 0.55**2 + 0.05**2) / 4,
        }
    )


def test_sums_of_half_precision_are_probabilities_of_at_most_one():
    """Above 1 by rounding is 1: the healthy image is as sure a lesion as the other, no surer."""
    p = [[0, 0.6, 0.405], [0, 0.5, 0.5], [0.995, 0, 0]]
    found = classification_scores([0, 1, 0], p, (1, 2), list("abc"), bootstrap=5)
    assert found["auc_lesion"]["value"] == 0.75
    assert found["brier"]["value"] == pytest.approx(1 / 3)
    assert found["ece"]["value"] == pytest.approx(1 / 3)


def test_half_precision_is_summed_in_double():
    y, p, patients = sample(60, 3, 7)
    half = p.astype(np.float16)
    found = classification_scores(y, half, (1, 2), patients, bootstrap=10)
    assert found == classification_scores(y, half.astype(float), (1, 2), patients, bootstrap=10)


def test_a_single_image():
    found = classification_scores([1], [[0.2, 0.8]], (1,), ["a"], bootstrap=5)
    assert found["accuracy"]["value"] == found["sensitivity"]["value"] == 1
    assert found["brier"]["value"] == pytest.approx(0.04)


def test_every_class_may_be_a_lesion():
    found = classification_scores([0, 1], np.eye(2), (0, 1), list("ab"), bootstrap=5)
    assert found["sensitivity"]["value"] == 1
    assert np.isnan(found["specificity"]["value"])


def test_two_kinds_of_lesion_are_one_for_sensitivity_and_not_for_accuracy():
    p = np.eye(3)[[2, 1, 0]]
    found = classification_scores([1, 2, 0], p, (1, 2), list("abc"), bootstrap=20)
    assert found["sensitivity"]["value"] == found["specificity"]["value"] == 1
    assert found["accuracy"]["value"] == pytest.approx(1 / 3)
    assert found["auc_lesion"]["value"] == 1
    assert found["auc_macro"]["value"] < 1


@pytest.mark.parametrize(
    ("label", "undefined"),
    [
        (0, {"auc_lesion", "auc_macro", "balanced_accuracy", "sensitivity"}),
        (1, {"auc_lesion", "auc_macro", "balanced_accuracy", "specificity"}),
    ],
)
def test_a_single_class_leaves_some_scores_undefined(label, undefined):
    _, p, patients = sample(30, 3, 1)
    found = classification_scores(np.full(30, label), p, (1, 2), patients, bootstrap=30)
    for name, s in found.items():
        assert np.isnan(list(s.values())).all() == (name in undefined), name


def test_a_class_that_does_not_occur_is_left_out_of_the_means():
    y, p, patients = sample(60, 4, 3)
    y[y == 3] = 2
    found = classification_scores(y, p, (1, 2, 3), patients, bootstrap=20)
    expected = by_sklearn(y, p, [1, 2, 3])
    for name in ("auc_macro", "balanced_accuracy"):
        assert found[name]["value"] == pytest.approx(expected[name])


def test_resamples_without_a_class_are_dropped():
    """One patient holds every lesion: a third of the resamples have none."""
    y, p = np.array([0, 0, 0, 1]), np.array([0.1, 0.6, 0.2, 0.5])
    p = np.stack([1 - p, p], axis=1)
    found = classification_scores(y, p, (1,), ["a", "b", "c", "c"], bootstrap=400)
    assert found["auc_lesion"]["value"] == pytest.approx(2 / 3)
    assert found["auc_lesion"]["high"] == 1
    assert np.isfinite(found["sensitivity"]["low"])


def test_one_patient_has_values_but_no_intervals():
    y, p, _ = sample(30, 3, 1)
    for s in classification_scores(y, p, (1, 2), ["x"] * 30, bootstrap=20).values():
        assert np.isfinite(s["value"])
        assert np.isnan([s["low"], s["high"]]).all()


@pytest.mark.parametrize("decimals", [1, 8])
@pytest.mark.parametrize("seed", range(4))
def test_weighted_auc_equal_to_sklearn(decimals, seed):
    rng = np.random.default_rng(seed)
    positive = np.r_[True, False, rng.random(48) < 0.4]
    score = np.round(rng.random(50) + 0.3 * positive, decimals)
    weights = np.stack([np.ones(50), rng.integers(0, 4, size=50), rng.random(50)])
    weights[:, :2] += 1
    expected = [metrics.roc_auc_score(positive, score, sample_weight=w) for w in weights]
    np.testing.assert_allclose(weighted_auc(positive, score, weights), expected, rtol=1e-12)


SCORED = st.tuples(st.booleans(), st.integers(0, 5), st.integers(0, 3))


@given(st.lists(SCORED, min_size=1, max_size=20))
@settings(max_examples=100, deadline=None)
def test_weighted_auc_is_the_share_of_won_pairs(rows):
    positive, score, weight = (np.array(column) for column in zip(*rows, strict=True))
    won = pairs = 0.0
    for i in np.flatnonzero(positive):
        for j in np.flatnonzero(~positive):
            pairs += weight[i] * weight[j]
            won += weight[i] * weight[j] * (1 + np.sign(score[i] - score[j])) / 2
    found = weighted_auc(positive, score.astype(float), weight[None].astype(float))[0]
    assert found == pytest.approx(won / pairs) if pairs else np.isnan(found)
    swapped = weighted_auc(~positive, score.astype(float), weight[None].astype(float))[0]
    assert swapped == pytest.approx(1 - found, nan_ok=True)


def test_reliability_equal_to_sklearn():
    rng = np.random.default_rng(4)
    p = rng.random(300)
    is_lesion = rng.random(300) < p**2
    curve = reliability_curve(is_lesion, p)
    observed, mean = calibration_curve(is_lesion, p, n_bins=10)
    np.testing.assert_allclose(curve["observed_share"], observed)
    np.testing.assert_allclose(curve["mean_probability"], mean)
    assert curve["count"].sum() == 300
    gap = (curve["observed_share"] - curve["mean_probability"]).abs()
    ece = classification_scores(
        is_lesion.astype(int), np.stack([1 - p, p], 1), (1,), np.arange(300), bootstrap=1
    )["ece"]["value"]
    assert (gap * curve["count"]).sum() / 300 == pytest.approx(ece)


def test_reliability_bins_are_open_above_but_for_the_last():
    curve = reliability_curve([0, 1, 1, 1, 0], [0.0, 0.1, 0.3, 1.0, 0.95])
    expected = pd.DataFrame(
        {
            "bin": range(10),
            "mean_probability": [0, 0.1, np.nan, 0.3, *[np.nan] * 5, 0.975],
            "observed_share": [0, 1, np.nan, 1, *[np.nan] * 5, 0.5],
            "count": [1, 1, 0, 1, 0, 0, 0, 0, 0, 2],
        }
    )
    pd.testing.assert_frame_equal(curve, expected, check_dtype=False)
    assert reliability_curve([], [], bins=2)["count"].tolist() == [0, 0]
    one = reliability_curve([0, 1, 1, 1], [0.1, 0.3, 0.8, 0.4], bins=1)
    assert one.to_numpy().tolist() == [[0, pytest.approx(0.4), 0.75, 4]]


def youden(is_lesion, p, cut):
    called = p >= cut
    return called[is_lesion].mean() - called[~is_lesion].mean()


@given(
    st.lists(st.tuples(st.booleans(), st.integers(0, 20)), min_size=2, max_size=25),
    st.sampled_from([20.0, 1e6]),
)
@settings(max_examples=150, deadline=None)
def test_youden_by_brute_force(rows, scale):
    is_lesion, p = (np.array(column) for column in zip(*rows, strict=True))
    is_lesion[:2] = [True, False]
    p = p / scale
    cut = youden_threshold(is_lesion, p)
    every = [youden(is_lesion, p, c) for c in [0.0, *p, *np.nextafter(p, 2)]]
    assert youden(is_lesion, p, cut) == pytest.approx(max(every))
    assert 0 <= cut <= 1
    lower = [c for c in p if np.count_nonzero(p >= c) > np.count_nonzero(p >= cut)]
    assert all(youden(is_lesion, p, c) < max(every) - 1e-12 for c in lower)


def test_youden_by_hand():
    assert youden_threshold([0, 0, 1, 1], [0.1, 0.2, 0.6, 0.9]) == pytest.approx(0.4)
    # 0.2 | 0.4 and 0.6 | 0.8 are equally good: the lower one keeps the lesion at 0.4.
    assert youden_threshold([0, 1, 0, 1], [0.2, 0.4, 0.6, 0.8]) == pytest.approx(0.3)
    assert youden_threshold([0, 1, 0, 1], [0.5] * 4) == 0
    assert youden_threshold([1, 0], [0.1, 0.9]) == 0


def test_youden_between_neighbouring_floats():
    low = 0.5
    high = np.nextafter(low, 1)
    cut = youden_threshold([0, 1], [low, high])
    assert low < cut <= high


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"y": [0.0, 1.0]}, "y must be whole class numbers.*got float64"),
        ({"y": []}, "y must be whole class numbers"),
        ({"y": np.zeros(0, int), "probabilities": np.zeros((0, 2))}, r"int64 of shape \(0,\)"),
        ({"y": [[0, 1]]}, r"y must be whole class numbers.*of shape \(1, 2\)"),
        ({"y": [0, 2]}, r"y must lie in 0 \.\.\. 1, got 0 \.\.\. 2"),
        ({"y": [-1, 1]}, r"y must lie in 0 \.\.\. 1, got -1"),
        ({"probabilities": [[0.5, 0.5]]}, r"shape \(2, K\) with K at least 2, got \(1, 2\)"),
        ({"probabilities": [[1.0], [1.0]]}, r"got \(2, 1\)"),
        ({"probabilities": [[0, 1.005], [0, 1]]}, r"lie in \[0, 1\].*values 0 \.\.\. 1\.005"),
        ({"probabilities": [0.5, 0.5]}, r"got \(2,\)"),
        ({"probabilities": [[0.5, 0.52], [0, 1]]}, r"sums 1 \.\.\. 1\.02"),
        ({"probabilities": [[0.5, 0.9], [0, 1]]}, r"sum to 1.*sums 1 \.\.\. 1\.4; apply a softmax"),
        ({"probabilities": [[-3.0, 4.0], [0, 1]]}, r"lie in \[0, 1\].*values -3"),
        ({"probabilities": [[np.nan, 1.0], [0, 1]]}, "probabilities must lie in"),
        ({"lesion_classes": ()}, r"lesion_classes must be.*got \[\]"),
        ({"lesion_classes": (1, 1)}, r"got \[1, 1\]"),
        ({"lesion_classes": (2,)}, r"class numbers in 0 \.\.\. 1.*got \[2\]"),
        ({"patients": ["a"]}, r"patients must have one entry an image, \(2,\), got shape \(1,\)"),
        ({"patients": ["a", ""]}, "patients must name"),
        ({"bootstrap": 0}, "bootstrap must be at least 1"),
    ],
)
def test_errors(change, message):
    good = {
        "y": [0, 1],
        "probabilities": [[0.5, 0.5], [0, 1]],
        "lesion_classes": (1,),
        "patients": ["a", "b"],
        "bootstrap": 5,
    }
    classification_scores(**good)
    with pytest.raises(ValueError, match=message):
        classification_scores(**(good | change))


@pytest.mark.parametrize("score", [reliability_curve, youden_threshold])
def test_errors_of_two_classes(score):
    with pytest.raises(ValueError, match=r"one length, got shapes \(2,\) and \(1,\)"):
        score([0, 1], [0.5])
    with pytest.raises(ValueError, match=r"one length, got shapes \(1, 2\) and \(1, 2\)"):
        score([[0, 1]], [[0.5, 0.5]])
    with pytest.raises(ValueError, match="is_lesion must hold booleans"):
        score([0, 2], [0.5, 0.5])
    for bad in ([0.5, 1.5], [0.5, np.nan]):
        with pytest.raises(ValueError, match=r"p must lie in \[0, 1\]"):
            score([0, 1], bad)


def test_errors_of_one():
    with pytest.raises(ValueError, match="bins must be at least 1, got 0"):
        reliability_curve([0, 1], [0, 1], bins=0)
    with pytest.raises(ValueError, match="with and without a lesion, got 2 with and 0 without"):
        youden_threshold([True, True], [0.1, 0.2])
