"""Threshold rules as the experiment file names them: fitted to a set, then applied to images.

A rule that needs one threshold for the whole set is *fitted* first. What it saw is recorded with
it, above all how many masks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import tee
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from pydantic import TypeAdapter

from weakseg.config import (
    ORACLES,
    AreaPriorRule,
    CrfRule,
    FixedRule,
    GeodesicRule,
    OracleDatasetRule,
    OtsuRule,
    QuantileRule,
    RandomWalkerRule,
    Rule,
    SearchedRule,
    SuperpixelRule,
    TrainQuantileRule,
    TwoToneRule,
    ValidationRule,
)
from weakseg.masks.crf import crf_mask
from weakseg.masks.geodesic import geodesic_mask
from weakseg.masks.learnt import LEARNT, Learnt, learnt_mask
from weakseg.masks.region import body_region
from weakseg.masks.set_thresholds import best_threshold, train_quantile_threshold
from weakseg.masks.superpixels import superpixel_mask
from weakseg.masks.thresholds import (
    apply_threshold,
    area_prior_mask,
    fixed_threshold,
    is_flat,
    normalise,
    oracle_threshold,
    otsu_threshold,
    quantile_threshold,
)
from weakseg.masks.tones import two_tone_mask
from weakseg.masks.walker import random_walker_mask

Bools = npt.NDArray[np.bool_]
Heats = Callable[[], Iterable[npt.ArrayLike]]
Pairs = Callable[[], Iterable[tuple[npt.ArrayLike, npt.ArrayLike]]]
Triples = Callable[[], Iterable[tuple[npt.ArrayLike, npt.ArrayLike, npt.ArrayLike]]]

ON_IMAGE = (
    AreaPriorRule,
    RandomWalkerRule,
    TwoToneRule,
    GeodesicRule,
    SuperpixelRule,
    CrfRule,
    *LEARNT,
)
"""Rules that look at the image."""

ORACLE_LABEL = "upper bound: chosen on the test masks themselves"


@dataclass(frozen=True)
class FittedRule:
    """A rule that is ready for images.

    Attributes
    ----------
    rule : Rule
        As configured; after a search with the parameters that it chose.
    threshold : float or None
        The set's threshold, None for rules that choose one an image.
    scale : {"image", "raw"}
        Whether ``threshold`` applies to a heatmap over its own maximum or to raw heat.
    chosen_on : str
        What the choice saw, in words.
    masks_seen : int
        How many true masks it saw.
    search : mapping or None
        What a search was asked and found: ``asked``, the rule as configured, and ``candidates``,
        each with its parameters and its mean ``dice``.
    learnt : Learnt, optional
        Of the rules of `LEARNT`.
    """

    rule: Rule
    threshold: float | None
    scale: Literal["image", "raw"]
    chosen_on: str
    masks_seen: int
    search: Mapping[str, Any] | None = None
    learnt: Learnt | None = field(default=None, compare=False)

    @property
    def name(self) -> str:
        """The rule's name."""
        return self.rule.rule

    @property
    def needs_image(self) -> bool:
        """Whether `segment` looks at the image."""
        return isinstance(self.rule, ON_IMAGE)

    @property
    def oracle(self) -> bool:
        """Whether it is an upper bound and no result."""
        return self.name in ORACLES

    def to_json(self) -> dict[str, Any]:
        """As ``threshold.json`` holds it; what was learnt lies beside it."""
        return {
            "rule": self.rule.model_dump(mode="json"),
            "threshold": self.threshold,
            "scale": self.scale,
            "chosen_on": self.chosen_on,
            "masks_seen": self.masks_seen,
            "upper_bound": self.oracle,
        } | ({} if self.search is None else {"search": dict(self.search)})


def rule_from_json(entry: dict[str, Any]) -> FittedRule:
    """The rule that `FittedRule.to_json` wrote, without what it has learnt."""
    return FittedRule(
        rule=TypeAdapter[Rule](Rule).validate_python(entry["rule"]),
        threshold=entry["threshold"],
        scale=entry["scale"],
        chosen_on=entry["chosen_on"],
        masks_seen=entry["masks_seen"],
        search=entry.get("search"),
    )


