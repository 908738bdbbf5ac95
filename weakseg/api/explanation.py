"""What a network shows of one image: heatmaps, masks of them, and how good these are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from weakseg.api.figure import Figure, panels, picture_html, table_html
from weakseg.api.preprocessing import Preprocessing
from weakseg.api.true_masks import read_truth
from weakseg.errors import ArgumentError, ConfigError, did_you_mean
from weakseg.masks.rules import RULES, Evidence, FittedRule, segment
from weakseg.report.pictures import contours, overlay, strip
from weakseg.scores import dice, score_case

OTSU = "otsu"


@dataclass(frozen=True, eq=False, repr=False)
class Explanation:
    """Where an image speaks for a class, by one heatmap method or several.

    Attributes
    ----------
    name : str
        Of the image: its file's, or its place among those that were handed over.
    image : (M, N) or (M, N, 3) ndarray
        As it was read.
    heatmaps : dict of str to (M, N) ndarray of float32
        Method → positive heat at the image's own resolution, not normalised: comparable between
        images of one network and method.
    raw : dict of str to (h, w) ndarray of float32
        Method → signed scores on the layer's own grid.
    target : tuple of str
        The classes that are explained, together.
    probabilities : Series
        Class → probability.
    layers : tuple of str
        The layers that the maps are of; of several the maps are fused. Empty for ``fullgrad``,
        ``occlusion`` and ``relevance``, which are of none.
    preprocessing : Preprocessing or None
        How the image was prepared; None for a tensor, which is taken as it is.
    """

    name: str
    image: NDArray[Any]
    heatmaps: Mapping[str, NDArray[np.float32]]
    raw: Mapping[str, NDArray[np.float32]]
    target: tuple[str, ...]
    probabilities: pd.Series
    layers: tuple[str, ...]
    preprocessing: Preprocessing | None = field(default=None)

    def __repr__(self) -> str:
        said = ", ".join(f"{t} {self.probabilities[t]:.3f}" for t in self.target)
        shape = "x".join(map(str, self.image.shape))
        return f"Explanation({self.name!r}, {shape}, {said}, {', '.join(self.heatmaps)})"

    @property
    def methods(self) -> list[str]:
        """The heatmap methods, in the order in which they were asked for."""
        return list(self.heatmaps)

    @property
    def heatmap(self) -> NDArray[np.float32]:
        """The first method's heat, (M, N)."""
        return self.heatmaps[self.methods[0]]

    @property
    def probability(self) -> float:
        """Of the classes that are explained, together."""
        return float(min(self.probabilities[list(self.target)].sum(), 1.0))

    def _heat(self, method: str | None) -> NDArray[np.float32]:
        if method is None:
            return self.heatmap
        if not isinstance(method, str) or method not in self.heatmaps:
            raise ConfigError(
                f"There is no heatmap by {method!r} here.",
                where="method",
                fix=did_you_mean(str(method), self.methods),
            )
        return self.heatmaps[method]

    def mask(
        self, rule: Any = OTSU, *, method: str | None = None, **settings: Any
    ) -> NDArray[np.bool_]:
        """The mask that a rule makes of the heat.

        Parameters
        ----------
        rule : str or float, optional
            A rule by name, see ``weakseg.masks.rules``; a number between 0 and 1 is a threshold on
            heat over its own maximum, as ``rule="fixed", at=0.4``.
        method : str, optional
            Of the heatmap; default: the first.
        **settings
            Of the rule, as in an experiment file, such as ``at`` of ``fixed``.

        Returns
        -------
        (M, N) ndarray of bool
            Empty where the heatmap is flat.

        Raises
        ------
        ConfigError
            For a rule or a setting that is not there, and for a rule that needs more than one
            image, or true masks.
        """
        heat = self._heat(method)
        return segment(_ready_rule(rule, settings), heat, self.image)

    def dice(
        self, truth: Any, rule: Any = OTSU, *, method: str | None = None, **settings: Any
    ) -> float:
        """How far a mask and the true one overlap: 1 where they are the same.

        Parameters
        ----------
        truth : (M, N) array_like, or str or Path of a mask
        rule, method, **settings
            See `mask`.
        """
        mask = self.mask(rule, method=method, **settings)
        return dice(mask, read_truth(truth, self.image.shape))

    def scores(self, truth: Any, rules: Any = ("fixed", OTSU)) -> pd.DataFrame:
        """Every score of every heatmap and some rules.

        Parameters
        ----------
        truth : (M, N) array_like, or str or Path of a mask
        rules : str, or sequence of str, optional
            See `mask`.

        Returns
        -------
        DataFrame
            A row a heatmap method and a rule; columns as in ``per_case.csv``.
        """
        true = read_truth(truth, self.image.shape)
        some = [rules] if isinstance(rules, str | int | float) else list(rules)
        rows = [
            {"method": m, "rule": str(r), **score_case(self.mask(r, method=m), true, heatmap=heat)}
            for m, heat in self.heatmaps.items()
            for r in some
        ]
        return pd.DataFrame(rows).set_index(["method", "rule"])

    def to_frame(self) -> pd.DataFrame:
        """Class, probability, and whether it is one of those that are explained."""
        return pd.DataFrame(
            {
                "class": self.probabilities.index,
                "probability": self.probabilities.to_numpy(),
                "explained": self.probabilities.index.isin(self.target),
            }
        )

    def plot(self, rule: Any = OTSU, *, truth: Any = None, **settings: Any) -> Figure:
        """The image, and every heatmap over it with the outline of its mask.

        Parameters
        ----------
        rule : str, float or None, optional
            See `mask`; None: no outlines.
        truth : (M, N) array_like, or str or Path of a mask, optional
            Outlined in light blue.

        Returns
        -------
        Figure
            Of matplotlib; notebooks show it, ``savefig`` writes it.
        """
        true = None if truth is None else read_truth(truth, self.image.shape)
        pictures = [(self.name, contours(self.image, truth=true, size=320))]
        for method, heat in self.heatmaps.items():
            mask = None if rule is None else self.mask(rule, method=method, **settings)
            pictures.append((method, overlay(self.image, heat, mask, true, size=320)))
        return panels(pictures, f"{' or '.join(self.target)}: {self.probability:.3f}")

    def _repr_html_(self) -> str:
        heats = [overlay(self.image, h, self.mask(method=m)) for m, h in self.heatmaps.items()]
        told = f"{self.name}: {' or '.join(self.target)} {self.probability:.3f}"
        picture = picture_html(
            strip([contours(self.image), *heats]), f"{told} ({', '.join(self.methods)})"
        )
        best = self.to_frame().sort_values("probability", ascending=False).head(5)
        return picture + table_html(best.set_index("class"))


