"""The rules that make masks of heatmaps, as the experiment names them."""

from __future__ import annotations

from contextlib import suppress
from itertools import product
from typing import Annotated, Any, Literal, Self, get_args

from pydantic import (
    ConfigDict,
    Field,
    TypeAdapter,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_serializer,
    model_validator,
)

from weakseg.config.base import Fraction, Keys, no_yes_or_no
from weakseg.errors import nearest

NUMBERS = (
    *("max_masks", "masks_seen", "warm", "blur", "beta", "edge", "compactness", "penalty"),
    *("steps", "epochs"),
)
"""Keys of rules that may be 0 or 1, which Python would take a no or a yes for."""


class RuleKeys(Keys):
    """The settings of a rule."""

    # By name: pydantic allows no look at the key `rule`, by which it tells the rules apart.
    @field_validator(*NUMBERS, mode="before", check_fields=False)
    @classmethod
    def _yes_is_no_number(cls, value: Any, info: ValidationInfo) -> Any:
        return no_yes_or_no(cls.model_fields[str(info.field_name)].annotation, value)


class SearchedRule(RuleKeys):
    """A rule whose parameters may be chosen on validation masks instead of beforehand."""

    search: dict[str, list[Any]] | None = Field(
        None,
        description="parameter → values; every combination is tried on validation masks, which "
        "are counted, and that of the best mean Dice is taken",
    )
    max_masks: int | None = Field(
        None, ge=1, description="of a search: use only so many validation masks"
    )

    @classmethod
    def parameters(cls) -> list[str]:
        """What can be searched."""
        return [n for n in cls.model_fields if n not in (*_OF_SEARCH, "rule", "masks_seen")]

    @field_validator("search")
    @classmethod
    def _values_are_in_range(cls, search: dict[str, list[Any]] | None) -> Any:
        if search is not None and not search:
            raise ValueError(f"name a parameter ({', '.join(cls.parameters())}) and its values")
        return search and {name: cls._in_range(name, search[name]) for name in search}

    @classmethod
    def _in_range(cls, name: str, values: list[Any]) -> list[Any]:
        if name not in cls.parameters():
            close = nearest(name, cls.parameters())
            known = f"did you mean {close!r}?" if close else f"choose {', '.join(cls.parameters())}"
            raise ValueError(f"{name}: the rule has no such parameter; {known}")
        field = cls.model_fields[name]
        adapter = TypeAdapter[Any](
            Annotated[field.annotation, field],  # type: ignore[arg-type]
            config=ConfigDict(allow_inf_nan=False),
        )
        found = []
        for value in values:
            try:
                found.append(adapter.validate_python(None if isinstance(value, bool) else value))
            except ValidationError as e:
                said = e.errors()[0]["msg"]
                raise ValueError(f"{name}: {said[0].lower()}{said[1:]}, not {value!r}") from None
        if not found or len(set(found)) < len(found):
            raise ValueError(f"{name}: name one value or more, each once")
        return found

    @model_validator(mode="after")
    def _something_is_possible(self) -> Self:
        if self.search is None and self.max_masks is not None:
            raise ValueError("max_masks: for a search only")
        if self.search is not None and not self.candidates():
            raise ValueError("search: its values exclude each other; low must be below high")
        return self

    def candidates(self) -> list[tuple[dict[str, Any], Self]]:
        """Every combination of the values, the last parameter's changing first.

        Returns
        -------
        list of (dict, rule)
            What is set, and the rule with it and without a search. Combinations that exclude each
            other, such as a low end above the high one, are left out.
        """
        names, held = list(self.search or {}), self.model_dump(exclude=_OF_SEARCH)
        found = []
        for values in product(*(self.search or {}).values()):
            chosen = dict(zip(names, values, strict=True))
            with suppress(ValidationError):
                found.append((chosen, type(self).model_validate(held | chosen)))
        return found

    @model_serializer(mode="wrap")
    def _without_a_search_as_before(self, handler: Any) -> dict[str, Any]:
        # Fingerprints of runs from before there was a search stay as they are.
        held: dict[str, Any] = handler(self)
        searched = {k: held.pop(k) for k in list(held) if k in _OF_SEARCH}
        return held if self.search is None else held | searched


