"""Heatmap-filtered retraining: which images are made, named by what is kept of them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Annotated, Any, Literal, get_args

from pydantic import Field, field_validator, model_validator

from weakseg.errors import nearest
from weakseg.masks.rules import ORACLES, RULE_NAMES, Rule
from weakseg.masks.rules.global_thresholds import FixedRule
from weakseg.settings import AUTO, Auto, Section, label_text

Source = Literal["heat", "random", "gaussian", "shuffled", "truth", "box"]
Side = Literal["keep", "remove"]
Fill = Literal["zero", "mean", "linear"]
Ranking = Literal["heat", "random", "gaussian", "shuffled", "truth"]
Filter = Literal["soft", "hard", "truth"]
Control = Literal["random", "gaussian", "shuffled", "equal-truth", "box"]

RAW = "raw"
SHAPE = "shape"
"""The fill of a condition that shows the filter itself and no pixel of the image."""

_NAME = re.compile(
    rf"(?P<source>{'|'.join(get_args(Source))})"
    r"(?:-(?P<size>soft|hard|top\d{1,2}))?"
    rf"-(?:(?P<side>{'|'.join(get_args(Side))})-(?P<fill>{'|'.join(get_args(Fill))})|{SHAPE})"
)


@dataclass(frozen=True)
class Condition:
    """One way to filter the images.

    Attributes
    ----------
    source : str
        What marks the pixels: ``raw`` (nothing is filtered), ``heat``, ``random``, ``gaussian``
        (centred), ``shuffled`` (another image's heatmap), ``truth`` or its bounding ``box``.
    size : str
        How much: ``soft`` (each pixel by its value), ``hard`` (as many pixels of each image as
        the threshold rule marks in its heatmap), ``topN`` (N % of each image), or ``own`` (the
        truth or the box as it is).
    side : {"keep", "remove"}
        Whether the marked pixels stay or the others (the complement).
    fill : {"zero", "mean", "linear", "shape"}
        What takes the place of the others; ``shape`` shows the filter alone.
    """

    source: str
    size: str = "own"
    side: str = "keep"
    fill: str = "mean"

    @property
    def name(self) -> str:
        """As folders, tables and `parse_condition` know it."""
        if self.source == RAW:
            return RAW
        marked = self.source if self.size == "own" else f"{self.source}-{self.size}"
        return f"{marked}-{SHAPE}" if self.fill == SHAPE else f"{marked}-{self.side}-{self.fill}"

    @property
    def share(self) -> float | None:
        """The share of each image that is marked, where it is the same for all."""
        return int(self.size[3:]) / 100 if self.size.startswith("top") else None

    @property
    def sees_masks(self) -> bool:
        """Whether true masks make the filter."""
        return self.source in ("truth", "box")


def parse_condition(name: str) -> Condition:
    """The condition of a name such as ``heat-hard-keep-mean``.

    Raises
    ------
    ValueError
        If there is no such condition.
    """
    if name == RAW:
        return Condition(RAW)
    match = _NAME.fullmatch(name)
    if match is None:
        raise ValueError(
            f"there is no condition {name!r}: write SOURCE-SIZE-SIDE-FILL or SOURCE-SIZE-shape, "
            "such as heat-hard-keep-mean, truth-remove-linear, random-top30-keep-mean, heat-hard-"
            "shape"
        )
    source, size = match["source"], match["size"] or "own"
    own = source == "box" or (source == "truth" and size == "own")
    if (size == "own") != own or (source in ("truth", "box") and size == "soft"):
        raise ValueError(
            f"there is no condition {name!r}: heat, random, gaussian and shuffled need a size "
            "(soft, hard or topN); truth has its own, hard or topN; box has its own"
        )
    if size.startswith("top") and not 1 <= int(size[3:]) <= 99:
        raise ValueError(f"{name!r}: topN marks 1 to 99 percent")
    return Condition(source, size, match["side"] or "keep", match["fill"] or SHAPE)


def _percents(percent: list[int]) -> list[int]:
    if any(not 1 <= p <= 99 for p in percent) or len(set(percent)) != len(percent):
        raise ValueError("choose different whole numbers from 1 to 99")
    return sorted(percent)


class CurveConfig(Section):
    """Retraining at growing shares of removed (ROAR) and of kept (KAR) pixels."""

    percent: list[int] = Field(
        [],
        description="shares of the image in percent, e.g. [10, 30, 50, 70, 90]; none: no curve",
    )
    rankings: list[Ranking] = Field(
        ["heat", "random"], min_length=1, description="what ranks pixels"
    )
    sides: list[Side] = Field(["remove", "keep"], min_length=1)
    fill: Fill = "mean"

    _in_order = field_validator("percent")(_percents)


class FaithfulnessConfig(Section):
    """Scores of the heatmaps against their own network, without retraining."""

    images: int = Field(
        100, ge=0, description="at most so many test images, spread over patients; 0: none"
    )
    percent: list[int] = Field([10, 30, 50, 70, 90], min_length=1, description="of ROAD")
    steps: int = Field(20, ge=2, le=200, description="of the insertion and deletion curves")

    _in_order = field_validator("percent")(_percents)


class FilteredConfig(Section):
    """Heatmap-filtered retraining: every filter × side × fill, and controls."""

    target: str = Field(
        "same",
        description="the class whose heatmaps filter the images: same (heatmap.target), "
        "predicted (each image's predicted class), lesion or a label; never the true class, "
        "which would tell itself by the filter's shape",
    )
    filters: list[Filter] = Field(
        ["hard", "truth"],
        description="soft: multiply by the heatmap over its maximum; hard: the mask of `rule`; "
        "truth: the true mask, and that of another image where there is no lesion",
    )
    rule: Rule = Field(FixedRule(), description="a threshold rule, for hard")
    sides: list[Side] = Field(["keep", "remove"], min_length=1)
    fills: list[Fill] = Field(["mean"], min_length=1)
    controls: list[Control] = Field(
        ["random", "gaussian", "shuffled", "equal-truth"],
        description="filters that are held against the heatmap's: random pixels; a centred "
        "Gaussian; another image's heatmap; the truth, grown or shrunk. And the truth's box",
    )
    control_share: Annotated[int, Field(ge=1, le=99)] | Literal["rule"] = Field(
        10,
        description="percent of each image that heatmap and controls mark alike; rule: as many "
        "pixels as `rule` marks in the image's heatmap, a number that itself tells its verdict",
    )
    control_sides: list[Side] = Field(["keep"], min_length=1)
    shape: bool = Field(
        True, description="also train on the filters alone: what their shape gives away"
    )
    also: list[str] = Field([], description="further conditions by name, e.g. truth-remove-linear")
    curve: CurveConfig = CurveConfig()
    margin: int = Field(
        2, ge=0, le=64, description="pixels of the network's square by which the truth is grown"
    )
    epochs: int | Auto = Field(AUTO, description="auto: as the classifier's")
    keep_networks: bool = Field(False, description="keep the weights of every condition")
    faithfulness: FaithfulnessConfig = FaithfulnessConfig()

    @field_validator("target", mode="before")
    @classmethod
    def _target_is_text(cls, target: Any) -> Any:
        return label_text(target)

    @field_validator("epochs")
    @classmethod
    def _epochs_are_positive(cls, epochs: int | str) -> int | str:
        if epochs != AUTO and int(epochs) < 1:
            raise ValueError("must be greater than 0")
        return epochs

    @field_validator("rule", mode="before")
    @classmethod
    def _a_rule_without_test_masks(cls, rule: Any) -> Any:
        rule = {"rule": rule} if isinstance(rule, str) else rule
        name = rule.get("rule") if isinstance(rule, dict) else getattr(rule, "rule", None)
        if name in ORACLES:
            raise ValueError(f"{name} looks at the test masks: choose another rule")
        if name not in RULE_NAMES:
            close = nearest(str(name), RULE_NAMES)
            raise ValueError(
                f"unknown rule {name!r}; "
                + (f"did you mean {close!r}?" if close else f"choose from: {', '.join(RULE_NAMES)}")
            )
        return rule

    @field_validator("also")
    @classmethod
    def _known_conditions(cls, names: list[str]) -> list[str]:
        for name in names:
            parse_condition(name)
        return names

    @model_validator(mode="after")
    def _something_to_do(self) -> FilteredConfig:
        if len(self.conditions()) < 2:
            raise ValueError("nothing is filtered: name filters, controls, a curve or `also`")
        return self

    @property
    def control_sizes(self) -> list[str]:
        """The sizes in which controls stand beside the heatmap."""
        if self.control_share != "rule":
            return [f"top{self.control_share}"]
        return [f for f in self.filters if f != "truth"] or ["hard"]

    def conditions(self) -> list[Condition]:
        """Every condition once, the raw images first."""
        conditions = [Condition(RAW)]
        for size in self.filters:
            marked = Condition("truth") if size == "truth" else Condition("heat", size)
            conditions += _sides(marked, self.sides, self.fills)
            if self.shape:
                conditions.append(Condition(marked.source, marked.size, fill=SHAPE))
        if [c for c in self.controls if c != "box"]:
            for equal in self.control_sizes:
                conditions += _sides(Condition("heat", equal), self.control_sides, self.fills)
                if self.shape:
                    conditions.append(Condition("heat", equal, fill=SHAPE))
        for control in self.controls:
            for equal in self.control_sizes:
                if control == "box":
                    marked = Condition("box")
                elif control == "equal-truth":
                    marked = Condition("truth", "hard" if equal == "soft" else equal)
                else:
                    marked = Condition(control, equal)
                conditions += _sides(marked, self.control_sides, self.fills)
        for side in self.curve.sides:
            for ranking in self.curve.rankings:
                for p in self.curve.percent:
                    conditions.append(Condition(ranking, f"top{p}", side, self.curve.fill))
        conditions += [parse_condition(name) for name in self.also]
        return list(dict.fromkeys(conditions))


def _sides(marked: Condition, sides: list[Side], fills: list[Fill]) -> list[Condition]:
    return [Condition(marked.source, marked.size, s, f) for f in fills for s in sides]
