"""Masks of whole superpixels: what looks alike is marked alike."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field

from weakseg.masks.checks import Bools, Floats, fraction
from weakseg.masks.region import unit_range
from weakseg.masks.rules.arguments import at_least, heat_and_grey, positive
from weakseg.masks.rules.base import FittedRule
from weakseg.masks.rules.search import SearchedRule
from weakseg.masks.superpixels import part_means, slic_parts
from weakseg.settings import Fraction


class SuperpixelRule(SearchedRule):
    """Whole superpixels of the image whose mean heat is high, see `superpixel_mask`."""

    rule: Literal["superpixel"] = "superpixel"
    spoken = "superpixels"
    at: Fraction = Field(0.5, description="share of the hottest superpixel's mean heat")
    count: int = Field(300, ge=2, le=100_000, description="how many superpixels an image has")
    compactness: float = Field(0.1, gt=0.0, description="space against grey values, see SLIC")

    needs_image = True

    def mask(self, fitted: FittedRule, heat: Floats, image: Any, truth: Any) -> Bools:
        return superpixel_mask(
            heat, image, at=self.at, count=self.count, compactness=self.compactness
        )


def superpixel_mask(
    heatmap: npt.ArrayLike,
    image: npt.ArrayLike,
    *,
    at: float = 0.5,
    count: int = 300,
    compactness: float = 0.1,
) -> Bools:
    """Mark the superpixels of an image that are hot throughout.

    Parameters
    ----------
    heatmap : (M, N) array_like
        Raw heat.
    image : (M, N[, C]) array_like
        The image that it belongs to.
    at : float, optional
        A superpixel is marked when its mean heat is above this share of the hottest one's, in
        (0, 1).
    count : int, optional
        About how many superpixels the image is divided into.
    compactness : float, optional
        How much distance counts beside grey values in [0, 1]; higher makes squarer superpixels.

    Returns
    -------
    (M, N) ndarray of bool
        Empty for a flat heatmap.

    Raises
    ------
    ValueError
        For shapes that differ, or parameters out of range.

    References
    ----------
    Achanta et al., "SLIC superpixels compared to state-of-the-art superpixel methods", IEEE TPAMI
    34(11), 2012, by scikit-image.
    """
    fraction("at", at)
    at_least(2, count=count)
    positive(compactness=compactness)
    heat, grey = heat_and_grey(heatmap, image)
    if not heat.any():
        return np.zeros(heat.shape, dtype=bool)
    parts = slic_parts(unit_range(grey), count=count, compactness=compactness)
    means = part_means(parts, heat)
    return np.asarray((means > at * means.max())[parts])
