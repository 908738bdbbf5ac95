"""The watershed of an image's edges, flooded from the sure parts of a heatmap."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from weakseg.masks.checks import Bools, Floats
from weakseg.masks.rules.arguments import at_least
from weakseg.masks.rules.base import FittedRule
from weakseg.masks.rules.seeded import Blur, SeededRule, Seeds, from_seeds, slope, smoothed


class WatershedRule(SeededRule):
    """What is flooded from the lesion's sure parts before the background's flood meets it, see
    `watershed_mask`."""

    rule: Literal["watershed"] = "watershed"
    spoken = "the watershed"
    blur: Blur = 0.008

    dims = (2, 3)
    in_parts = True
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
    image : (M, N[, C]) or (X, Y, Z[, C]) array_like
    high, low : float, optional
        See `weakseg.masks.rules.seeded.seeds_of`.
    blur : float, optional
        See `weakseg.masks.rules.seeded.smoothed`.

    Returns
    -------
    (M, N) or (X, Y, Z) ndarray of bool
        See `weakseg.masks.rules.seeded.from_seeds`. Where the image is even, floods of equally
        high ground meet as it happens, and of a large volume not as in a small one.

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

    def grow(seeds: Seeds) -> Bools:
        markers = seeds.lesion + 2 * seeds.background.astype(np.int32)
        return np.asarray(watershed(slope(smoothed(seeds.grey, blur, seeds.longer)), markers) == 1)

    return from_seeds(grow, heatmap, image, low=low, high=high, blur=blur)
