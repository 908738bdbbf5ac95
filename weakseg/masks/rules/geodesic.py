"""From the sure parts of a heatmap to all that is nearer to them than to the background."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field

from weakseg.masks.checks import Bools, Floats
from weakseg.masks.rules.arguments import at_least
from weakseg.masks.rules.base import FittedRule
from weakseg.masks.rules.seeded import SeededRule, Seeds, from_seeds, slope


class GeodesicRule(SeededRule):
    """Grown from the heatmap's confident parts to what is nearer to them, by way of the image, than
    to the background, see `geodesic_mask`."""

    rule: Literal["geodesic"] = "geodesic"
    spoken = "geodesic growing"
    edge: float = Field(20.0, ge=0.0, description="cost of a step across the full range of grey")

    dims = (2, 3)
    in_parts = True

    def mask(self, fitted: FittedRule, heat: Floats, image: Any, truth: Any) -> Bools:
        return geodesic_mask(heat, image, high=self.high, low=self.low, edge=self.edge)


def geodesic_mask(
    heatmap: npt.ArrayLike,
    image: npt.ArrayLike,
    *,
    high: float = 0.7,
    low: float = 0.3,
    edge: float = 20.0,
) -> Bools:
    """Grow a mask from the confident parts of a heatmap along the shortest ways over the image.

    Pixels above ``high`` of the heatmap's maximum are lesion, those below ``low`` background. Each
    other pixel belongs to the kind that is nearer, where a step costs 1 and ``edge`` times the
    image's gradient, so that the way across an edge is long.

    Parameters
    ----------
    heatmap : (M, N) or (X, Y, Z) array_like
    image : (M, N[, C]) or (X, Y, Z[, C]) array_like
    high, low : float, optional
        See `weakseg.masks.rules.seeded.seeds_of`.
    edge : float, optional
        Cost of a step across the image's full range of grey values; 0 makes the image irrelevant.

    Returns
    -------
    (M, N) or (X, Y, Z) ndarray of bool
        See `weakseg.masks.rules.seeded.from_seeds`.

    Raises
    ------
    ValueError
        For shapes that differ, or parameters out of range.

    References
    ----------
    Bai, Sapiro, "A geodesic framework for fast interactive image and video segmentation and
    matting", ICCV 2007.
    """
    from skimage.graph import MCP_Geometric

    at_least(0, edge=edge)

    def grow(seeds: Seeds) -> Bools:
        cost = 1 + edge * slope(seeds.grey)
        to_lesion, _ = MCP_Geometric(cost).find_costs(np.argwhere(seeds.lesion))
        to_background, _ = MCP_Geometric(cost).find_costs(np.argwhere(seeds.background))
        return np.asarray(to_lesion < to_background)

    return from_seeds(grow, heatmap, image, low=low, high=high)
