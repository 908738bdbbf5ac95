"""What the sections of an experiment share."""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal, get_args, get_origin

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator

Fraction = Annotated[float, Field(gt=0.0, lt=1.0)]
Probability = Annotated[float, Field(ge=0.0, le=1.0)]
Scale = Annotated[float, Field(ge=0.25, le=4.0)]

PHANTOM = "phantom"
SPLITS = ("train", "val", "test")

LEAST_PATIENTS = 5
"""Of fewer test patients intervals are too narrow to claim anything by; `validate` needs it too."""


class Keys(BaseModel):
    """Keys and values; unknown keys are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Section(Keys):
    """A part of the experiment."""

    @field_validator("*", mode="before")
    @classmethod
    def _yes_is_no_number(cls, value: Any, info: ValidationInfo) -> Any:
        return reject_bool(cls.model_fields[str(info.field_name)].annotation, value)


def reject_bool(annotation: Any, value: Any) -> Any:
    """Refuse what YAML reads of on, yes and true, where Python would take it for the number 1."""
    parts = value if isinstance(value, list | tuple) else [value]
    kinds = _kinds(annotation)
    if bool in kinds or not (int in kinds or float in kinds):
        return value
    if any(isinstance(v, bool) for v in parts):
        *most, last = "a number", *(k for k in kinds if isinstance(k, str))
        expected = f"{', '.join(most)} or {last}" if most else last
        raise ValueError(f"must be {expected}, not yes or no")
    return value


def _kinds(annotation: Any) -> list[Any]:
    """All types and literal values that a field may hold, however deep."""
    parts = get_args(annotation)
    if get_origin(annotation) is Literal:
        return list(parts)
    if get_origin(annotation) is Annotated:
        return _kinds(parts[0])
    return [k for part in parts for k in _kinds(part)] or [annotation]


AUTO: Final = "auto"
Auto = Literal["auto"]


def label_text(value: Any) -> Any:
    """A label as text: YAML reads 0 as a number, and no as false."""
    if isinstance(value, bool):
        raise ValueError("put labels such as 'yes' and 'no' into quotation marks")
    if value is None:
        raise ValueError("put labels such as 'null' and '~' into quotation marks")
    return str(value) if isinstance(value, int | float) else value


def seeds_differ(seeds: list[int] | None) -> list[int] | None:
    if seeds is not None and len(set(seeds)) != len(seeds):
        raise ValueError("the same seed twice would count one network twice")
    return seeds