_OF_SEARCH = {"search", "max_masks"}


def _low_below_high(rule: Any) -> Any:
    """Two shares of the heat must be in order; a search leaves out those that are not."""
    if getattr(rule, "search", None) is None and rule.low >= rule.high:
        raise ValueError("low must be below high")
    return rule


class FixedRule(SearchedRule):
    """The heatmap over its own maximum is above ``at``."""

    rule: Literal["fixed"] = "fixed"
    at: Fraction = 0.5


class OtsuRule(RuleKeys):
    """Otsu's threshold of each heatmap."""

    rule: Literal["otsu"] = "otsu"


class QuantileRule(SearchedRule):
    """Above the ``q``-quantile of each heatmap: every mask takes 1 - q of its image."""

    rule: Literal["quantile"] = "quantile"
    q: Fraction = 0.9


class AreaPriorRule(SearchedRule):
    """The hottest share ``area`` of the body (the image without its dark background)."""

    rule: Literal["area-prior"] = "area-prior"
    area: Fraction = 0.1
    masks_seen: int = Field(0, ge=0, description="how many masks told you this area")


class RandomWalkerRule(SearchedRule):
    """Grown from the heatmap's confident parts by a random walk on the image, see
    `weakseg.masks.walker`."""

    rule: Literal["random-walker"] = "random-walker"
    high: Fraction = Field(0.7, description="above this share of its maximum: lesion")
    low: Fraction = Field(0.3, description="below: background")
    beta: float = Field(130.0, ge=0.0, description="how much an edge of the image hinders")

    _low_is_lower = model_validator(mode="after")(_low_below_high)


class TwoToneRule(SearchedRule):
    """The bright or the dark part of the heatmap's warm region, see `weakseg.masks.tones`."""

    rule: Literal["two-tone"] = "two-tone"
    warm: Fraction = Field(0.35, description="share of the heatmap's maximum: below, no lesion")
    blur: float = Field(
        0.008, ge=0.0, le=0.1, description="sd of the image's smoothing, share of its longer side"
    )


class GeodesicRule(SearchedRule):
    """Grown from the heatmap's confident parts to what is nearer to them, by way of the image, than
    to the background, see `weakseg.masks.geodesic`."""

    rule: Literal["geodesic"] = "geodesic"
    high: Fraction = Field(0.7, description="above this share of its maximum: lesion")
    low: Fraction = Field(0.3, description="below: background")
    edge: float = Field(20.0, ge=0.0, description="cost of a step across the full range of grey")

    _low_is_lower = model_validator(mode="after")(_low_below_high)


class SuperpixelRule(SearchedRule):
    """Whole superpixels of the image whose mean heat is high, see `weakseg.masks.superpixels`."""

    rule: Literal["superpixel"] = "superpixel"
    at: Fraction = Field(0.5, description="share of the hottest superpixel's mean heat")
    count: int = Field(300, ge=2, le=100_000, description="how many superpixels an image has")
    compactness: float = Field(0.1, gt=0.0, description="space against grey values, see SLIC")


class CrfRule(SearchedRule):
    """A dense conditional random field on the image; needs the extra ``crf``."""

    rule: Literal["crf"] = "crf"
    at: Fraction = Field(0.5, description="heat over its maximum at which lesion is as likely")
    steps: int = Field(5, ge=1, le=100)


class LearntRule(RuleKeys):
    """What the rules share that learn from the confident parts of the training heatmaps."""

    high: Fraction = Field(0.6, description="heat over its maximum above which a place is lesion")
    low: Fraction = Field(0.25, description="below: background; what is between teaches nothing")

    _low_is_lower = model_validator(mode="after")(_low_below_high)