def asked_rule(entry: dict[str, Any]) -> dict[str, Any]:
    """The rule as it was configured, of an entry that `FittedRule.to_json` wrote."""
    asked: dict[str, Any] = entry.get("search", {}).get("asked", entry["rule"])
    return asked


def fit_rule(
    rule: Rule,
    *,
    train: Heats,
    val: Pairs,
    test: Pairs,
    val_images: Triples | None = None,
    seed: int = 0,
    learn: Callable[[Rule], Learnt] | None = None,
) -> FittedRule:
    """Choose the set's threshold, where the rule has one, or the parameters that it searches.

    Parameters
    ----------
    rule : Rule
    train : callable
        Gives the raw heatmaps, (M, N), of training images with a lesion label, no masks.
    val, test : callable
        Give pairs of raw heatmap and true mask, (M, N), of images with a lesion and a mask.
    val_images : callable, optional
        As ``val``, with the image between the two: (M, N[, 3]). For a search.
    seed : int
        Of the choice of masks where ``max_masks`` limits them.
    learn : callable, optional
        For the rules of `LEARNT`: learns from training images and their heatmaps, without masks.

    Raises
    ------
    LookupError
        If the rule needs masks or heatmaps and there are none; the message says which.
    """
    if isinstance(rule, SearchedRule) and rule.search is not None:
        return _searched(rule, val, val_images, seed)
    if isinstance(rule, TrainQuantileRule):
        try:
            t = train_quantile_threshold(train(), rule.q)
        except ValueError:
            raise LookupError("no training image has a lesion label") from None
        return FittedRule(rule, t, "raw", "raw heat of training images, no masks", 0)
    if isinstance(rule, ValidationRule):
        t, seen = _best(val, "validation", rule.max_masks, seed)
        return FittedRule(rule, t, "image", "masks of the validation split", seen)
    if isinstance(rule, OracleDatasetRule):
        t, seen = _best(test, "test")
        return FittedRule(rule, t, "image", ORACLE_LABEL, seen)
    if rule.rule == "oracle-image":
        masks = sum(1 for _ in test())
        if not masks:
            raise LookupError("no lesion image of the test split has a mask")
        return FittedRule(rule, None, "image", ORACLE_LABEL, masks)
    if isinstance(rule, FixedRule):
        return FittedRule(rule, rule.at, "image", "nothing: set beforehand", 0)
    if isinstance(rule, AreaPriorRule):
        return FittedRule(rule, None, "raw", "an area known beforehand", rule.masks_seen)
    if isinstance(rule, LEARNT):
        if learn is None:
            raise LookupError("there are no training images to learn from")
        return FittedRule(
            rule, None, "raw", "heatmaps of training images, no masks", 0, learnt=learn(rule)
        )
    return FittedRule(rule, None, "raw", "each heatmap by itself", 0)


def _best(pairs: Pairs, split: str, at_most: int | None = None, seed: int = 0) -> tuple[float, int]:
    """The threshold of the highest mean Dice, and on how many masks; one pair in memory a time."""
    chosen = _some(pairs, at_most, seed)
    seen = 0

    def normalised() -> Iterator[tuple[Any, Any]]:
        nonlocal seen
        for i, (heat, truth) in enumerate(pairs()):
            if chosen is None or i in chosen:
                seen += 1
                yield normalise(heat), truth

    one, other = tee(normalised())
    try:
        threshold, _ = best_threshold((h for h, _ in one), (t for _, t in other))
    except ValueError:
        if seen:
            raise
        raise LookupError(f"no lesion image of the {split} split has a mask") from None
    return threshold, seen


def _some(pairs: Pairs, at_most: int | None, seed: int) -> set[int] | None:
    """Which of the pairs are looked at; None for all."""
    if at_most is None:
        return None
    every = sum(1 for _ in pairs())
    return set(np.random.default_rng(seed).permutation(every)[:at_most].tolist())


