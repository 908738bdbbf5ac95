"""Masks that several methods of a run agree on."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator

from weakseg.settings import Fraction, Section


class ConsensusConfig(Section):
    """Methods of the run, and how their masks become one."""

    methods: list[str] = Field(min_length=2, description="methods of this run, each once")
    vote: Literal["majority", "all", "any", "mean"] = Field(
        "majority",
        description="majority: more than half of the methods mark the place; all: their "
        "intersection; any: their union; mean: how sure they are on average is above `at`",
    )
    at: Fraction = Field(
        0.5,
        description="of mean: threshold on the mean of heat over its maximum, or probability",
    )

    @field_validator("methods")
    @classmethod
    def _each_once(cls, methods: list[str]) -> list[str]:
        if len(set(methods)) < len(methods):
            raise ValueError("name each method once")
        return methods
