"""All scores of one image, and the columns of the table ``scores/per_case.csv``."""

from __future__ import annotations

from collections.abc import Sequence

from numpy.typing import ArrayLike

from weakseg.scores.mask_pair import mask_pair
from weakseg.scores.metrics import METRICS

CASE_COLUMNS = ("case", "patient", "split", "label", "method", "kind", "seed", "masks_seen")
SCORE_COLUMNS = tuple(m.column for m in METRICS)
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
    pair = mask_pair(pred, truth, heatmap, spacing)
    return {m.column: m.of(pair) for m in METRICS}
