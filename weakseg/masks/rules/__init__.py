"""The rules that make masks of heatmaps: one file a rule, listed in `registry`.

- `base`: the contract
- `search`: parameters chosen on validation masks
- `global_thresholds`, `masks_seen`: one number for an image or for the set
- `random_walker`, `two_tone`, `geodesic`, `superpixel`, `crf`: masks that follow the image
- `region_growing`, `watershed`, `chan_vese`, `snake`: the classical ones
- `affinity`, `hypercolumn`: trained on the training heatmaps first
"""

from weakseg.masks.rules.base import Evidence, FittedRule, TrainedState, segment
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

__all__ = [
    "ORACLES",
    "RULES",
    "RULE_NAMES",
    "Evidence",
    "FittedRule",
    "Rule",
    "TrainedState",
    "configured_rule",
    "default_rules",
    "rule_from_json",
    "rules_by_name",
    "rules_differ",
    "segment",
]
