"""What the rules share that are trained on the confident parts of the training heatmaps."""

from __future__ import annotations

from pydantic import Field, model_validator

from weakseg.masks.rules.base import Evidence, FittedRule, Rule
from weakseg.masks.rules.search import low_below_high
from weakseg.settings import Fraction


class TrainableRule(Rule):
    """A rule that is trained, without a mask, before it makes one.

    What trains it is in `weakseg.methods.trainable`, since it needs torch.
    """

    high: Fraction = Field(0.6, description="heat over its maximum above which a place is lesion")
    low: Fraction = Field(0.25, description="below: background; what is between teaches nothing")

    needs_image = True
    by_default = False
    trainable = True

    _low_is_lower = model_validator(mode="after")(low_below_high)

    def fit(self, evidence: Evidence) -> FittedRule:
        if evidence.trainer is None:
            raise LookupError("there are no training images to learn from")
        state = evidence.trainer(self)
        return FittedRule(
            self, None, "raw", "heatmaps of training images, no masks", 0, trained=state
        )
