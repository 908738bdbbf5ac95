"""Scores of masks, heatmaps and classifiers: arrays in, numbers out, no torch.

- `overlap`: Dice, intersection over union, precision, recall, and the rule for empty masks
- `surface`: HD95 and mean surface distance, with the rule for missed lesions
- `localisation`: scores of a heatmap before any threshold
- `metrics`: the table of all of these: a further one is an entry there
- `cases`: all of these for one image; the columns of ``per_case.csv``
- `classification`: the classifier's areas, rates and calibration; Youden's cut
- `statistics`: means with intervals over patients
- `summary`: one row a method
- `paired`: every method against every other, case by case
- `learning_curve`: a supervised network's Dice over the number of masks that it was trained with
- `equivalence`: where that curve crosses a method's Dice
- `evidence`: classifiers retrained on filtered images, with intervals over seeds and patients
- `verdicts`: what those intervals allow to say

Examples
--------
>>> import numpy as np
>>> truth = np.zeros((8, 8), dtype=bool)
>>> truth[2:5, 2:5] = True
>>> shifted = np.roll(truth, 1, axis=0)
>>> round(dice(shifted, truth), 3), hd95(shifted, truth)
(0.667, 1.0)
>>> score_case(np.zeros_like(truth), truth)["missed"]
True
"""

from weakseg.scores.cases import SCORE_COLUMNS, case_columns, score_case
from weakseg.scores.classification import (
    classification_scores,
    reliability_curve,
    weighted_auc,
    youden_threshold,
)
from weakseg.scores.conclusions import (
    Comparison,
    Verdict,
    caution,
    dark_contributes,
    depends_mainly,
    keeps_more,
)
from weakseg.scores.equivalence import (
    CurvePoint,
    Equivalence,
    curve_at,
    mask_equivalence,
    weak_to_full_ratio,
)
from weakseg.scores.learning_curve import draw_curves, mask_curve
from weakseg.scores.localisation import energy_inside, pixel_average_precision, pointing_game
from weakseg.scores.metrics import METRICS, OF_HEAT, Metric
from weakseg.scores.overlap import EMPTY_RULE, dice, iou, precision, recall
from weakseg.scores.paired import holm, paired_tests
from weakseg.scores.retraining_effects import EVIDENCE_SCORES, Evidence, evidence_intervals
from weakseg.scores.statistics import Interval, cluster_mean_interval
from weakseg.scores.summary import SUMMARY_COLUMNS, by_lesion_size, summarise
from weakseg.scores.surface import (
    DISTANCE_RULE,
    hd95,
    image_diagonal,
    mean_surface_distance,
    surface_distances,
)

__all__ = [
    "DISTANCE_RULE",
    "EMPTY_RULE",
    "EVIDENCE_SCORES",
    "METRICS",
    "OF_HEAT",
    "SCORE_COLUMNS",
    "SUMMARY_COLUMNS",
    "Comparison",
    "CurvePoint",
    "Equivalence",
    "Evidence",
    "Interval",
    "Metric",
    "Verdict",
    "by_lesion_size",
    "case_columns",
    "caution",
    "classification_scores",
    "cluster_mean_interval",
    "curve_at",
    "dark_contributes",
    "depends_mainly",
    "dice",
    "draw_curves",
    "energy_inside",
    "evidence_intervals",
    "hd95",
    "holm",
    "image_diagonal",
    "iou",
    "keeps_more",
    "mask_curve",
    "mask_equivalence",
    "mean_surface_distance",
    "paired_tests",
    "pixel_average_precision",
    "pointing_game",
    "precision",
    "recall",
    "reliability_curve",
    "score_case",
    "summarise",
    "surface_distances",
    "weak_to_full_ratio",
    "weighted_auc",
    "youden_threshold",
]
