"""All scores of one image, and the columns of the table ``scores/per_case.csv``."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from weakseg.scores.checks import as_heatmap, as_masks
from weakseg.scores.localisation import energy_inside, pixel_average_precision, pointing_game
from weakseg.scores.overlap import overlap_scores
from weakseg.scores.surface import hd95_and_mean

CASE_COLUMNS = ("case", "patient", "split", "label", "method", "kind", "seed", "masks_seen")
OVERLAP_COLUMNS = ("dice", "iou", "precision", "recall")
DISTANCE_COLUMNS = ("hd95", "msd")
EVENT_COLUMNS = ("missed", "no_overlap", "false_alarm")
TRUTH_COLUMNS = ("has_lesion", "lesion_pixels", "predicted_pixels")
HEATMAP_COLUMNS = ("ap", "pointing", "energy")
SCORE_COLUMNS = OVERLAP_COLUMNS + DISTANCE_COLUMNS + EVENT_COLUMNS + TRUTH_COLUMNS + HEATMAP_COLUMNS
FLAG_COLUMNS = ("flat", "gated")


def case_columns() -> tuple[str, ...]:
    """The columns of ``per_case.csv`` in order: what the case is, its scores, its flags."""
    return CASE_COLUMNS + SCORE_COLUMNS + FLAG_COLUMNS


def score_case(
    pred: ArrayLike,
    truth: ArrayLike,
    *,
    heatmap: ArrayLike | None = None,
    spacing: Sequence[float] | None = None,
) -> dict[str, float | int | bool]:
    """Score one mask, and the heatmap that it was made of.

    Parameters
    ----------
    pred, truth : (M, N[, P]) array_like of bool
        The mask that is scored and the true one, at one resolution.
    heatmap : (M, N[, P]) array_like of float, optional
        Raw heat; without it ``ap``, ``pointing`` and ``energy`` are NaN.
    spacing : sequence of float, optional
        Distance between neighbouring pixels along each axis; pixels where it is None.

    Returns
    -------
    dict
        One value for each of `SCORE_COLUMNS`:

        - ``dice``, ``iou``, ``precision``, ``recall``: see `weakseg.scores.overlap`;
        - ``hd95``, ``msd``: distances in the unit of ``spacing``, see `weakseg.scores.surface`;
          NaN without a lesion, since they are averaged over images with one;
        - ``missed``: there is a lesion and the prediction is empty;
        - ``no_overlap``: there is a lesion and no pixel of it is predicted (missed or not);
        - ``false_alarm``: there is no lesion and the prediction is not empty;
        - ``has_lesion``, ``lesion_pixels``, ``predicted_pixels``: the truth and the areas;
        - ``ap``, ``pointing``, ``energy``: see `weakseg.scores.localisation`; NaN without a
          lesion.

    Raises
    ------
    ValueError
        For arrays that are no masks, differ in shape or are not finite, or a spacing that does
        not fit.
    """
    p, t = as_masks(pred, truth)
    lesion_pixels, predicted_pixels = int(np.count_nonzero(t)), int(np.count_nonzero(p))
    has_lesion = lesion_pixels > 0
    overlap = overlap_scores(p, t)
    far, mean = hd95_and_mean(p, t, spacing)
    ap = pointing = energy = float("nan")
    if heatmap is not None:
        heat, _ = as_heatmap(heatmap, t)
        ap = pixel_average_precision(heat, t)
        pointing = pointing_game(heat, t)
        energy = energy_inside(heat, t)
    return {
        **overlap,
        "hd95": far if has_lesion else float("nan"),
        "msd": mean if has_lesion else float("nan"),
        "missed": has_lesion and predicted_pixels == 0,
        "no_overlap": has_lesion and overlap["dice"] == 0,
        "false_alarm": not has_lesion and predicted_pixels > 0,
        "has_lesion": has_lesion,
        "lesion_pixels": lesion_pixels,
        "predicted_pixels": predicted_pixels,
        "ap": ap,
        "pointing": pointing,
        "energy": energy,
    }
