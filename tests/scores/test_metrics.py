"""The table of metrics: what per-case scores, summary and page take from it."""

import numpy as np
import pandas as pd
import pytest

from weakseg.scores import METRICS, SUMMARY_COLUMNS, case_columns, score_case, summarise
from weakseg.scores.metrics import OF_HEAT, SHOWN

from .blobs import blob

LESION, OTHER = blob((30, 40), 1), blob((30, 40), 2)
NOTHING = np.zeros_like(LESION)


def table():
    """Two lesions and two healthy images, one of each wrong."""
    pairs = [(OTHER, LESION), (NOTHING, LESION), (NOTHING, NOTHING), (OTHER, NOTHING)]
    heat = np.random.default_rng(0).random(LESION.shape)
    about = {"method": "m", "kind": "heatmap", "seed": 0, "masks_seen": 0, "split": "test"}
    return pd.DataFrame(
        [
            {"case": f"c{i}", "patient": f"p{i}"} | about | score_case(p, t, heatmap=heat)
            for i, (p, t) in enumerate(pairs)
        ]
    ).assign(flat=False, gated=False)


def test_every_name_stands_once_and_where_it_belongs():
    columns = [m.column for m in METRICS]
    assert len(set(columns)) == len(columns)
    assert set(columns) <= set(case_columns())
    assert len(set(SUMMARY_COLUMNS)) == len(SUMMARY_COLUMNS)
    assert {c for m in METRICS for c in m.summary_columns} <= set(SUMMARY_COLUMNS)


@pytest.mark.parametrize("metric", METRICS, ids=lambda m: m.column)
def test_a_mean_is_over_the_images_that_the_table_names(metric):
    cases = table()
    row = summarise(cases, bootstrap=50).iloc[0]
    lesion = cases["has_lesion"].astype(bool)
    of = {"lesions": cases[lesion], "healthy": cases[~lesion], "all": cases}[metric.over]
    if metric.summary:
        assert row[metric.summary] == pytest.approx(of[metric.column].astype(float).mean())
    if metric.interval:
        assert row[f"{metric.summary}_low"] <= row[metric.summary]
        assert row[metric.summary] <= row[f"{metric.summary}_high"]


@pytest.mark.parametrize("metric", [m for m in METRICS if m.better], ids=lambda m: m.column)
def test_the_true_mask_is_the_best_there_is(metric):
    heat = LESION.astype(float)
    truth = NOTHING if metric.over == "healthy" else LESION
    best = score_case(truth, truth, heatmap=heat)[metric.column]
    other = score_case(OTHER, truth, heatmap=OTHER.astype(float))[metric.column]
    assert best >= other if metric.better == "high" else best <= other


def test_what_speaks_of_the_heatmap_knows_nothing_of_the_mask():
    heat = np.random.default_rng(1).random(LESION.shape)
    one, two = (score_case(m, LESION, heatmap=heat) for m in (OTHER, NOTHING))
    assert {c: one[c] for c in OF_HEAT} == {c: two[c] for c in OF_HEAT}
    assert OF_HEAT


def test_shown_ones_have_a_mean_and_a_way_that_is_better():
    assert all(m.summary and m.better for m in SHOWN)
