"""Region growing as it is told in textbooks: from seeds to all that is connected and as bright."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field

from weakseg.masks.checks import Bools, Floats
from weakseg.masks.rules.arguments import at_least
from weakseg.masks.rules.base import FittedRule
from weakseg.masks.rules.seeded import SeededRule, seeds_of, smoothed


class RegionGrowingRule(SeededRule):
    """Grown from the heatmap's confident parts to what is connected and as bright as they are, see
    `region_growing_mask`."""

    rule: Literal["region-growing"] = "region-growing"
    spoken = "region growing"
    tolerance: float = Field(
        0.1, ge=0.0, le=1.0, description="of grey, share of the image's full range"
    )
    blur: float = Field(
        0.008, ge=0.0, le=0.1, description="sd of the image's smoothing, share of its longer side"
    )

    dims = (2, 3)
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
        Raw heat.
    image : (M, N[, C]) or (X, Y, Z[, C]) array_like
        The image that it belongs to.
    high, low : float, optional
        Shares of the heatmap's maximum, 0 < low < high < 1.
    tolerance : float, optional
        How far a grey may be, at most, from the median of the connected seeds that it grows from;
        share of the image's full range.
    blur : float, optional
        Standard deviation of the image's smoothing, as a share of its longer side; of a volume
        within its slices.

    Returns
    -------
    (M, N) or (X, Y, Z) ndarray of bool
        Every pixel above ``high`` is in it and none below ``low``, which the growth does not
        cross; connected by faces. Where no pixel is below ``low``, the threshold is halfway between
        the two.

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
    seeds = seeds_of(heatmap, image, low=low, high=high)
    if not seeds.both:
        return seeds.halfway
    grey = smoothed(seeds.grey, blur)
    parts, count = ndimage.label(seeds.lesion)
    grown = seeds.lesion.copy()
    for k, tone in enumerate(ndimage.median(grey, parts, np.arange(1, count + 1)), start=1):
        alike = (np.abs(grey - tone) <= tolerance) & ~seeds.background | (parts == k)
        labels, _ = ndimage.label(alike)
        grown |= np.isin(labels, labels[parts == k])
    return grown
