"""The rules that make masks of heatmaps: one file a rule, listed in `registry`.

- `base`: the contract
- `search`: parameters chosen on validation masks
- `global_thresholds`, `masks_seen`: one number for an image or for the set
- `random_walker`, `two_tone`, `geodesic`, `superpixel`, `crf`: masks that follow the image
- `affinity`, `hypercolumn`: trained on the training heatmaps first
"""

from weakseg.masks.rules.affinity import AffinityRule
from weakseg.masks.rules.base import Evidence, FittedRule, TrainedState, segment
from weakseg.masks.rules.crf import CrfRule
from weakseg.masks.rules.geodesic import GeodesicRule
from weakseg.masks.rules.global_thresholds import (
    AreaPriorRule,
    FixedRule,
    OtsuRule,
    QuantileRule,
    TrainQuantileRule,
)
from weakseg.masks.rules.hypercolumn import HypercolumnRule
from weakseg.masks.rules.masks_seen import OracleDatasetRule, OracleImageRule, ValidationRule
from weakseg.masks.rules.random_walker import RandomWalkerRule
from weakseg.masks.rules.registry import (
    ORACLES,
    RULE_NAMES,
    RULES,
    Rule,
    configured_rule,
    default_rules,
    rule_from_json,
    rules_by_name,
    rules_differ,
)
from weakseg.masks.rules.search import SearchedRule
from weakseg.masks.rules.superpixel import SuperpixelRule
from weakseg.masks.rules.two_tone import TwoToneRule

__all__ = [
    "ORACLES",
    "RULES",
    "RULE_NAMES",
    "AffinityRule",
    "AreaPriorRule",
    "CrfRule",
    "Evidence",
    "FittedRule",
    "FixedRule",
    "GeodesicRule",
    "HypercolumnRule",
    "OracleDatasetRule",
    "OracleImageRule",
    "OtsuRule",
    "QuantileRule",
    "RandomWalkerRule",
    "Rule",
    "SearchedRule",
    "SuperpixelRule",
    "TrainQuantileRule",
    "TrainedState",
    "TwoToneRule",
    "ValidationRule",
    "configured_rule",
    "default_rules",
    "rule_from_json",
    "rules_by_name",
    "rules_differ",
    "segment",
]
