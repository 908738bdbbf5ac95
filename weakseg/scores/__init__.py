"""Scores of masks, heatmaps and classifiers: arrays in, numbers out, no torch.

- `overlap`: Dice, intersection over union, precision, recall, and the rule for empty masks
- `surface`: HD95 and mean surface distance, with the rule for missed lesions
- `localisation`: scores of a heatmap before any threshold
- `cases`: all of these for one image; the columns of ``per_case.csv``
- `classification`: the classifier's areas, rates and calibration; Youden's cut
- `statistics`: means with intervals over patients
- `summary`: one row a method

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
from weakseg.scores.localisation import energy_inside, pixel_average_precision, pointing_game
from weakseg.scores.overlap import EMPTY_RULE, dice, iou, precision, recall
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
    "SCORE_COLUMNS",
    "SUMMARY_COLUMNS",
    "Interval",
    "by_lesion_size",
    "case_columns",
    "classification_scores",
    "cluster_mean_interval",
    "dice",
    "energy_inside",
    "hd95",
    "image_diagonal",
    "iou",
    "mean_surface_distance",
    "pixel_average_precision",
    "pointing_game",
    "precision",
    "recall",
    "reliability_curve",
    "score_case",
    "summarise",
    "surface_distances",
    "weighted_auc",
    "youden_threshold",
]
