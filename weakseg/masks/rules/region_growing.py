"""Region growing as it is told in textbooks: from seeds to all that is connected and as bright."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field

from weakseg.masks.checks import Bools, Floats
from weakseg.masks.rules.arguments import at_least
from weakseg.masks.rules.base import FittedRule
from weakseg.masks.rules.seeded import Blur, SeededRule, Seeds, from_seeds, smoothed


class RegionGrowingRule(SeededRule):
    """Grown from the heatmap's confident parts to what is connected and as bright as they are, see
    `region_growing_mask`."""

    rule: Literal["region-growing"] = "region-growing"
    spoken = "region growing"
    tolerance: float = Field(
        0.1, ge=0.0, le=1.0, description="of grey, share of the image's full range"
    )
    blur: Blur = 0.008

    dims = (2, 3)
    in_parts = True
    by_default = False

    def mask(self, fitted: FittedRule, heat: Floats, image: Any, truth: Any) -> Bools:
        return region_growing_mask(
            heat, image, high=self.high, low=self.low, tolerance=self.tolerance, blur=self.blur
        )


def region_growing_mask(
    heatmap: npt.ArrayLike,
    image: npt.ArrayLike,
    *,
    high: float = 0.7,
    low: float = 0.3,
    tolerance: float = 0.1,
    blur: float = 0.008,
) -> Bools:
    """Grow a mask from the confident parts of a heatmap to what is connected and as bright.

    Parameters
    ----------
    heatmap : (M, N) or (X, Y, Z) array_like
    image : (M, N[, C]) or (X, Y, Z[, C]) array_like
    high, low : float, optional
        See `weakseg.masks.rules.seeded.seeds_of`.
    tolerance : float, optional
        How far a grey may be, at most, from the median of the connected seeds that it grows from;
        share of the image's full range.
    blur : float, optional
        See `weakseg.masks.rules.seeded.smoothed`.

    Returns
    -------
    (M, N) or (X, Y, Z) ndarray of bool
        See `weakseg.masks.rules.seeded.from_seeds`; what is below ``low`` the growth does not
        cross. Connected by faces.

    Raises
    ------
    ValueError
        For shapes that differ, or parameters out of range.

    References
    ----------
    Adams, Bischof, "Seeded region growing", IEEE TPAMI 16(6), 1994.
    """
    from scipy import ndimage

    at_least(0, tolerance=tolerance, blur=blur)

    def grow(seeds: Seeds) -> Bools:
        grey = smoothed(seeds.grey, blur, seeds.longer)
        parts, count = ndimage.label(seeds.lesion)
        grown = seeds.lesion.copy()
        for k, tone in enumerate(ndimage.median(grey, parts, np.arange(1, count + 1)), start=1):
            alike = (np.abs(grey - tone) <= tolerance) & ~seeds.background | (parts == k)
            labels, found = ndimage.label(alike)
            chosen = np.zeros(found + 1, dtype=bool)
            chosen[labels[parts == k]] = True
            grown |= chosen[labels]
        return grown

    return from_seeds(grow, heatmap, image, low=low, high=high, blur=blur)
