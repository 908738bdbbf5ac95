"""The watershed of an image's edges, flooded from the sure parts of a heatmap."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field

from weakseg.masks.checks import Bools, Floats
from weakseg.masks.rules.arguments import at_least
from weakseg.masks.rules.base import FittedRule
from weakseg.masks.rules.seeded import SeededRule, seeds_of, slope, smoothed


class WatershedRule(SeededRule):
    """What is flooded from the lesion's sure parts before the background's flood meets it, see
    `watershed_mask`."""

    rule: Literal["watershed"] = "watershed"
    spoken = "the watershed"
    blur: float = Field(
        0.008, ge=0.0, le=0.1, description="sd of the image's smoothing, share of its longer side"
    )

    dims = (2, 3)
    by_default = False

    def mask(self, fitted: FittedRule, heat: Floats, image: Any, truth: Any) -> Bools:
        return watershed_mask(heat, image, high=self.high, low=self.low, blur=self.blur)


def watershed_mask(
    heatmap: npt.ArrayLike,
    image: npt.ArrayLike,
    *,
    high: float = 0.7,
    low: float = 0.3,
    blur: float = 0.008,
) -> Bools:
    """Flood the image's slopes from the sure parts: lesion and background meet on an edge.

    Parameters
    ----------
    heatmap : (M, N) or (X, Y, Z) array_like
        Raw heat.
    image : (M, N[, C]) or (X, Y, Z[, C]) array_like
        The image that it belongs to.
    high, low : float, optional
        Shares of the heatmap's maximum, 0 < low < high < 1.
    blur : float, optional
        Standard deviation of the image's smoothing, as a share of its longer side; of a volume
        within its slices.

    Returns
    -------
    (M, N) or (X, Y, Z) ndarray of bool
        Every pixel above ``high`` is in it and none below ``low``. Where no pixel is below
        ``low``, the threshold is halfway between the two.

    Raises
    ------
    ValueError
        For shapes that differ, or parameters out of range.

    References
    ----------
    Meyer, Beucher, "Morphological segmentation", J. Visual Communication and Image Representation
    1(1), 1990.
    """
    from skimage.segmentation import watershed

    at_least(0, blur=blur)
    seeds = seeds_of(heatmap, image, low=low, high=high)
    if not seeds.both:
        return seeds.halfway
    markers = seeds.lesion + 2 * seeds.background.astype(np.int32)
    return np.asarray(watershed(slope(smoothed(seeds.grey, blur)), markers) == 1)
