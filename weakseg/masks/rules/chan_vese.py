"""An active contour without edges, from a heatmap's warm region to what differs in its greys."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field

from weakseg.masks.checks import Bools, Floats
from weakseg.masks.contours import region_contour
from weakseg.masks.rules.arguments import at_least
from weakseg.masks.rules.base import FittedRule
from weakseg.masks.rules.seeded import SeededRule, seeds_of


class ChanVeseRule(SeededRule):
    """An active contour that parts the warm region by its mean greys, see `chan_vese_mask`."""

    rule: Literal["chan-vese"] = "chan-vese"
    spoken = "an active contour of Chan and Vese"
    steps: int = Field(60, ge=1, le=1000)
    smoothing: int = Field(1, ge=0, le=10, description="how often it is smoothed a step")

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
        Raw heat.
    image : (M, N[, C]) array_like
        The image that it belongs to.
    high, low : float, optional
        Shares of the heatmap's maximum, 0 < low < high < 1: the contour begins at their mean, and
        does not leave what is at least as hot as ``low``, whose mean grey stands for the outside.
    steps, smoothing : int, optional
        See `weakseg.masks.contours.region_contour`.

    Returns
    -------
    (M, N) ndarray of bool
        Every pixel above ``high`` is in it and none below ``low``. Where no pixel is below
        ``low``, the threshold is halfway between the two.

    Raises
    ------
    ValueError
        For shapes that differ, or parameters out of range.
    """
    at_least(1, steps=steps)
    at_least(0, smoothing=smoothing)
    seeds = seeds_of(heatmap, image, low=low, high=high)
    if not seeds.both:
        return seeds.halfway
    found = region_contour(
        seeds.grey, seeds.halfway, ~seeds.background, steps=steps, smoothing=smoothing
    )
    return np.asarray(found | seeds.lesion)
