"""In which settings two experiments differ."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from weakseg.config.experiment import Config


def differences(before: Config, now: Config) -> list[str]:
    """Each setting that was another, as people read it; where a run is made is none of them.

    A segmenter, heatmap or section that only one of them has is one difference, whatever its
    settings are.
    """
    earlier, later = (c.model_dump(mode="json", exclude={"device"}) for c in (before, now))
    return list(_changes(earlier, later))


def _changes(before: Mapping[str, Any], now: Mapping[str, Any], above: str = "") -> Iterator[str]:
    for key in dict.fromkeys([*before, *now]):
        was, is_now, name = before.get(key), now.get(key), f"{above}{key}"
        if isinstance(was, dict) and isinstance(is_now, dict):
            yield from _changes(was, is_now, f"{name}.")
        elif isinstance(was, dict) or isinstance(is_now, dict):
            yield f"{name}: {_said(was, is_now)} (now {_said(is_now, was)})"
        elif was != is_now:
            yield f"{name}: {was} (now {is_now})"


def _said(value: Any, beside: Any) -> str:
    """A whole section in a few words."""
    if isinstance(value, dict):
        return "there" if beside is None else "settings of its own"
    return "none" if value is None else str(value)
