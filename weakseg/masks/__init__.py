"""Heatmap to mask: thresholds, trivial masks, the body region. Arrays in, arrays out; no torch."""

from weakseg.masks.floors import FLOORS, brightest, centred_ellipse, darkest, everything
from weakseg.masks.region import body_region
from weakseg.masks.set_thresholds import (
    best_threshold,
    candidate_thresholds,
    train_quantile_threshold,
)
from weakseg.masks.thresholds import (
    apply_threshold,
    area_prior_mask,
    area_prior_threshold,
    dice_curve,
    fixed_threshold,
    is_flat,
    normalise,
    oracle_threshold,
    otsu_threshold,
    quantile_threshold,
)

__all__ = [
    "FLOORS",
    "apply_threshold",
    "area_prior_mask",
    "area_prior_threshold",
    "best_threshold",
    "body_region",
    "brightest",
    "candidate_thresholds",
    "centred_ellipse",
    "darkest",
    "dice_curve",
    "everything",
    "fixed_threshold",
    "is_flat",
    "normalise",
    "oracle_threshold",
    "otsu_threshold",
    "quantile_threshold",
    "train_quantile_threshold",
]
