"""All scores of one image."""

from __future__ import annotations

import doctest
import importlib
import pkgutil
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

import weakseg.scores
from weakseg.scores import (
    SCORE_COLUMNS,
    case_columns,
    dice,
    energy_inside,
    hd95,
    iou,
    mean_surface_distance,
    pixel_average_precision,
    pointing_game,
    precision,
    recall,
    score_case,
)
from weakseg.scores.lesions import false_lesions, lesion_sensitivity
from weakseg.scores.surface_dice import normalised_surface_dice

from .blobs import blob

NOTHING = np.zeros((30, 40), dtype=bool)
LESION = blob((30, 40), 1)
MODULES = [m.name for m in pkgutil.iter_modules(weakseg.scores.__path__, "weakseg.scores.")]


@pytest.mark.parametrize("spacing", [None, (0.5, 2.0)])
def test_every_key_is_the_score_of_its_name(spacing):
    pred, heat = blob((30, 40), 2), np.random.default_rng(3).random((30, 40))
    found = score_case(pred, LESION, heatmap=heat, spacing=spacing)
    assert found == {
        "dice": dice(pred, LESION),
        "iou": iou(pred, LESION),
        "precision": precision(pred, LESION),
        "recall": recall(pred, LESION),
        "hd95": hd95(pred, LESION, spacing),
        "msd": mean_surface_distance(pred, LESION, spacing),
        "nsd": normalised_surface_dice(pred, LESION, spacing),
        "missed": False,
        "no_overlap": False,
        "false_alarm": False,
        "lesion_sensitivity": lesion_sensitivity(pred, LESION),
        "false_lesions": false_lesions(pred, LESION),
        "has_lesion": True,
        "lesion_pixels": int(LESION.sum()),
        "predicted_pixels": int(pred.sum()),
        "image_pixels": 30 * 40,
        "ap": pixel_average_precision(heat, LESION),
        "pointing": pointing_game(heat, LESION),
        "energy": energy_inside(heat, LESION),
    }
    assert tuple(found) == SCORE_COLUMNS
    assert 0 < found["dice"] < 1


@pytest.mark.parametrize(
    ("pred", "truth", "missed", "no_overlap", "false_alarm", "score", "distance"),
    [
        (NOTHING, LESION, True, True, False, 0, 50.0),
        (~LESION, LESION, False, True, False, 0, None),
        (LESION, LESION, False, False, False, 1, 0.0),
        (LESION, NOTHING, False, False, True, 0, np.nan),
        (NOTHING, NOTHING, False, False, False, 1, np.nan),
    ],
    ids=["missed", "beside", "perfect", "false alarm", "rightly empty"],
)
def test_events(pred, truth, missed, no_overlap, false_alarm, score, distance):
    found = score_case(pred, truth)
    events = (found["missed"], found["no_overlap"], found["false_alarm"])
    assert events == (missed, no_overlap, false_alarm)
    assert all(type(e) is bool for e in events)
    assert found["dice"] == score
    assert found["has_lesion"] is bool(truth.any())
    if distance is None:
        assert 0 < found["hd95"] < 50
    else:
        np.testing.assert_equal(found["hd95"], distance)
        np.testing.assert_equal(found["msd"], distance)


def test_heatmap_scores_are_nan_without_heatmap_or_lesion():
    for found in (score_case(LESION, LESION), score_case(LESION, NOTHING, heatmap=LESION)):
        assert np.isnan([found["ap"], found["pointing"], found["energy"]]).all()


def test_a_row_survives_a_csv(tmp_path):
    path = tmp_path / "per_case.csv"
    row = score_case(blob((30, 40), 2), LESION, heatmap=LESION)
    pd.DataFrame([row]).to_csv(path, index=False)
    back = pd.read_csv(path).iloc[0].to_dict()
    assert back == pytest.approx(row)


def test_columns_are_different_and_hold_every_score():
    columns = case_columns()
    assert len(set(columns)) == len(columns)
    assert set(SCORE_COLUMNS) | {"case", "patient", "method", "seed", "flat"} <= set(columns)


def test_errors_pass_through():
    with pytest.raises(ValueError, match="pred must have the shape of truth"):
        score_case(NOTHING[:-1], LESION)
    with pytest.raises(ValueError, match="heatmap must have the shape of truth"):
        score_case(LESION, LESION, heatmap=np.zeros((3, 3)))
    with pytest.raises(ValueError, match="spacing must be 2"):
        score_case(NOTHING, NOTHING, spacing=(1.0, 1.0, 1.0))


@pytest.mark.parametrize("name", ["weakseg.scores", *MODULES])
def test_examples_run(name):
    assert doctest.testmod(importlib.import_module(name)).failed == 0


def test_there_are_examples():
    modules = [importlib.import_module(n) for n in ["weakseg.scores", *MODULES]]
    tests = [t for m in modules for t in doctest.DocTestFinder().find(m) if t.examples]
    assert len(tests) >= 5


def test_no_torch():
    code = "import sys, weakseg.scores; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