class AffinityRule(LearntRule):
    """The heat after a random walk along affinities of pixels, which a small network has learnt
    from the training heatmaps, see `weakseg.masks.affinity`. The defaults saw 60 validation masks
    of the glioma set."""

    rule: Literal["affinity"] = "affinity"
    radius: int = Field(
        5, ge=2, le=15, description="a step reaches pixels of the coarse grid nearer than this"
    )
    beta: float = Field(8.0, gt=0.0, le=64.0, description="power of the affinities")
    steps: int = Field(16, ge=0, le=4096, description="of the walk")
    at: Fraction = Field(0.5, description="share of the walked heat's maximum")
    epochs: int = Field(4, ge=1, le=100, description="of the small network's training")


class HypercolumnRule(LearntRule):
    """Superpixels that a linear classifier of the network's activations calls lesion, trained on
    the training heatmaps, see `weakseg.masks.hypercolumn`. The defaults saw 60 validation masks of
    the glioma set."""

    rule: Literal["hypercolumn"] = "hypercolumn"
    warm: float = Field(
        0.5,
        ge=0.0,
        lt=1.0,
        description="superpixels of a lower mean heat are no lesion; 0: all ask",
    )
    at: Fraction = Field(0.5, description="probability above which a superpixel is lesion")
    count: int = Field(300, ge=2, le=10_000, description="how many superpixels an image has")
    compactness: float = Field(0.1, gt=0.0, description="space against grey values, see SLIC")
    penalty: float = Field(1000.0, gt=0.0, description="L2 penalty of the linear classifier")


class TrainQuantileRule(RuleKeys):
    """One threshold for the set: the ``q``-quantile of raw heat over unmasked training images
    with a lesion label."""

    rule: Literal["train-quantile"] = "train-quantile"
    q: Fraction = 0.9


class ValidationRule(RuleKeys):
    """One threshold for the set, the best on the masks of the validation split."""

    rule: Literal["validation"] = "validation"
    max_masks: int | None = Field(None, ge=1, description="use only so many masks")


class OracleDatasetRule(RuleKeys):
    """UPPER BOUND: one threshold for the set, the best on the test masks themselves."""

    rule: Literal["oracle-dataset"] = "oracle-dataset"


class OracleImageRule(RuleKeys):
    """UPPER BOUND: the best threshold of each test image on its own mask."""

    rule: Literal["oracle-image"] = "oracle-image"


Rule = Annotated[
    FixedRule
    | OtsuRule
    | QuantileRule
    | AreaPriorRule
    | RandomWalkerRule
    | TwoToneRule
    | GeodesicRule
    | SuperpixelRule
    | CrfRule
    | AffinityRule
    | HypercolumnRule
    | TrainQuantileRule
    | ValidationRule
    | OracleDatasetRule
    | OracleImageRule,
    Field(discriminator="rule"),
]

RULES: dict[str, type[RuleKeys]] = {
    m.model_fields["rule"].default: m for m in get_args(get_args(Rule)[0])
}
"""Name of a rule → its settings."""

RULE_NAMES = tuple(RULES)
ORACLES = ("oracle-dataset", "oracle-image")


def default_rules() -> list[Rule]:
    """Every rule with its default parameters, but ``crf``, which needs an extra, and those that are
    learnt first."""
    return [
        FixedRule(),
        OtsuRule(),
        QuantileRule(),
        AreaPriorRule(),
        RandomWalkerRule(),
        TwoToneRule(),
        GeodesicRule(),
        SuperpixelRule(),
        TrainQuantileRule(),
        ValidationRule(),
        OracleDatasetRule(),
        OracleImageRule(),
    ]


def rules_by_name(rules: Any) -> Any:
    """A rule's bare name stands for the rule with its defaults."""
    if not isinstance(rules, list):
        return rules
    known = [{"rule": r} if isinstance(r, str) else r for r in rules]
    for r in known:
        name = r.get("rule") if isinstance(r, dict) else getattr(r, "rule", None)
        if name not in RULE_NAMES:
            raise ValueError(
                f"unknown rule {name!r}; choose from: {', '.join(RULE_NAMES)}"
                + (f" (did you mean {n!r}?)" if (n := nearest(str(name), RULE_NAMES)) else "")
            )
    return known


def rules_differ(rules: list[Any] | None) -> list[Any] | None:
    names = [r.rule for r in rules or ()]
    if len(set(names)) != len(names):
        raise ValueError("each rule may stand once")
    return rules
