"""A geodesic active contour, blown up from a heatmap's sure parts until it meets edges."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field

from weakseg.masks.checks import Bools, Floats
from weakseg.masks.contours import edge_contour
from weakseg.masks.rules.arguments import at_least
from weakseg.masks.rules.base import FittedRule
from weakseg.masks.rules.seeded import SeededRule, seeds_of, slope, smoothed

SHARPNESS = 100.0
"""How much an edge counts, as scikit-image's `inverse_gaussian_gradient` has it."""
EDGES = 40
"""Per cent of the image that count as edges, as of scikit-image's contour."""


class SnakeRule(SeededRule):
    """A contour that grows from the sure parts to the image's edges, see `snake_mask`."""

    rule: Literal["snake"] = "snake"
    spoken = "a geodesic active contour"
    steps: int = Field(60, ge=1, le=1000)
    smoothing: int = Field(1, ge=0, le=10, description="how often it is smoothed a step")
    blur: float = Field(
        0.008, ge=0.0, le=0.1, description="sd of the image's smoothing, share of its longer side"
    )

    by_default = False

    def mask(self, fitted: FittedRule, heat: Floats, image: Any, truth: Any) -> Bools:
        return snake_mask(
            heat,
            image,
            high=self.high,
            low=self.low,
            steps=self.steps,
            smoothing=self.smoothing,
            blur=self.blur,
        )


def snake_mask(
    heatmap: npt.ArrayLike,
    image: npt.ArrayLike,
    *,
    high: float = 0.7,
    low: float = 0.3,
    steps: int = 60,
    smoothing: int = 1,
    blur: float = 0.008,
) -> Bools:
    """Blow up a contour from the sure parts until it meets the image's edges.

    Parameters
    ----------
    heatmap : (M, N) array_like
        Raw heat.
    image : (M, N[, C]) array_like
        The image that it belongs to.
    high, low : float, optional
        Shares of the heatmap's maximum, 0 < low < high < 1: the contour begins where the heat is
        above ``high``, and does not leave what is at least as hot as ``low``.
    steps, smoothing : int, optional
        See `weakseg.masks.contours.edge_contour`.
    blur : float, optional
        Standard deviation of the image's smoothing, as a share of its longer side.

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
    at_least(0, smoothing=smoothing, blur=blur)
    seeds = seeds_of(heatmap, image, low=low, high=high)
    if not seeds.both:
        return seeds.halfway
    calm = 1 / np.sqrt(1 + SHARPNESS * slope(smoothed(seeds.grey, blur)))
    found = edge_contour(
        calm,
        seeds.lesion,
        ~seeds.background,
        steps=steps,
        smoothing=smoothing,
        stop=float(np.percentile(calm, EDGES)),
    )
    return np.asarray(found | seeds.lesion)
