"""The contract of a rule: settings from the experiment file, and a mask of heat and image.

A rule that needs something of the whole set, a threshold or what a small network learns, is
*fitted* first. What it saw is recorded with it, above all how many masks. One file a rule;
`weakseg.masks.rules.registry` lists them.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt

from weakseg.masks.checks import Bools, Floats, finite
from weakseg.masks.thresholds import apply_threshold, is_flat, normalised_mask
from weakseg.settings import Section

Heats = Callable[[], Iterable[npt.ArrayLike]]
Pairs = Callable[[], Iterable[tuple[npt.ArrayLike, npt.ArrayLike]]]
Triples = Callable[[], Iterable[tuple[npt.ArrayLike, npt.ArrayLike, npt.ArrayLike]]]


@dataclass(frozen=True, eq=False)
class TrainedState:
    """What a rule was trained to, and the network by which it sees an image.

    Attributes
    ----------
    arrays : mapping of str to ndarray
        All that training left, as it is stored.
    features : callable
        Image (M, N[, 3]) → (h, w, D) ndarray of float32: what the network says of the places of a
        coarse grid that covers the image.
    """

    arrays: Mapping[str, npt.NDArray[Any]]
    features: Callable[[npt.ArrayLike], npt.NDArray[np.float32]]


@dataclass(frozen=True)
class Evidence:
    """What a rule may look at while it is fitted; nothing is read before it is called.

    Attributes
    ----------
    train : callable
        Gives the raw heatmaps, (M, N), of training images with a lesion label, no masks.
    val, test : callable
        Give pairs of raw heatmap and true mask, (M, N), of images with a lesion and a mask.
    val_images : callable, optional
        As ``val``, with the image between the two: (M, N[, 3]). For a search.
    seed : int
        Of the choice of masks where ``max_masks`` limits them.
    trainer : callable, optional
        Trains a rule on training images and their heatmaps, or their masks where it asks for them.
    training_masks : int
        How many masks of training images a rule is trained on that asks for them.
    """

    train: Heats
    val: Pairs
    test: Pairs
    val_images: Triples | None = None
    seed: int = 0
    trainer: Callable[[Any], TrainedState] | None = None
    training_masks: int = 0


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
        Of a search: ``configured``, the rule as configured, and ``candidates``, each with its
        parameters and its mean ``dice``.
    trained : TrainedState, optional
        Of rules that are trained.
    validation : tuple of int
        Which of the validation split's pairs it looked at, by their place in `Evidence.val`.
    training : bool
        Whether it was trained on the masks of training images.
    """

    rule: Rule
    threshold: float | None
    scale: Literal["image", "raw"]
    chosen_on: str
    masks_seen: int
    search: Mapping[str, Any] | None = None
    trained: TrainedState | None = field(default=None, compare=False)
    validation: tuple[int, ...] = field(default=(), compare=False)
    training: bool = field(default=False, compare=False)

    @property
    def name(self) -> str:
        """The rule's name."""
        return self.rule.rule

    @property
    def needs_image(self) -> bool:
        """Whether `segment` looks at the image."""
        return self.rule.needs_image

    @property
    def oracle(self) -> bool:
        """Whether it is an upper bound and no result."""
        return self.rule.oracle

    def to_json(self) -> dict[str, Any]:
        """As ``threshold.json`` holds it; what training left lies beside it."""
        return {
            "rule": self.rule.model_dump(mode="json"),
            "threshold": self.threshold,
            "scale": self.scale,
            "chosen_on": self.chosen_on,
            "masks_seen": self.masks_seen,
            "upper_bound": self.oracle,
            **({"elsewhere": [self.rule.elsewhere]} if self.rule.elsewhere else {}),
        } | ({} if self.search is None else {"search": dict(self.search)})


