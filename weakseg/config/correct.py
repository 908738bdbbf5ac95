"""When and how a segmentation network corrects the masks of another method that it is taught."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from weakseg.settings import Fraction, Scale, Section

Confident = Annotated[float, Field(ge=0.5, lt=1.0)]


class CorrectConfig(Section):
    """Correction of a method's masks by the network that learns from them (ADELE), once, when it
    has learnt what they have in common and begins to learn their faults; images only.
    """

    slope: Fraction = Field(
        0.9,
        description="share by which the slope of the curve of the IoU with the own labels must "
        "have fallen since the first epoch",
    )
    lesion: Confident = Field(0.8, description="a pixel whose probability is above becomes lesion")
    background: Confident = Field(
        0.95, description="one whose probability of background is above becomes background"
    )
    scales: list[Scale] = Field(
        [0.7, 1.0, 1.5],
        min_length=1,
        description="sizes, relative to image_size, over which, and over mirrored copies, the "
        "probabilities that correct are averaged",
    )
