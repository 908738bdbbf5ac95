"""The questions that filtered retraining answers, from the intervals of its conditions.

Of fewer than `LEAST_PATIENTS` patients nothing is answered: their intervals are no evidence.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

import numpy as np

from weakseg.config import Condition
from weakseg.config.filtered import RAW
from weakseg.scores import Evidence, dark_contributes, depends_mainly, keeps_more
from weakseg.scores.conclusions import Comparison, Verdict
from weakseg.settings import LEAST_PATIENTS

Said = TypeVar("Said", Verdict, Comparison)


def questions(
    evidence: Evidence, conditions: Sequence[Condition], control_sizes: Sequence[str]
) -> list[dict[str, Any]]:
    """Each question for each fill that was tried; in words they are the report's."""
    names = {c.name for c in conditions}
    fills = list(dict.fromkeys(c.fill for c in conditions if c.fill != "shape" and c.source != RAW))
    tried = list(dict.fromkeys(c.size for c in conditions if c.source == "heat"))
    dark_sizes = [s for s in tried if s in ("hard", "soft")]
    sizes = [s for s in tried if s in (*control_sizes, *dark_sizes)]  # the curves have a figure
    answers: list[dict[str, Any]] = []

    def interval(name: str) -> dict[str, Any] | None:
        return named(evidence.interval(name, "auc")) if name in names else None

    def lead(a: str, b: str) -> dict[str, Any] | None:
        return named(evidence.difference(a, b, "auc")) if {a, b} <= names else None

    def settled(said: Said) -> Said:
        """An answer, unless it rests on too few patients."""
        if evidence.patients >= LEAST_PATIENTS or said.answer == "cannot tell":
            return said
        return said._replace(answer="cannot tell", reason="too few")

    for fill in fills:
        rest = f"truth-remove-{fill}"
        if rest in names:
            share = evidence.share_lost(RAW, rest)
            outline = evidence.interval("truth-shape", "auc") if "truth-shape" in names else None
            verdict = settled(depends_mainly(share, outline))
            answers.append(
                {
                    "question": "tumour",
                    "fill": fill,
                    "verdict": verdict.answer,
                    "reason": verdict.reason,
                    "share_lost": named(share),
                    "raw": interval(RAW),
                    "removed": interval(rest),
                    "alone": interval(f"truth-keep-{fill}"),
                    "shape": interval("truth-shape"),
                }
            )
    for size in dark_sizes:
        for fill in fills:
            dark = f"heat-{size}-remove-{fill}"
            if dark not in names:
                continue
            shape = f"heat-{size}-shape"
            beyond, room = lead(dark, shape), lead(RAW, shape)
            said = dark_contributes(
                evidence.interval(dark, "auc"),
                evidence.difference(dark, shape, "auc") if beyond else None,
                evidence.difference(RAW, shape, "auc") if room else None,
            )
            verdict = settled(said)
            answers.append(
                {
                    "question": "dark",
                    "size": size,
                    "fill": fill,
                    "verdict": verdict.answer,
                    "reason": verdict.reason,
                    "raw": interval(RAW),
                    "dark": interval(dark),
                    "bright": interval(f"heat-{size}-keep-{fill}"),
                    "shape": interval(shape),
                    "beyond_shape": beyond,
                }
            )
    for size in sizes:
        for fill in fills:
            kept = f"heat-{size}-keep-{fill}"
            for source in ("random", "gaussian", "shuffled", "truth"):
                other = f"{source}-{size}-keep-{fill}"
                if not {kept, other} <= names:
                    continue
                control_verdict = settled(keeps_more(evidence.difference(kept, other, "auc")))
                answers.append(
                    {
                        "question": "control",
                        "size": size,
                        "fill": fill,
                        "control": source,
                        "verdict": control_verdict.answer,
                        "reason": control_verdict.reason,
                        "heat": interval(kept),
                        "other": interval(other),
                        "lead": lead(kept, other),
                        "shape": interval(f"heat-{size}-shape"),
                    }
                )
    return answers


def named(interval: Sequence[float]) -> dict[str, Any]:
    """NaN is no JSON: a missing end is null."""
    value, low, high = (None if np.isnan(v) else float(v) for v in interval[:3])
    return {"value": value, "low": low, "high": high}
