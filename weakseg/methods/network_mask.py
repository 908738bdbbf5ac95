"""What is made of a network's probability: its mask, screened and outlined, behind its gate."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from weakseg.masks.level import level_mask
from weakseg.masks.rules.box_prompt import prompted_mask
from weakseg.masks.screen import screen_parts
from weakseg.masks.thresholds import apply_threshold
from weakseg.methods.base import Prediction
from weakseg.methods.evidence import Evidence

OUTLINE, LEVEL, PROMPTED = "outline", "level", "box-prompt"
"""Of what a mask's outline is, and the values that are not its threshold's."""

OF_OUTLINE = f"segmenters: {OUTLINE}: {PROMPTED}"
SIDES = 1.25
"""Sides of the boxes of `PROMPTED`, times those of the parts; chosen on 72 masks of ultrasound."""

INFERENCE = (
    *("tile", "overlap", "flips", "scales", "prune", "recalibrate", "crf"),
    *("min_peak", "min_area", "neighbours", OUTLINE),
)
"""Settings of the way from a trained network to masks."""

BESIDE = "beside"
"""Key of ``threshold.json`` with the cuts of images that have neighbours, where labels chose them:
``min_peak`` and ``gate``."""

SCREENING = ("min_peak", "min_area", "neighbours")
"""Settings that a network trained on these masks does not follow: its images hold a lesion."""


def network_mask(
    probability: np.ndarray, threshold: Mapping[str, Any], evidence: np.ndarray | None = None
) -> np.ndarray:
    """A network's mask: above its threshold, and screened as its settings say.

    Parameters
    ----------
    probability : (*size) ndarray
        Of a lesion.
    threshold : mapping
        An entry of ``threshold.json``.
    evidence : (*size) ndarray, optional
        The probability with that of its neighbours, which the peak of a part is looked for in.

    Returns
    -------
    (*size) ndarray of bool
    """
    mask = apply_threshold(probability, float(threshold["threshold"]))
    how = threshold.get("inference") or {}
    area, peak = float(how.get("min_area", 0)), float(how.get("min_peak", 0))
    if evidence is not None:
        peak = float(threshold.get(BESIDE, how).get("min_peak", 0))
    if not area and not peak:
        return mask
    score = probability if evidence is None else evidence
    return screen_parts(mask, score, min_area=area, min_peak=peak)


def looks_beside(threshold: Mapping[str, Any]) -> bool:
    """Whether what is made of a case depends on its neighbours; ``threshold`` as in
    `network_mask`."""
    how = threshold.get("inference") or {}
    cut = how.get("min_peak", 0) or threshold.get("gate", 0)
    return bool(how.get("neighbours", 0) and (cut or BESIDE in threshold))


def outlines(threshold: Mapping[str, Any]) -> bool:
    """Whether masks get another outline than their threshold's; as in `network_mask`."""
    return outline_of(threshold) in (LEVEL, PROMPTED)


def outline_of(threshold: Mapping[str, Any]) -> str:
    """Of what the outline of masks is; ``threshold`` as in `network_mask`."""
    return str((threshold.get("inference") or {}).get(OUTLINE, "threshold"))


def outlined(
    mask: np.ndarray,
    probability: np.ndarray,
    image: Callable[[], np.ndarray],
    threshold: Mapping[str, Any],
) -> np.ndarray:
    """A network's mask with the outline that its settings ask for.

    Parameters
    ----------
    mask : (M, N) ndarray of bool
        As `network_mask` makes it.
    probability : (M, N) ndarray
    image : callable
        Gives the image, where it is looked at.
    threshold : mapping
        An entry of ``threshold.json``.
    """
    if not outlines(threshold) or not mask.any():
        return mask
    if outline_of(threshold) == PROMPTED:
        return prompted_mask(mask, image(), box=SIDES, kept=True, where=OF_OUTLINE)
    dropped = apply_threshold(probability, float(threshold["threshold"])) & ~mask
    return level_mask(np.where(dropped, 0, probability), image(), mask)


def of_evidence(
    threshold: Mapping[str, Any],
    evidence: Evidence,
    classifiers: Callable[[int], float | None],
    image: Callable[[int], np.ndarray],
) -> Prediction:
    """What is made of the probability of a lesion at every place, and of the neighbours'.

    Parameters
    ----------
    threshold : mapping
        An entry of ``threshold.json``.
    evidence : Evidence
    classifiers : callable
        Index → their probability of a lesion in the case; None where none is asked.
    image : callable
        Index → the image, see `outlined`.
    """
    p, says, word = (
        evidence.probability,
        classifiers(evidence.index),
        evidence.word(classifiers),
    )
    alone = evidence.mean is None
    cuts = threshold if alone else threshold.get(BESIDE, threshold)
    gated = word is not None and word < float(cuts["gate"])
    mask = network_mask(p, threshold, evidence.mean)
    mask = np.zeros_like(mask) if gated else mask
    mask = outlined(mask, p, lambda: image(evidence.index), threshold)
    notes = {"highest_probability": round(float(p.max()), 6)}
    return Prediction(mask, p, says, gated=gated, notes=notes)
