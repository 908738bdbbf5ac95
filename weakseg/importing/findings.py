"""Several findings an image, as of chest radiographs: an experiment takes one of them, or any."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from weakseg.importing.answers import Answers, Question

ANY = "any"
HEALTHY, FINDING, UNCERTAIN = "No Finding", "finding", "uncertain"
ALL = "all_findings"
"""The column that keeps every finding of an image."""


@dataclass(frozen=True)
class Reading:
    """What is said of an image.

    Attributes
    ----------
    positive, uncertain : frozenset of str
    healthy : bool
        Whether it is said to have no finding at all.
    """

    positive: frozenset[str]
    uncertain: frozenset[str] = frozenset()
    healthy: bool = False

    def label(self, finding: str) -> str:
        """The image's label where one finding, or any, is the lesion."""
        if finding == ANY:
            if self.positive:
                return FINDING
            return HEALTHY if self.healthy else UNCERTAIN
        if finding in self.positive:
            return finding
        return UNCERTAIN if finding in self.uncertain else without(finding)


def without(finding: str) -> str:
    """The label of images that do not have a finding."""
    return f"no {finding}"


def choose_finding(readings: Sequence[Reading], answers: Answers) -> str:
    """The finding that is the lesion, or `ANY`."""
    counts = Counter(f for r in readings for f in sorted(r.positive))
    return answers.ask(
        Question(
            "finding",
            "Which finding is the lesion?",
            ANY,
            (ANY, *(name for name, _ in counts.most_common())),
            "images that have others alone then count as without it",
        )
    )


def settings_of(finding: str, labels: Sequence[str]) -> dict[str, Any]:
    """What the experiment has to know about the labels."""
    settings: dict[str, Any] = {
        "data.healthy_labels": [HEALTHY if finding == ANY else without(finding)]
    }
    if UNCERTAIN in labels:
        settings["data.drop_labels"] = [UNCERTAIN]
    return settings
