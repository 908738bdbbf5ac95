"""The part of a heatmap's warm region that differs from its surroundings in brightness."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field

from weakseg.masks.checks import Bools, Floats, fraction
from weakseg.masks.rules.arguments import at_least
from weakseg.masks.rules.base import FittedRule
from weakseg.masks.rules.hot_box import in_hot_box
from weakseg.masks.rules.search import SearchedRule
from weakseg.masks.rules.tone_planes import EVEN, Planes, tone_of_planes
from weakseg.masks.screen import keep_large_parts
from weakseg.settings import Fraction

SMALLEST_PART = 0.1
"""Parts of a mask below this share of the largest are dropped."""


class TwoToneRule(SearchedRule):
    """The bright or the dark part of the heatmap's warm region, see `two_tone_mask`."""

    rule: Literal["two-tone"] = "two-tone"
    spoken = "the bright or dark part of its warm region"
    warm: Fraction = Field(0.35, description="share of the heatmap's maximum: below, no lesion")
    blur: float = Field(
        0.008, ge=0.0, le=0.1, description="sd of the image's smoothing, share of its longer side"
    )

    needs_image = True
    dims = (2, 3)
    in_parts = True

    def mask(self, fitted: FittedRule, heat: Floats, image: Any, truth: Any) -> Bools:
        return two_tone_mask(heat, image, warm=self.warm, blur=self.blur)


def two_tone_mask(
    heatmap: npt.ArrayLike, image: npt.ArrayLike, *, warm: float = 0.35, blur: float = 0.008
) -> Bools:
    """Split a heatmap's warm region into its bright and its dark part, and take the hotter one.

    A heatmap knows about where a lesion lies and not its outline; within the warm region the
    lesion and what surrounds it mostly differ in brightness. Which of the two is the lesion is
    for the heatmap to say, so that bright and dark lesions are found alike.

    Parameters
    ----------
    heatmap : (M, N) or (X, Y, Z) array_like
        Raw heat.
    image : (M, N[, C]) or (X, Y, Z[, C]) array_like
        The image that it belongs to.
    warm : float, optional
        Share of the heatmap's maximum above which the region is warm, in (0, 1).
    blur : float, optional
        Standard deviation of the Gaussian that smooths the image first, as a share of its longer
        side; of a volume within its slices.

    Returns
    -------
    (M, N) or (X, Y, Z) ndarray of bool
        Inside the warm region; the whole of it where the image is even there. Parts below a
        tenth of the largest are dropped, then holes filled, those of the warm region as well.
        Empty for a flat heatmap.

    Raises
    ------
    ValueError
        For shapes that differ, or parameters out of range.

    Notes
    -----
    The tones are parted by Otsu's threshold of the smoothed brightness within the region; the part
    of the higher mean heat is the lesion, of equally hot ones the bright one. That threshold is the
    middle of one of 256 bins, so that values within half a bin of it may fall on either side; one
    that lies on it is dark.
    """
    fraction("warm", warm)
    at_least(0, blur=blur)

    def mark(heat: Floats, grey: Floats, sd: Sequence[float]) -> Bools:
        chosen, _ = warm_tone(heat, grey, warm=warm, sd=sd)
        return keep_large_parts(chosen, SMALLEST_PART)

    def mark_planes(planes: Planes) -> Bools:
        chosen = tone_of_planes(planes, warm=warm, above=warm)
        return keep_large_parts(chosen, SMALLEST_PART)

    return in_hot_box(heatmap, image, mark, mark_planes, above=warm, blur=blur)


def warm_tone(
    heat: Floats, grey: Floats, *, warm: float, sd: Sequence[float]
) -> tuple[Bools, Bools]:
    """The tone of a lesion: what of the warm region is of it, and what of the whole image.

    Parameters
    ----------
    heat : (M, N) or (X, Y, Z) ndarray
        Over its maximum.
    grey : (M, N) or (X, Y, Z) ndarray
        The image's brightness.
    warm : float
        See `two_tone_mask`.
    sd : sequence of float
        Standard deviation of the image's smoothing along each axis.

    Returns
    -------
    inside : (M, N) ndarray of bool
        The warm region's part of the tone; all of it where the image is even there.
    tone : (M, N) ndarray of bool
        The same tone anywhere; nothing but ``inside`` where the image is even there.
    """
    from scipy import ndimage
    from skimage.filters import threshold_otsu

    region = heat > warm
    if not region.any():
        return region, region
    smooth = ndimage.gaussian_filter(grey, sd)
    values = smooth[region]
    if not np.ptp(values) > EVEN * np.abs(values).max():
        return region, region
    bright = smooth > threshold_otsu(values)
    light, dark = region & bright, region & ~bright
    # Otsu's threshold lies above the darkest value and below the brightest: neither is empty.
    if heat[light].mean() >= heat[dark].mean():
        return light, bright
    return dark, ~bright
