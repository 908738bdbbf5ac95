"""Every function draws alike unless told otherwise: intervals of a report rest on one draw."""

from __future__ import annotations

import itertools

import numpy as np
import pandas as pd
import pytest

from weakseg.scores import (
    by_lesion_size,
    classification_scores,
    cluster_mean_interval,
    curve_at,
    evidence_intervals,
    mask_curve,
    mask_equivalence,
    paired_tests,
    reliability_curve,
    summarise,
    weak_to_full_ratio,
)
from weakseg.scores.statistics import percentile_interval

RNG = np.random.default_rng(8)
PATIENTS = [f"p{k}" for k in range(9)]
TRUTH = np.arange(27) % 2
P, OTHER_P = (
    np.stack([1 - p, p], axis=1)
    for p in np.clip(0.3 * TRUTH + 0.7 * RNG.random((2, 27)), 0.01, 0.99)
)
METHODS = pd.DataFrame(
    [
        (f"{p}-{i}", p, method, "weak", 0, np.nan, True, dice * RNG.random())
        for p, i, (method, dice) in itertools.product(
            PATIENTS, range(2), (("cam", 0.5), ("unet", 0.9))
        )
    ],
    columns=["case", "patient", "method", "kind", "masks_seen", "seed", "has_lesion", "dice"],
)
CURVE = pd.DataFrame(
    [
        (f"{p}-{i}", p, d, 2**k, 3 * 2**k, 0.1 * k + 0.2 * RNG.random(), True, False)
        for p, i, d, k in itertools.product(PATIENTS, range(2), range(4), range(4))
    ],
    columns=["case", "patient", "draw", "k", "masks", "dice", "has_lesion", "false_alarm"],
)
EACH = {
    "cluster_mean_interval": lambda **o: cluster_mean_interval(P[:, 1], PATIENTS * 3, **o),
    "summarise": lambda **o: summarise(METHODS, **o).select_dtypes("number"),
    "paired_tests": lambda **o: paired_tests(METHODS, **o)[["low", "high"]],
    "classification_scores": lambda **o: pd.DataFrame(
        classification_scores(TRUTH, P, (1,), PATIENTS * 3, **o)
    ),
    "mask_curve": lambda **o: mask_curve(CURVE, **o),
    "mask_equivalence": lambda **o: mask_equivalence(METHODS, "cam", CURVE, **o)[1:],
    "curve_at": lambda **o: curve_at(METHODS, "cam", CURVE, 7, **o),
    "weak_to_full_ratio": lambda **o: weak_to_full_ratio(METHODS, "cam", "unet", **o),
    "evidence_intervals": lambda **o: evidence_intervals(
        {"raw": [P, P[::-1, ::-1] ** 2 / (P[::-1] ** 2).sum(axis=1, keepdims=True)]},
        TRUTH,
        (1,),
        PATIENTS * 3,
        **o,
    ).interval("raw"),
}


@pytest.mark.parametrize("name", EACH)
def test_two_thousand_resamples_of_one_seed(name):
    """As each says; where a number were another, so would be some ends of the intervals."""
    found, told = EACH[name](), EACH[name](bootstrap=2000, seed=0)
    np.testing.assert_array_equal(np.asarray(found, float), np.asarray(told, float))


def test_what_else_is_not_told():
    values = np.random.default_rng(0).random(500)
    middle = np.quantile(values, [0.025, 0.975])
    assert percentile_interval(values, 9) == pytest.approx(tuple(middle))
    told = cluster_mean_interval(P[:, 1], PATIENTS * 3, level=0.95)
    assert cluster_mean_interval(P[:, 1], PATIENTS * 3) == told
    assert len(reliability_curve(TRUTH, P[:, 1])) == 10
    sized = METHODS.assign(lesion_pixels=range(len(METHODS)))
    pd.testing.assert_frame_equal(by_lesion_size(sized, "cam"), by_lesion_size(sized, "cam", 3))
