"""An active contour without edges, from a heatmap's warm region to what differs in its greys."""

from __future__ import annotations

from typing import Any, Literal

import numpy.typing as npt

from weakseg.masks.checks import Bools, Floats
from weakseg.masks.contours import region_contour
from weakseg.masks.rules.arguments import at_least
from weakseg.masks.rules.base import FittedRule
from weakseg.masks.rules.seeded import SeededRule, Seeds, Smoothing, Steps, from_seeds


class ChanVeseRule(SeededRule):
    """An active contour that parts the warm region by its mean greys, see `chan_vese_mask`."""

    rule: Literal["chan-vese"] = "chan-vese"
    spoken = "an active contour of Chan and Vese"
    steps: Steps = 60
    smoothing: Smoothing = 1

    by_default = False

    def mask(self, fitted: FittedRule, heat: Floats, image: Any, truth: Any) -> Bools:
        return chan_vese_mask(
            heat,
            image,
            high=self.high,
            low=self.low,
            steps=self.steps,
            smoothing=self.smoothing,
        )


def chan_vese_mask(
    heatmap: npt.ArrayLike,
    image: npt.ArrayLike,
    *,
    high: float = 0.7,
    low: float = 0.3,
    steps: int = 60,
    smoothing: int = 1,
) -> Bools:
    """Move a contour from halfway between the sure parts until inside and outside are even.

    Parameters
    ----------
    heatmap : (M, N) array_like
    image : (M, N[, C]) array_like
    high, low : float, optional
        See `weakseg.masks.rules.seeded.seeds_of`: the contour begins at their mean, and
        does not leave what is at least as hot as ``low``, whose mean grey stands for the outside.
    steps, smoothing : int, optional
        See `weakseg.masks.contours.region_contour`.

    Returns
    -------
    (M, N) ndarray of bool
        See `weakseg.masks.rules.seeded.from_seeds`.

    Raises
    ------
    ValueError
        For shapes that differ, or parameters out of range.
    """
    at_least(1, steps=steps)
    at_least(0, smoothing=smoothing)

    def grow(seeds: Seeds) -> Bools:
        return region_contour(
            seeds.grey, seeds.halfway, ~seeds.background, steps=steps, smoothing=smoothing
        )

    return from_seeds(grow, heatmap, image, low=low, high=high)
