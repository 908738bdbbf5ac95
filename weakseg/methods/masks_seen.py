"""Which true masks had a part in a method: those of several methods are counted once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class MasksSeen:
    """True masks that had a part in something.

    Attributes
    ----------
    cases : frozenset of str
        Whose masks.
    others : int
        How many masks of cases that nobody names, such as those that told an area beforehand.
    """

    cases: frozenset[str] = frozenset()
    others: int = 0

    @property
    def count(self) -> int:
        """How many they are."""
        return len(self.cases) + self.others

    def __or__(self, more: MasksSeen) -> MasksSeen:
        """Both together; a case's mask counts once, and masks that nobody names count as others."""
        return MasksSeen(self.cases | more.cases, self.others + more.others)

    def to_json(self) -> dict[str, Any]:
        """As ``threshold.json`` and ``settings.json`` hold it."""
        return {"masks_seen": self.count, "seen": sorted(self.cases)}


def masks_seen(entry: Mapping[str, Any]) -> MasksSeen:
    """What `MasksSeen.to_json` wrote; without names all masks are others."""
    cases = frozenset(map(str, entry.get("seen", ())))
    return MasksSeen(cases, int(entry["masks_seen"]) - len(cases))
