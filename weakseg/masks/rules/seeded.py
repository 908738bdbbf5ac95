"""Rules that grow a mask from the sure parts of a heatmap, and what they share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, NamedTuple

import numpy as np
import numpy.typing as npt
from pydantic import Field, model_validator

from weakseg.masks.checks import AT_ONCE, Bools, Floats, finite, numbers_of
from weakseg.masks.parts import DEPTH
from weakseg.masks.region import brightness, unit_range
from weakseg.masks.rules.arguments import heat_and_grey, in_order
from weakseg.masks.rules.hot_box import box_above, smoothing
from weakseg.masks.rules.search import SearchedRule, low_below_high
from weakseg.masks.rules.tone_planes import Planes
from weakseg.masks.thresholds import is_flat
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
    longer : int
        Longer side of the whole image, of which a large volume's box may be a part.
    """

    grey: Floats
    lesion: Bools
    background: Bools
    halfway: Bools
    longer: int

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
    return Seeds(unit_range(grey), heat > high, heat < low, halfway, max(heat.shape[:2]))


def from_seeds(
    grow: Callable[[Seeds], Bools],
    heatmap: npt.ArrayLike,
    image: npt.ArrayLike,
    *,
    low: float,
    high: float,
    blur: float = 0.0,
) -> Bools:
    """What grows from the sure parts, which are as they are.

    Of a volume of more than `AT_ONCE` voxels only the box of what is not background is looked at,
    with what its edge needs of what lies around.

    Parameters
    ----------
    grow : callable
        From seeds of both kinds to the mask; what it says of the sure parts does not count.
    heatmap, image, low, high
        See `seeds_of`.
    blur : float, optional
        How `grow` smooths, see `smoothed`.

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
    heat = numbers_of(heatmap)
    if heat.ndim != 3 or heat.size <= AT_ONCE or is_flat(finite("heatmap", heat)):
        return _marked(grow, seeds_of(heatmap, image, low=low, high=high))
    in_order(low=low, high=high)
    values, peak = np.asarray(image), np.float64(heat.max())
    if values.shape[:3] != heat.shape:
        raise ValueError(f"the heatmap is {heat.shape}, the image {values.shape}")
    sd = smoothing(heat.shape, blur)
    # Behind the last of it the background's first voxel is a seed, whose slope needs the next.
    box = box_above(heat, peak, float(np.nextafter(low, 0)), sd, further=2)
    mask = np.zeros(heat.shape, dtype=bool)
    planes = Planes(heat[box], values[box], peak, (0.0, 0.0))
    seeds = _seeds_of_planes(planes, _ends(values), low=low, high=high, longer=max(heat.shape[:2]))
    mask[box] = _marked(grow, seeds)
    return mask


def _marked(grow: Callable[[Seeds], Bools], seeds: Seeds) -> Bools:
    if not seeds.both:
        return seeds.halfway
    return np.asarray(grow(seeds) & ~seeds.background | seeds.lesion)


def _ends(image: npt.NDArray[Any]) -> tuple[float, float]:
    """The least and the largest brightness of a volume."""
    greys = (brightness(image[:, :, z]) for z in range(image.shape[2]))
    ends = [(grey.min(), grey.max()) for grey in greys]
    return min(e[0] for e in ends), max(e[1] for e in ends)


def _seeds_of_planes(
    planes: Planes, ends: tuple[float, float], *, low: float, high: float, longer: int
) -> Seeds:
    """`seeds_of` a part of a large volume, whose brightness has these ends."""
    grey = np.zeros(planes.heat.shape)
    lesion, background, halfway = (np.zeros(grey.shape, dtype=bool) for _ in range(3))
    span = ends[1] - ends[0]
    for z in range(planes.count):
        hot = planes.hot(z)
        lesion[..., z], background[..., z] = hot > high, hot < low
        halfway[..., z] = hot > (high + low) / 2
        if span > 0:
            grey[..., z] = (brightness(planes.image[:, :, z]) - ends[0]) / span
    return Seeds(grey, lesion, background, halfway, longer)


def smoothed(grey: Floats, blur: float, longer: int | None = None) -> Floats:
    """Greys smoothed by a Gaussian of a share of the longer side; of a volume in each slice.

    Parameters
    ----------
    grey : (M, N) or (X, Y, Z) ndarray
    blur : float
        Standard deviation, as a share of the longer side.
    longer : int, optional
        That side, where this is a part of the image.
    """
    from scipy import ndimage

    shape = grey.shape if longer is None else (longer, longer, *grey.shape[2:])
    return np.asarray(ndimage.gaussian_filter(grey, smoothing(shape, blur)))


def slope(grey: Floats) -> Floats:
    """The length of the gradient; 0 in an image that is a single row of pixels."""
    if grey.ndim == 2:
        return np.hypot(*np.gradient(grey)) if min(grey.shape) > 1 else np.zeros_like(grey)
    out, last = np.empty_like(grey), grey.shape[2]
    for z in range(0, last, DEPTH):  # the squares of all of a large volume would take memory
        begin, end = max(z - 1, 0), min(z + DEPTH + 1, last)
        out[..., z : z + DEPTH] = _slope(grey[..., begin:end])[..., z - begin :][..., :DEPTH]
    return out


def _slope(grey: Floats) -> Floats:
    # A volume of one slice has no slope across it.
    slopes = (np.gradient(grey, axis=k) for k, n in enumerate(grey.shape) if n > 1)
    return np.asarray(np.sqrt(sum(s**2 for s in slopes)) + np.zeros_like(grey))
