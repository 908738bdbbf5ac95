"""Dice, intersection over union, precision and recall."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from monai.metrics.meandice import compute_dice
from monai.metrics.meaniou import compute_iou
from torchmetrics.functional.classification import (
    binary_f1_score,
    binary_jaccard_index,
    binary_precision,
    binary_recall,
)

from weakseg.scores import EMPTY_RULE, dice, iou, precision, recall

from .blobs import blob, mask_pairs

ALL = (dice, iou, precision, recall)
NOTHING = np.zeros((3, 4), dtype=bool)
SOMETHING = np.array([[1, 1, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]], dtype=bool)


def test_by_hand():
    pred = np.array([[1, 1, 1, 0], [0, 0, 0, 0]], dtype=bool)
    truth = np.array([[0, 0, 1, 1], [1, 1, 0, 0]], dtype=bool)
    assert dice(pred, truth) == pytest.approx(2 / 7)
    assert iou(pred, truth) == pytest.approx(1 / 6)
    assert precision(pred, truth) == pytest.approx(1 / 3)
    assert recall(pred, truth) == pytest.approx(1 / 4)


@pytest.mark.parametrize("shape", [(24, 31), (64, 48), (12, 15, 9)])
@pytest.mark.parametrize("seed", range(4))
def test_equal_to_torchmetrics_and_monai(shape, seed):
    pred, truth = blob(shape, seed, 0.1 + 0.1 * seed), blob(shape, seed + 100, 0.3)
    a, b = torch.from_numpy(pred).int(), torch.from_numpy(truth).int()
    assert dice(pred, truth) == pytest.approx(float(binary_f1_score(a, b)), rel=1e-5)
    assert iou(pred, truth) == pytest.approx(float(binary_jaccard_index(a, b)), rel=1e-5)
    assert precision(pred, truth) == pytest.approx(float(binary_precision(a, b)), rel=1e-5)
    assert recall(pred, truth) == pytest.approx(float(binary_recall(a, b)), rel=1e-5)
    a, b = a[None, None].float(), b[None, None].float()
    assert dice(pred, truth) == pytest.approx(float(compute_dice(a, b)), rel=1e-5)
    assert iou(pred, truth) == pytest.approx(float(compute_iou(a, b)), rel=1e-5)


@pytest.mark.parametrize("score", ALL)
def test_two_empty_masks_score_what_the_caller_says(score):
    assert score(NOTHING, NOTHING) == 1.0
    assert score(NOTHING, NOTHING, empty=0.25) == 0.25
    assert np.isnan(score(NOTHING, NOTHING, empty=float("nan")))


@pytest.mark.parametrize(
    ("score", "missed", "false_alarm"),
    [(dice, 0, 0), (iou, 0, 0), (precision, 0, 0), (recall, 0, np.nan)],
)
def test_one_empty_mask(score, missed, false_alarm):
    assert score(NOTHING, SOMETHING) == missed
    np.testing.assert_equal(score(SOMETHING, NOTHING), false_alarm)
    assert score(NOTHING, SOMETHING, empty=0.5) == missed, "`empty` is for two empty masks only"


def test_the_stated_rule_is_the_rule():
    assert "Dice of 1" in EMPTY_RULE
    assert dice(NOTHING, NOTHING) == 1
    assert dice(SOMETHING, NOTHING) == dice(NOTHING, SOMETHING) == 0


@given(mask_pairs())
@settings(max_examples=80, deadline=None)
def test_symmetry_range_and_the_bond_of_dice_and_iou(pair):
    pred, truth = pair
    d, j = dice(pred, truth), iou(pred, truth)
    assert d == dice(truth, pred)
    assert j == iou(truth, pred)
    assert 0 <= j <= d <= 1
    assert j == pytest.approx(d / (2 - d))
    if pred.any() and truth.any():
        p, r = precision(pred, truth), recall(pred, truth)
        assert (p, r) == (recall(truth, pred), precision(truth, pred))
        assert d == pytest.approx(2 * p * r / (p + r) if p + r else 0)


@given(mask_pairs())
@settings(max_examples=60, deadline=None)
def test_identity_and_translation(pair):
    pred, truth = pair
    for score in ALL:
        assert score(pred, pred) == 1
        moved = [np.pad(m, [(2, 1)] * m.ndim) for m in pair]
        np.testing.assert_equal(score(*moved), score(pred, truth))
    outside = ~pred
    if pred.any() and outside.any():
        assert dice(pred, outside) == iou(pred, outside) == 0


@pytest.mark.parametrize("kind", [np.uint8, np.int64, np.float32])
def test_zeros_and_ones_are_masks(kind):
    pred, truth = blob((9, 9), 1), blob((9, 9), 2)
    for score in ALL:
        assert score(pred.astype(kind), truth.astype(kind)) == score(pred, truth)


@pytest.mark.parametrize("score", ALL)
@pytest.mark.parametrize(
    ("pred", "truth", "message"),
    [
        (np.zeros((3, 5), bool), NOTHING, r"pred must have the shape of truth, \(3, 4\).*\(3, 5\)"),
        (NOTHING, SOMETHING * np.uint8(255), "truth must hold booleans.*got values 0, 255"),
        (np.full((3, 4), 0.5), NOTHING, r"pred must hold booleans.*got values 0\.5"),
        (np.full((3, 4), np.nan), NOTHING, "pred must hold booleans.*got values nan"),
        (NOTHING, np.full((3, 4), "x"), "truth must hold booleans.*got type <U1"),
        (np.zeros(4, bool), np.zeros(4, bool), r"pred must have 2 or 3 dimensions.*\(4,\)"),
        (NOTHING, np.zeros((0, 4), bool), r"truth must hold at least one pixel.*\(0, 4\)"),
    ],
)
def test_errors_name_argument_rule_and_value(score, pred, truth, message):
    with pytest.raises(ValueError, match=message):
        score(pred, truth)
