"""Rules that are one number: a threshold of the heat, and nothing of the image's look.

Their mathematics is in `weakseg.masks.thresholds` and `weakseg.masks.set_thresholds`.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from weakseg.masks.checks import Bools, Floats
from weakseg.masks.region import body_region
from weakseg.masks.rules.base import Evidence, FittedRule, Rule, SetThresholdRule
from weakseg.masks.rules.search import SearchedRule
from weakseg.masks.set_thresholds import train_quantile_threshold
from weakseg.masks.thresholds import (
    apply_threshold,
    area_prior_mask,
    fixed_threshold,
    normalised_mask,
    otsu_threshold,
    quantile_threshold,
)
from weakseg.settings import Fraction


class FixedRule(SearchedRule, SetThresholdRule):
    """The heatmap over its own maximum is above ``at``."""

    rule: Literal["fixed"] = "fixed"
    spoken = "a fixed threshold"
    dims = (2, 3)
    at: Fraction = 0.5

    def fit_as_set(self, evidence: Evidence) -> FittedRule:
        return FittedRule(self, fixed_threshold(self.at), "image", "nothing: set beforehand", 0)


class OtsuRule(Rule):
    """Otsu's threshold of each heatmap."""

    rule: Literal["otsu"] = "otsu"
    spoken = "Otsu's threshold"
    dims = (2, 3)
    in_parts = True

    def mask(self, fitted: FittedRule, heat: Floats, image: Any, truth: Any) -> Bools:
        return normalised_mask(heat, otsu_threshold(heat))


class QuantileRule(SearchedRule):
    """Above the ``q``-quantile of each heatmap: every mask takes 1 - q of its image."""

    rule: Literal["quantile"] = "quantile"
    spoken = "the hottest part of each image"
    dims = (2, 3)
    in_parts = True
    q: Fraction = 0.9

    def mask(self, fitted: FittedRule, heat: Floats, image: Any, truth: Any) -> Bools:
        return apply_threshold(heat, quantile_threshold(heat, self.q))


class AreaPriorRule(SearchedRule):
    """The hottest share ``area`` of the body (the image without its dark background)."""

    rule: Literal["area-prior"] = "area-prior"
    spoken = "an assumed lesion area"
    area: Fraction = 0.1
    masks_seen: int = Field(0, ge=0, description="how many masks told you this area")

    needs_image = True
    dims = (2, 3)
    in_parts = True

    def fit_as_set(self, evidence: Evidence) -> FittedRule:
        return FittedRule(self, None, "raw", "an area known beforehand", self.masks_seen)

    def mask(self, fitted: FittedRule, heat: Floats, image: Any, truth: Any) -> Bools:
        return area_prior_mask(heat, self.area, body_region(image, heat.ndim))


class TrainQuantileRule(SetThresholdRule):
    """One threshold for the set: the ``q``-quantile of raw heat over unmasked training images
    with a lesion label."""

    rule: Literal["train-quantile"] = "train-quantile"
    spoken = "one threshold from unmasked training images"
    dims = (2, 3)
    q: Fraction = 0.9

    def fit(self, evidence: Evidence) -> FittedRule:
        try:
            at = train_quantile_threshold(evidence.train(), self.q)
        except ValueError:
            raise LookupError("no training image has a lesion label") from None
        return FittedRule(self, at, "raw", "raw heat of training images, no masks", 0)
