"""Rules that grow a mask from the sure parts of a heatmap, and what they share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, NamedTuple

import numpy as np
import numpy.typing as npt
from pydantic import Field, model_validator

from weakseg.masks.checks import Bools, Floats
from weakseg.masks.region import unit_range
from weakseg.masks.rules.arguments import heat_and_grey, in_order
from weakseg.masks.rules.hot_box import smoothing
from weakseg.masks.rules.search import SearchedRule, low_below_high
from weakseg.settings import Fraction

Steps = Annotated[int, Field(ge=1, le=1000)]
"""Of a contour that moves."""

Smoothing = Annotated[int, Field(ge=0, le=10, description="how often it is smoothed a step")]
"""Of a contour that moves."""

Blur = Annotated[
    float,
    Field(ge=0.0, le=0.1, description="sd of the image's smoothing, share of its longer side"),
]
"""See `smoothed`."""


class SeededRule(SearchedRule):
    """A rule that leaves open only what is neither sure lesion nor sure background."""

    high: Fraction = Field(0.7, description="above this share of its maximum: lesion")
    low: Fraction = Field(0.3, description="below: background")

    needs_image = True

    _low_is_lower = model_validator(mode="after")(low_below_high)


class Seeds(NamedTuple):
    """What of an image is sure.

    Attributes
    ----------
    grey : (M, N) ndarray of float64
        The image's grey values, from 0 to 1.
    lesion, background : (M, N) ndarray of bool
    halfway : (M, N) ndarray of bool
        Above the mean of the two thresholds: the mask where one kind has no seed.
    """

    grey: Floats
    lesion: Bools
    background: Bools
    halfway: Bools

    @property
    def both(self) -> bool:
        """Whether there is a seed of either kind."""
        return bool(self.lesion.any() and self.background.any())


def seeds_of(heatmap: npt.ArrayLike, image: npt.ArrayLike, *, low: float, high: float) -> Seeds:
    """The sure parts: above ``high`` of the heatmap's maximum lesion, below ``low`` background.

    Parameters
    ----------
    heatmap : (M, N) or (X, Y, Z) array_like
        Raw heat.
    image : (M, N[, C]) or (X, Y, Z[, C]) array_like
        The image that it belongs to.
    low, high : float
        Shares of the heatmap's maximum, 0 < low < high < 1.

    Raises
    ------
    ValueError
        For shapes that differ, or shares out of order.
    """
    in_order(low=low, high=high)
    heat, grey = heat_and_grey(heatmap, image)
    halfway = np.asarray(heat > (high + low) / 2)
    return Seeds(unit_range(grey), heat > high, heat < low, halfway)


def from_seeds(
    grow: Callable[[Seeds], Bools],
    heatmap: npt.ArrayLike,
    image: npt.ArrayLike,
    *,
    low: float,
    high: float,
) -> Bools:
    """What grows from the sure parts, which are as they are.

    Parameters
    ----------
    grow : callable
        From seeds of both kinds to the mask; what it says of the sure parts does not count.
    heatmap, image, low, high
        See `seeds_of`.

    Returns
    -------
    ndarray of bool
        Every pixel above ``high`` is in it and none below ``low``. Where no pixel is below
        ``low``, the threshold is halfway between the two.

    Raises
    ------
    ValueError
        For shapes that differ, or shares out of order.
    """
    seeds = seeds_of(heatmap, image, low=low, high=high)
    if not seeds.both:
        return seeds.halfway
    return np.asarray(grow(seeds) & ~seeds.background | seeds.lesion)


def smoothed(grey: Floats, blur: float) -> Floats:
    """Greys smoothed by a Gaussian of a share of the longer side; of a volume in each slice.

    Parameters
    ----------
    grey : (M, N) or (X, Y, Z) ndarray
    blur : float
        Standard deviation, as a share of the longer side.
    """
    from scipy import ndimage

    return np.asarray(ndimage.gaussian_filter(grey, smoothing(grey.shape, blur)))


def slope(grey: Floats) -> Floats:
    """The length of the gradient; 0 in an image that is a single row of pixels."""
    if grey.ndim == 2:
        return np.hypot(*np.gradient(grey)) if min(grey.shape) > 1 else np.zeros_like(grey)
    # A volume of one slice has no slope across it.
    slopes = (np.gradient(grey, axis=k) for k, n in enumerate(grey.shape) if n > 1)
    return np.asarray(np.sqrt(sum(s**2 for s in slopes)) + np.zeros_like(grey))
