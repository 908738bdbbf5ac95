"""From what articles call a system to where it is in weakseg, for messages about unknown networks.

``docs/systems.md`` has the same as a table.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from weakseg.errors import did_you_mean
from weakseg.masks.rules.registry import RULES

ELSEWHERE = {
    "ens4bunet": "it is an ensemble of networks: `weakseg config show ens4b`",
    "ens4b": "it is an ensemble of networks: `weakseg config show ens4b`",
    "hfcnn": "it is a rule: masks.rules: [{rule: hypercolumn, teacher: masks, warm: 0}]",
    "unetgan": "it adapts a network that is trained: `weakseg adapt`",
    "kmeans": "it is a floor, and floors are scored beside every method: scores.floors: true",
    "fuzzycmeans": "it is a floor, and floors are scored beside every method: scores.floors: true",
    "dea": "it is an augmentation: augment: heatmap",
    "relevance": "it makes heatmaps: heatmap.method: relevance",
}
"""Systems that are no network of `segmenters:`, by their folded names."""


def fold(name: str) -> str:
    """A name as it is compared: small letters and digits alone, a plus as p.

    Examples
    --------
    >>> fold("UNet++"), fold("SW-UNet"), fold("Render U-Net")
    ('unetpp', 'swunet', 'renderunet')
    """
    return re.sub(r"[^a-z0-9]", "", name.lower().replace("+", "p"))


def way_to(name: str, spoken: Mapping[str, str]) -> str:
    """The remedy for a network's name that the registry does not have.

    Parameters
    ----------
    name : str
    spoken : mapping
        Name in the registry → name in the literature.
    """
    folded = fold(name)
    for known, said in spoken.items():
        if folded in (fold(known), fold(said)):
            return f"did you mean {known!r}?"
    if folded in ELSEWHERE:
        return ELSEWHERE[folded]
    for rule in RULES:
        if folded == fold(rule):
            return f"it is a rule, which makes masks of heatmaps: masks.rules: [{rule}]"
    return did_you_mean(name, spoken)
