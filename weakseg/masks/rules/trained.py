"""What the rules share that are trained on the sure parts of the training heatmaps, or on masks."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from pydantic import Field, model_serializer, model_validator

from weakseg.masks.rules.base import Evidence, FittedRule, Rule
from weakseg.masks.rules.search import low_below_high
from weakseg.settings import Fraction


class TrainableRule(Rule):
    """A rule that is trained before it makes a mask: on heatmaps, or on true masks in their place.

    What trains it is in `weakseg.methods.trainable`, since it needs torch.

    Attributes
    ----------
    later : frozenset of str
        Settings that came later: at their defaults a rule is what it was without them, and says
        nothing of them.
    """

    teacher: Literal["heatmaps", "masks"] = Field(
        "heatmaps",
        description="what it is trained on: the training heatmaps, or the training images' true "
        "masks in their place, which are counted",
    )
    high: Fraction = Field(0.6, description="heat over its maximum above which a place is lesion")
    low: Fraction = Field(0.25, description="below: background; what is between teaches nothing")

    needs_image = True
    by_default = False
    trainable = True
    later: ClassVar[frozenset[str]] = frozenset({"teacher"})

    @property
    def taught_by_masks(self) -> bool:
        return self.teacher == "masks"

    _low_is_lower = model_validator(mode="after")(low_below_high)

    def fit(self, evidence: Evidence) -> FittedRule:
        if evidence.trainer is None:
            raise LookupError("there are no training images to learn from")
        masks = evidence.training_masks if self.taught_by_masks else 0
        if self.taught_by_masks and not masks:
            raise LookupError("no lesion image of the training split has a mask")
        state = evidence.trainer(self)
        return FittedRule(
            self,
            None,
            "raw",
            "masks of training images" if masks else "heatmaps of training images, no masks",
            masks,
            trained=state,
            training=masks > 0,
        )

    @model_serializer(mode="wrap")
    def _says_nothing_of_what_came_later(self, handler: Any) -> dict[str, Any]:
        settings: dict[str, Any] = handler(self)
        fields = type(self).model_fields
        idle = {k for k in self.later if getattr(self, k) == fields[k].default}
        return {k: v for k, v in settings.items() if k not in idle}
