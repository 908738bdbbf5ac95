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
    elsewhere : frozenset of str
        Networks that were trained on masks of other sets, how many nobody counts here.
    """

    cases: frozenset[str] = frozenset()
    others: int = 0
    elsewhere: frozenset[str] = frozenset()

    @property
    def count(self) -> int:
        """How many they are."""
        return len(self.cases) + self.others

    @property
    def told(self) -> str:
        """What is to be said of masks seen elsewhere, behind what a choice was made on."""
        return f"; masks seen elsewhere, by {', '.join(sorted(self.elsewhere))}" * bool(
            self.elsewhere
        )

    def __or__(self, more: MasksSeen) -> MasksSeen:
        """Both together; a case's mask counts once, and masks that nobody names count as others."""
        named, elsewhere = self.cases | more.cases, self.elsewhere | more.elsewhere
        return MasksSeen(named, self.others + more.others, elsewhere)

    def to_json(self) -> dict[str, Any]:
        """As ``threshold.json`` and ``settings.json`` hold it."""
        own = {"masks_seen": self.count, "seen": sorted(self.cases)}
        return own | ({"elsewhere": sorted(self.elsewhere)} if self.elsewhere else {})


def masks_seen(entry: Mapping[str, Any]) -> MasksSeen:
    """What `MasksSeen.to_json` wrote; without names all masks are others."""
    cases = frozenset(map(str, entry.get("seen", ())))
    elsewhere = frozenset(map(str, entry.get("elsewhere", ())))
    return MasksSeen(cases, int(entry["masks_seen"]) - len(cases), elsewhere)
