"""A geodesic active contour, blown up from a heatmap's sure parts until it meets edges."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from weakseg.masks.checks import Bools, Floats
from weakseg.masks.contours import edge_contour
from weakseg.masks.rules.arguments import at_least
from weakseg.masks.rules.base import FittedRule
from weakseg.masks.rules.seeded import (
    Blur,
    SeededRule,
    Seeds,
    Smoothing,
    Steps,
    from_seeds,
    slope,
    smoothed,
)

SHARPNESS = 100.0
"""How much an edge counts, as scikit-image's `inverse_gaussian_gradient` has it."""
EDGES = 40
"""Per cent of the image that count as edges, as of scikit-image's contour."""


class SnakeRule(SeededRule):
    """A contour that grows from the sure parts to the image's edges, see `snake_mask`."""

    rule: Literal["snake"] = "snake"
    spoken = "a geodesic active contour"
    steps: Steps = 60
    smoothing: Smoothing = 1
    blur: Blur = 0.008

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
    image : (M, N[, C]) array_like
    high, low : float, optional
        See `weakseg.masks.rules.seeded.seeds_of`: the contour begins where the heat is
        above ``high``, and does not leave what is at least as hot as ``low``.
    steps, smoothing : int, optional
        See `weakseg.masks.contours.edge_contour`.
    blur : float, optional
        See `weakseg.masks.rules.seeded.smoothed`.

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
    at_least(0, smoothing=smoothing, blur=blur)

    def grow(seeds: Seeds) -> Bools:
        calm = 1 / np.sqrt(1 + SHARPNESS * slope(smoothed(seeds.grey, blur)))
        return edge_contour(
            calm,
            seeds.lesion,
            ~seeds.background,
            steps=steps,
            smoothing=smoothing,
            stop=float(np.percentile(calm, EDGES)),
        )

    return from_seeds(grow, heatmap, image, low=low, high=high)