def _ready_rule(rule: Any, settings: Mapping[str, Any]) -> FittedRule:
    """A rule that one image and its heatmap are enough for.

    Raises
    ------
    ConfigError
    """
    from pydantic import ValidationError

    if isinstance(rule, int | float | np.number) and not isinstance(rule, bool):
        rule, settings = "fixed", {**settings, "at": float(rule)}
    if not isinstance(rule, str) or rule not in RULES:
        raise ConfigError(
            f"There is no rule {rule!r}.", where="rule", fix=did_you_mean(str(rule), RULES)
        )
    try:
        made = RULES[rule](**settings)
    except (ValidationError, TypeError) as e:
        raise ConfigError(
            f"The settings of the rule {rule} are not right.",
            where="rule",
            found=_problems(e),
            expected=_settings_of(rule),
        ) from None
    try:
        if made.needs_truth or made.oracle or made.trainable:
            raise LookupError
        return made.fit(Evidence(train=_nothing, val=_nothing, test=_nothing))
    except LookupError:
        free = ", ".join(rules_of_one_image())
        raise ConfigError(
            f"The rule {rule} needs more than one image: heatmaps or true masks of a set.",
            where="rule",
            fix=f"choose one of: {free}; or segment a set with weakseg.WeakSegmenter",
        ) from None


def _nothing() -> Sequence[Any]:
    raise LookupError


def rules_of_one_image() -> list[str]:
    """The rules that make a mask of one heatmap, without a set."""
    found = []
    for name, kind in RULES.items():
        rule = kind()  # type: ignore[call-arg]
        if rule.needs_truth or rule.oracle or rule.trainable:
            continue
        try:
            rule.fit(Evidence(train=_nothing, val=_nothing, test=_nothing))
        except LookupError:
            continue
        found.append(name)
    return found


def _problems(e: Exception) -> str:
    from pydantic import ValidationError

    if not isinstance(e, ValidationError):
        return str(e)
    return "; ".join(f"{'.'.join(map(str, p['loc']))}: {p['msg']}" for p in e.errors()[:3])


def _settings_of(rule: str) -> str:
    own = [k for k in RULES[rule].model_fields if k != "rule"]
    return f"of {rule}: {', '.join(own)}" if own else f"{rule} has no settings"


def check_names(name: str, given: Any, known: Sequence[str]) -> list[str]:
    """Names of one or several, each of which is known.

    Raises
    ------
    ConfigError, ArgumentError
    """
    some = [given] if isinstance(given, str) else given
    if not isinstance(some, Sequence) or isinstance(some, bytes) or not len(some):
        raise ArgumentError(
            f"{name} is neither a name nor several.",
            where=name,
            found=f"{given!r}"[:80],
            expected=f"one of {', '.join(known)}, or a list of them",
        )
    for one in some:
        if not isinstance(one, str) or one not in known:
            raise ConfigError(
                f"There is no {name} {one!r}.", where=name, fix=did_you_mean(str(one), known)
            )
    return list(dict.fromkeys(some))