class Rule(Section, ABC):
    """A way from heat to a mask.

    Attributes
    ----------
    rule : str
        The name, as the experiment says it.
    spoken : str
        What people say behind "with" of a heatmap that the rule makes a mask of.
    needs_image, needs_truth : bool
        Whether `mask` looks at the image, or at the true mask.
    oracle : bool
        Whether it is an upper bound: chosen on the masks that score it.
    by_default : bool
        Whether an experiment that names no rule takes it.
    dims : tuple of int
        Axes of space of the heat that it takes: 2 of images, 3 of whole volumes.
    trainable : bool
        Whether it is trained on the training images' heatmaps, or on their true masks where it is
        `taught_by_masks`; see `weakseg.methods.trainable`.
    in_parts : bool
        Whether `mask` takes heat of any floating type, of which it makes doubles a part at a time:
        those of a whole large volume take memory.
    elsewhere : str
        A network that it asks and that was trained on masks of other sets; empty for none.
    """

    rule: str
    spoken: ClassVar[str]
    needs_image: ClassVar[bool] = False
    needs_truth: ClassVar[bool] = False
    oracle: ClassVar[bool] = False
    by_default: ClassVar[bool] = True
    trainable: ClassVar[bool] = False
    dims: ClassVar[tuple[int, ...]] = (2,)
    in_parts: ClassVar[bool] = False
    elsewhere: ClassVar[str] = ""

    @property
    def draws(self) -> bool:
        """Whether the experiment's seed has a part in it: it is trained, or takes some masks."""
        return self.trainable or getattr(self, "max_masks", None) is not None

    @property
    def taught_by_masks(self) -> bool:
        """Whether it is trained on true masks of training images, which it counts."""
        return False

    def require(self) -> None:
        """Refuse the rule where a package that it needs is not installed.

        Raises
        ------
        ConfigError
            With the command that installs it.
        """
        return

    def fit(self, evidence: Evidence) -> FittedRule:
        """Choose what the rule needs for the whole set.

        Raises
        ------
        LookupError
            If it needs masks or heatmaps and there are none; the message says which.
        """
        return FittedRule(self, None, "raw", "each heatmap by itself", 0)

    @abstractmethod
    def mask(
        self,
        fitted: FittedRule,
        heat: Floats,
        image: npt.ArrayLike | None,
        truth: npt.ArrayLike | None,
    ) -> Bools:
        """The mask, (M, N), of raw heat (M, N) that is not flat.

        ``image`` and ``truth`` are there where ``needs_image`` and ``needs_truth`` say so.
        """


class SetThresholdRule(Rule):
    """A rule with one threshold for the whole set."""

    in_parts = True

    def mask(self, fitted: FittedRule, heat: Floats, image: Any, truth: Any) -> Bools:
        assert fitted.threshold is not None
        above = normalised_mask if fitted.scale == "image" else apply_threshold
        return above(heat, fitted.threshold)


def segment(
    fitted: FittedRule,
    heatmap: npt.ArrayLike,
    image: npt.ArrayLike | None = None,
    truth: npt.ArrayLike | None = None,
) -> Bools:
    """The mask of one image, or of a whole volume by rules that take one.

    Parameters
    ----------
    fitted : FittedRule
    heatmap : (M, N) or (X, Y, Z) array_like
        Raw heat.
    image : (M, N[, 3]) or (X, Y, Z) array_like, optional
        For rules that need it; ``area-prior`` looks for the body in it.
    truth : (M, N) or (X, Y, Z) array_like of bool, optional
        Needed by ``oracle-image``, and looked at by no other rule.

    Returns
    -------
    (M, N) or (X, Y, Z) ndarray of bool
        Empty for a flat heatmap.

    Raises
    ------
    ValueError
        If a rule lacks what it needs, or takes no volume, or the heatmap or the image holds NaN or
        infinity.
    """
    rule = fitted.rule
    if np.ndim(heatmap) not in rule.dims:
        able = " or ".join(map(str, rule.dims))
        raise ValueError(f"{rule.rule} takes heat of {able} axes, got {np.ndim(heatmap)}")
    heat = finite("heatmap", np.asarray(heatmap))
    if not rule.in_parts or heat.dtype.kind != "f":
        heat = heat.astype(np.float64, copy=False)
    if is_flat(heat):
        return np.zeros(heat.shape, dtype=bool)
    if rule.needs_image:
        if image is None:
            raise ValueError(f"the rule {rule.rule} needs the image")
        finite("image", np.asarray(image))
    if rule.needs_truth and truth is None:
        raise ValueError(f"the rule {rule.rule} needs the true mask")
    if rule.trainable and fitted.trained is None:
        raise ValueError(f"the rule {rule.rule} is not trained yet")
    return rule.mask(fitted, heat, image, truth)
