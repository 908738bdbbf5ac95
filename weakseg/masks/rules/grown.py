"""The two-tone part of a heatmap's warm region, grown to where its tone ends."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field, model_validator

from weakseg.masks.checks import AT_ONCE, Bools, Floats
from weakseg.masks.parts import find_parts
from weakseg.masks.region import body_region
from weakseg.masks.rules.arguments import at_least, in_order
from weakseg.masks.rules.base import FittedRule
from weakseg.masks.rules.hot_box import in_hot_box
from weakseg.masks.rules.search import SearchedRule
from weakseg.masks.rules.tone_planes import Planes, tone_of_planes
from weakseg.masks.rules.two_tone import SMALLEST_PART, warm_tone
from weakseg.masks.screen import keep_large_parts
from weakseg.settings import Fraction, Probability

LEVELS = 16
"""How many levels of heat are tried until the mask is small enough."""

PART = LEVELS + 1
"""Of a place in the part itself, which is above all levels whatever its heat is."""


class GrownRule(SearchedRule):
    """``two-tone``, grown outside the warm region along its own tone, see `grown_mask`. The
    defaults saw 153 validation masks of the glioma set."""

    rule: Literal["grown"] = "grown"
    spoken = "the bright or dark part of its warm region, grown"
    warm: Fraction = Field(0.35, description="share of the heatmap's maximum: the part's region")
    reach: Fraction = Field(0.2, description="share of it that bounds the growth")
    most: float = Field(3.0, ge=1.0, description="the mask is at most so many times the part")
    rare: Probability = Field(
        1.0,
        description="nothing grows where the tone covers more than this share of the body that the "
        "growth may not reach",
    )
    blur: float = Field(
        0.008, ge=0.0, le=0.1, description="sd of the image's smoothing, share of its longer side"
    )

    needs_image = True
    dims = (2, 3)
    in_parts = True

    @model_validator(mode="after")
    def _grows_outside(self) -> GrownRule:
        if self.search is None and self.reach >= self.warm:
            raise ValueError("reach must be below warm")
        return self

    def mask(self, fitted: FittedRule, heat: Floats, image: Any, truth: Any) -> Bools:
        return grown_mask(
            heat,
            image,
            warm=self.warm,
            reach=self.reach,
            most=self.most,
            rare=self.rare,
            blur=self.blur,
        )


def grown_mask(
    heatmap: npt.ArrayLike,
    image: npt.ArrayLike,
    *,
    warm: float = 0.35,
    reach: float = 0.2,
    most: float = 3.0,
    rare: float = 1.0,
    blur: float = 0.008,
) -> Bools:
    """Grow the part that `weakseg.masks.rules.two_tone` finds along its tone.

    The warm region of a heatmap seldom reaches to the end of a large lesion. The part is joined
    by all of its tone that is connected with it and hot enough; where that is more than ``most``
    times the part, the heat that is asked for rises until it is not.

    Parameters
    ----------
    heatmap : (M, N) or (X, Y, Z) array_like
        Raw heat.
    image : (M, N[, C]) or (X, Y, Z[, C]) array_like
        The image that it belongs to.
    warm, blur : float, optional
        See `weakseg.masks.rules.two_tone.two_tone_mask`.
    reach : float, optional
        Share of the heatmap's maximum that the growth never falls to, in (0, ``warm``).
    most : float, optional
        How many times its own area the part may become, at least 1; holes that are filled
        afterwards do not count.
    rare : float, optional
        In [0, 1]. Where the tone covers a larger share than this of what is no hotter than
        ``reach`` (of the body, see `weakseg.masks.region.body_region`), it is not the lesion's
        alone, and what is connected by it says little: the part stays as it is.

    Returns
    -------
    (M, N) or (X, Y, Z) ndarray of bool
        Contains the two-tone part. Connected by faces; holes are filled. Empty for a flat
        heatmap.

    Raises
    ------
    ValueError
        For shapes that differ, or parameters out of range.
    """
    in_order(reach=reach, warm=warm)
    at_least(1, most=most)
    if not 0 <= rare <= 1:
        raise ValueError(f"rare must be in [0, 1], got {rare}")
    at_least(0, blur=blur)

    def mark(heat: Floats, grey: Floats, sd: Sequence[float]) -> Bools:
        inside, tone = warm_tone(heat, grey, warm=warm, sd=sd)
        part = keep_large_parts(inside, SMALLEST_PART)
        if rare < 1:
            cold = body_region(image, heat.ndim) & (heat <= reach)
            if _share(int(np.count_nonzero(tone & cold)), int(np.count_nonzero(cold))) > rare:
                return part
        steps = tone.view(np.uint8) * np.searchsorted(levels, heat).astype(np.uint8)
        steps[part] = PART
        return _grown(steps, most)

    def mark_planes(planes: Planes) -> Bools:
        tone = tone_of_planes(planes, warm=warm, above=reach if rare == 1 else -1.0)
        part = keep_large_parts(_both(tone, planes.above(warm)), SMALLEST_PART)
        if rare < 1:
            found, cold = 0, 0
            for z in range(planes.count):
                of = body_region(planes.image[:, :, z]) & (planes.hot(z) <= reach)
                cold += int(np.count_nonzero(of))
                found += int(np.count_nonzero(of & tone[..., z]))
            if _share(found, cold) > rare:
                return part
        steps = tone.view(np.uint8)  # in its place: both have a byte a voxel
        for z in range(planes.count):
            steps[..., z] *= np.searchsorted(levels, planes.hot(z)).astype(np.uint8)
            steps[..., z][part[..., z]] = PART
        del part
        return _grown(steps, most)

    levels = np.linspace(reach, warm, LEVELS, endpoint=False)
    above = reach if rare == 1 else -1.0  # what is cold counts as well, all of it
    return in_hot_box(heatmap, image, mark, mark_planes, above=above, blur=blur)


def _share(found: int, cold: int) -> float:
    """How much of the cold is of a tone; 0 where nothing is cold."""
    return found / cold if cold else 0.0


def _grown(steps: npt.NDArray[np.uint8], most: float) -> Bools:
    """The part and what is connected with it, at the lowest level that leaves few enough.

    Parameters
    ----------
    steps : (M, N) or (X, Y, Z) ndarray of int
        How many levels a place is above, of those of the tone; `PART` in the part.
    most : float
        How many times the part it may be.

    Notes
    -----
    What is connected with the part at a level is so at all that are lower: the level is found by
    halving, for each look numbers the parts of all of a volume.
    """
    limit = most * np.count_nonzero(steps == PART)
    lowest, least = 0, LEVELS  # above the last level the part stays alone
    level = 0  # which does most often
    while lowest < least:
        if np.count_nonzero(_connected(steps, level)) <= limit:
            least = level
        else:
            lowest = level + 1
        level = (lowest + least) // 2
    return steps == PART if least == LEVELS else keep_large_parts(_connected(steps, least), 0.0)


def _both(mask: Bools, other: Bools) -> Bools:
    """Their intersection, in the place of the second."""
    other &= mask
    return other


def _connected(steps: npt.NDArray[np.uint8], level: int) -> Bools:
    """The components of what is above a level that hold some of the part."""
    from scipy import ndimage

    mask = steps > level
    if mask.ndim == 3 and mask.size > AT_ONCE:
        parts = find_parts(mask, ndimage.generate_binary_structure(3, 1))
        return parts.keep(parts.holding(steps, PART))
    labels, count = ndimage.label(mask)
    chosen = np.zeros(count + 1, dtype=bool)
    chosen[labels[steps == PART]] = True
    return chosen[labels]
