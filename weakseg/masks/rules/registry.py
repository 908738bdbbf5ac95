"""Every rule, in the order of tables and documentation. A further one is a file and a line here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, Union

from pydantic import Discriminator, Tag, TypeAdapter

from weakseg.errors import nearest
from weakseg.masks.rules import base
from weakseg.masks.rules.affinity import AffinityRule
from weakseg.masks.rules.box_prompt import BoxPromptRule
from weakseg.masks.rules.chan_vese import ChanVeseRule
from weakseg.masks.rules.crf import CrfRule
from weakseg.masks.rules.geodesic import GeodesicRule
from weakseg.masks.rules.global_thresholds import (
    AreaPriorRule,
    FixedRule,
    OtsuRule,
    QuantileRule,
    TrainQuantileRule,
)
from weakseg.masks.rules.grown import GrownRule
from weakseg.masks.rules.hypercolumn import HypercolumnRule
from weakseg.masks.rules.masks_seen import OracleDatasetRule, OracleImageRule, ValidationRule
from weakseg.masks.rules.random_forest import RandomForestRule
from weakseg.masks.rules.random_walker import RandomWalkerRule
from weakseg.masks.rules.region_growing import RegionGrowingRule
from weakseg.masks.rules.snake import SnakeRule
from weakseg.masks.rules.superpixel import SuperpixelRule
from weakseg.masks.rules.two_tone import TwoToneRule
from weakseg.masks.rules.watershed import WatershedRule

_ALL: tuple[type[base.Rule], ...] = (
    FixedRule,
    OtsuRule,
    QuantileRule,
    AreaPriorRule,
    RandomWalkerRule,
    TwoToneRule,
    GrownRule,
    GeodesicRule,
    SuperpixelRule,
    RegionGrowingRule,
    WatershedRule,
    ChanVeseRule,
    SnakeRule,
    CrfRule,
    BoxPromptRule,
    AffinityRule,
    HypercolumnRule,
    RandomForestRule,
    TrainQuantileRule,
    ValidationRule,
    OracleDatasetRule,
    OracleImageRule,
)

RULES: dict[str, type[base.Rule]] = {r.model_fields["rule"].default: r for r in _ALL}
"""Name of a rule → its settings."""

RULE_NAMES = tuple(RULES)
ORACLES = tuple(name for name, rule in RULES.items() if rule.oracle)


def _name(rule: Any) -> Any:
    return rule.get("rule") if isinstance(rule, dict) else getattr(rule, "rule", None)


if TYPE_CHECKING:
    Rule = base.Rule
else:
    # A field of the experiment that holds a rule: which one, its key `rule` says.
    Rule = Annotated[
        Union[tuple(Annotated[r, Tag(name)] for name, r in RULES.items())],  # noqa: UP007
        Discriminator(_name),
    ]


def default_rules(dims: int = 2) -> list[Rule]:
    """The rules, with their default parameters, of an experiment that names none.

    Those that take heat of so many axes of space.
    """
    return [r() for r in _ALL if r.by_default and dims in r.dims]  # type: ignore[call-arg]


def rules_by_name(rules: Any) -> Any:
    """A rule's bare name stands for the rule with its defaults."""
    if not isinstance(rules, list):
        return rules
    named = [{"rule": r} if isinstance(r, str) else r for r in rules]
    for r in named:
        name = _name(r)
        if name not in RULE_NAMES:
            raise ValueError(
                f"unknown rule {name!r}; choose from: {', '.join(RULE_NAMES)}"
                + (f" (did you mean {n!r}?)" if (n := nearest(str(name), RULE_NAMES)) else "")
            )
    return named


def rules_differ(rules: list[Any] | None) -> list[Any] | None:
    """Refuse a list of rules in which one stands twice."""
    names = [r.rule for r in rules or ()]
    if twice := sorted({n for n in names if names.count(n) > 1}):
        raise ValueError(f"each rule may stand once, but {', '.join(twice)} stands several times")
    return rules


def rule_from_json(entry: Mapping[str, Any]) -> base.FittedRule:
    """The rule that `FittedRule.to_json` wrote, without what it was trained to."""
    return base.FittedRule(
        rule=TypeAdapter[Rule](Rule).validate_python(entry["rule"]),
        threshold=entry["threshold"],
        scale=entry["scale"],
        chosen_on=entry["chosen_on"],
        masks_seen=entry["masks_seen"],
        search=entry.get("search"),
    )


def configured_rule(entry: Mapping[str, Any]) -> dict[str, Any]:
    """The rule as it was configured, of an entry that `FittedRule.to_json` wrote."""
    configured: dict[str, Any] = entry.get("search", {}).get("configured", entry["rule"])
    return configured
