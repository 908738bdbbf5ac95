"""In which settings two experiments differ."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from weakseg.config.experiment import Config


def differences(before: Config, now: Config) -> list[str]:
    """Each setting that was another, as people read it; where a run is made is none of them."""
    earlier, later = (dict(_flat(c.model_dump(mode="json"))) for c in (before, now))
    return [
        f"{key}: {earlier.get(key, 'none')} (now {later.get(key, 'none')})"
        for key in dict.fromkeys([*earlier, *later])
        if earlier.get(key) != later.get(key) and key != "device"
    ]


def _flat(tree: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    """The settings of an experiment by their whole names."""
    for key, value in tree.items():
        if isinstance(value, dict) and value:
            yield from _flat(value, f"{above}{key}.")
        else:
            yield f"{above}{key}", value
