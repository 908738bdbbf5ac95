"""Whether the masks of a method are those of the run's present data, splits and settings."""

from __future__ import annotations

from weakseg.current import changed_input
from weakseg.methods.find import kind_of
from weakseg.methods.prepared import Prepared


def why_not_standing(prepared: Prepared, method: str) -> str | None:
    """Why a method has no masks to be scored or built on; None where it has."""
    config = prepared.config
    kind = kind_of(config, method)
    entry = prepared.run.record.get("stages", {}).get(kind.stage(method))
    if entry is None:
        return "it has made no masks yet"
    same = entry.get("data") == prepared.key and kind.is_of(entry, config, method)
    if not same or entry.get("asked") != kind.settings(config, method):
        return "it was made of other data or settings"
    source = changed_input(prepared.run, entry)
    return None if source is None else f"{source} has other results than it was made of"
