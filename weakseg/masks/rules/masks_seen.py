"""Rules that choose their threshold on true masks, and count them."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import tee
from typing import Any, Literal

import numpy as np
from pydantic import Field

from weakseg.masks.checks import Bools, Floats
from weakseg.masks.rules.base import Evidence, FittedRule, Pairs, Rule, SetThresholdRule
from weakseg.masks.rules.search import chosen_masks, no_lesion
from weakseg.masks.set_thresholds import best_threshold
from weakseg.masks.thresholds import apply_threshold, normalise, oracle_threshold

ORACLE_LABEL = "upper bound: chosen on the test masks themselves"


class ValidationRule(SetThresholdRule):
    """One threshold for the set, the best on the masks of the validation split."""

    rule: Literal["validation"] = "validation"
    spoken = "a threshold chosen on validation masks"
    dims = (2, 3)
    max_masks: int | None = Field(None, ge=1, description="use only so many masks")

    def fit(self, evidence: Evidence) -> FittedRule:
        at, seen = _best(evidence.val, "validation", self.max_masks, evidence.seed)
        chosen_on = "masks of the validation split"
        return FittedRule(self, at, "image", chosen_on, len(seen), validation=seen)


class OracleDatasetRule(SetThresholdRule):
    """UPPER BOUND: one threshold for the set, the best on the test masks themselves."""

    rule: Literal["oracle-dataset"] = "oracle-dataset"
    spoken = "the best threshold for all test masks (upper bound)"

    oracle = True
    dims = (2, 3)

    def fit(self, evidence: Evidence) -> FittedRule:
        at, seen = _best(evidence.test, "test")
        return FittedRule(self, at, "image", ORACLE_LABEL, len(seen))


class OracleImageRule(Rule):
    """UPPER BOUND: the best threshold of each test image on its own mask."""

    rule: Literal["oracle-image"] = "oracle-image"
    spoken = "the best threshold for each test mask (upper bound)"

    oracle = True
    dims = (2, 3)
    needs_truth = True

    def fit(self, evidence: Evidence) -> FittedRule:
        masks = sum(1 for _ in evidence.test())
        if not masks:
            raise LookupError("no lesion image of the test split has a mask")
        return FittedRule(self, None, "image", ORACLE_LABEL, masks)

    def mask(self, fitted: FittedRule, heat: Floats, image: Any, truth: Any) -> Bools:
        return apply_threshold(heat, oracle_threshold(heat, truth))


def _best(
    pairs: Pairs, split: str, at_most: int | None = None, seed: int = 0
) -> tuple[float, tuple[int, ...]]:
    """The threshold of the highest mean Dice, and on which masks; one pair in memory a time."""
    chosen = chosen_masks(pairs, at_most, seed)
    seen: list[int] = []
    lesions: list[int] = []

    def normalised() -> Iterator[tuple[Any, Any]]:
        for i, (heat, truth) in enumerate(pairs()):
            if chosen is None or i in chosen:
                seen.append(i)
                if np.any(truth):
                    lesions.append(i)
                yield normalise(heat), truth

    one, other = tee(normalised())
    try:
        threshold, _ = best_threshold((h for h, _ in one), (t for _, t in other))
    except ValueError:
        if lesions:
            raise
        raise no_lesion(split, len(seen)) from None
    return threshold, tuple(seen)