def _searched(rule: SearchedRule, val: Pairs, val_images: Triples | None, seed: int) -> FittedRule:
    """The combination of the best mean Dice on validation lesions; of equal ones the first."""
    if val_images is None:
        raise ValueError("a search needs the validation images")
    tried = rule.candidates()
    fitted = [fit_rule(r, train=tuple, val=tuple, test=tuple) for _, r in tried]  # type: ignore[arg-type]
    chosen = _some(val, rule.max_masks, seed)
    total, seen, lesions = np.zeros(len(tried)), 0, 0
    for i, (heat, image, truth) in enumerate(val_images()):
        if chosen is not None and i not in chosen:
            continue
        seen += 1
        lesion = np.asarray(truth, dtype=bool)
        if lesion.any():
            lesions += 1
            total += [_dice(segment(f, heat, image), lesion) for f in fitted]
    if not lesions:
        raise LookupError("no lesion image of the validation split has a mask")
    mean = total / lesions
    best = int(mean.argmax())
    words = ", ".join(f"{name} {value:g}" for name, value in tried[best][0].items())
    return replace(
        fitted[best],
        chosen_on=f"masks of the validation split: {words}, of {len(tried)} that were tried",
        masks_seen=fitted[best].masks_seen + seen,
        search={
            "asked": rule.model_dump(mode="json"),
            "candidates": [
                c | {"dice": round(float(d), 6)} for (c, _), d in zip(tried, mean, strict=True)
            ],
        },
    )


def _dice(mask: Bools, lesion: Bools) -> float:
    return 2.0 * float((mask & lesion).sum()) / float(mask.sum() + lesion.sum())


def segment(
    fitted: FittedRule,
    heatmap: npt.ArrayLike,
    image: npt.ArrayLike | None = None,
    truth: npt.ArrayLike | None = None,
) -> Bools:
    """The mask of one image.

    Parameters
    ----------
    fitted : FittedRule
    heatmap : (M, N) array_like
        Raw heat.
    image : (M, N[, 3]) array_like, optional
        Needed by the rules of `ON_IMAGE`; ``area-prior`` looks for the body in it.
    truth : (M, N) array_like of bool, optional
        Needed by ``oracle-image``, and looked at by no other rule.

    Returns
    -------
    (M, N) ndarray of bool
        Empty for a flat heatmap.

    Raises
    ------
    ValueError
        If a rule lacks what it needs.
    """
    rule = fitted.rule
    heat = np.asarray(heatmap, dtype=np.float64)
    if is_flat(heat):
        return np.zeros(heat.shape, dtype=bool)
    if fitted.threshold is not None:
        at = fixed_threshold(fitted.threshold) if isinstance(rule, FixedRule) else fitted.threshold
        return apply_threshold(normalise(heat) if fitted.scale == "image" else heat, at)
    if isinstance(rule, OtsuRule):
        return apply_threshold(normalise(heat), otsu_threshold(heat))
    if isinstance(rule, QuantileRule):
        return apply_threshold(heat, quantile_threshold(heat, rule.q))
    if fitted.needs_image:
        if image is None:
            raise ValueError(f"the rule {rule.rule} needs the image")
        if isinstance(rule, LEARNT):
            if fitted.learnt is None:
                raise ValueError(f"the rule {rule.rule} has learnt nothing yet")
            return learnt_mask(rule, fitted.learnt, heat, image)
        return _on_image(rule, heat, image)
    if truth is None:
        raise ValueError(f"the rule {rule.rule} needs the true mask")
    return apply_threshold(heat, oracle_threshold(heat, truth))


def _on_image(rule: Rule, heat: npt.NDArray[np.float64], image: npt.ArrayLike) -> Bools:
    """The mask by a rule that looks at the image."""
    if isinstance(rule, AreaPriorRule):
        return area_prior_mask(heat, rule.area, body_region(image))
    if isinstance(rule, RandomWalkerRule):
        return random_walker_mask(heat, image, high=rule.high, low=rule.low, beta=rule.beta)
    if isinstance(rule, TwoToneRule):
        return two_tone_mask(heat, image, warm=rule.warm, blur=rule.blur)
    if isinstance(rule, GeodesicRule):
        return geodesic_mask(heat, image, high=rule.high, low=rule.low, edge=rule.edge)
    if isinstance(rule, SuperpixelRule):
        return superpixel_mask(
            heat, image, at=rule.at, count=rule.count, compactness=rule.compactness
        )
    assert isinstance(rule, CrfRule)
    return crf_mask(heat, image, at=rule.at, steps=rule.steps)
