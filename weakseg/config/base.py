"""What the sections of an experiment share."""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field

Fraction = Annotated[float, Field(gt=0.0, lt=1.0)]
Probability = Annotated[float, Field(ge=0.0, le=1.0)]

PHANTOM = "phantom"
SPLITS = ("train", "val", "test")


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


AUTO: Final = "auto"
Auto = Literal["auto"]


def label_text(value: Any) -> Any:
    """A label as text: YAML reads 0 as a number, and no as false."""
    if isinstance(value, bool):
        raise ValueError("put labels such as 'yes' and 'no' into quotation marks")
    return str(value) if isinstance(value, int) else value


def seeds_differ(seeds: list[int] | None) -> list[int] | None:
    if seeds is not None and len(set(seeds)) != len(seeds):
        raise ValueError("the same seed twice would count one network twice")
    return seeds
