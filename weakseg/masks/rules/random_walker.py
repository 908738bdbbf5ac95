"""From the sure parts of a heatmap to a mask whose edge follows the image."""

from __future__ import annotations

import warnings
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field

from weakseg.masks.checks import Bools, Floats
from weakseg.masks.rules.arguments import at_least
from weakseg.masks.rules.base import FittedRule
from weakseg.masks.rules.seeded import SeededRule, Seeds, from_seeds

LONGEST_SIDE = 384
"""Larger images are made smaller for the walk: its cost grows faster than the image."""


class RandomWalkerRule(SeededRule):
    """Grown from the heatmap's confident parts by a random walk on the image, see
    `random_walker_mask`."""

    rule: Literal["random-walker"] = "random-walker"
    spoken = "a random walk on the image"
    beta: float = Field(130.0, ge=0.0, description="how much an edge of the image hinders")

    def mask(self, fitted: FittedRule, heat: Floats, image: Any, truth: Any) -> Bools:
        return random_walker_mask(heat, image, high=self.high, low=self.low, beta=self.beta)


def random_walker_mask(
    heatmap: npt.ArrayLike,
    image: npt.ArrayLike,
    *,
    high: float = 0.7,
    low: float = 0.3,
    beta: float = 130.0,
) -> Bools:
    """Grow a mask from the confident parts of a heatmap by a random walk on the image.

    Pixels above ``high`` of the heatmap's maximum are lesion, those below ``low`` background. Each
    other pixel belongs to the kind that a random walker who starts there meets first, where steps
    across an edge of the image are unlikely.

    Parameters
    ----------
    heatmap : (M, N) array_like
    image : (M, N[, C]) array_like
    high, low : float, optional
        See `weakseg.masks.rules.seeded.seeds_of`.
    beta : float, optional
        How much an edge hinders, in an image whose grey values range from 0 to 1; 0 makes the
        image irrelevant.

    Returns
    -------
    (M, N) ndarray of bool
        See `weakseg.masks.rules.seeded.from_seeds`. The threshold is halfway as well where a kind
        of seeds, or all that lies between them, is too small to be seen in the smaller copy of an
        image that is longer than `LONGEST_SIDE`.

    Raises
    ------
    ValueError
        For shapes that differ, or parameters out of range.

    References
    ----------
    L. Grady, "Random walks for image segmentation", IEEE TPAMI 28(11), 2006.
    """
    at_least(0, beta=beta)

    def grow(seeds: Seeds) -> Bools:
        return np.asarray(_walk(seeds, beta) > 0.5)

    return from_seeds(grow, heatmap, image, low=low, high=high)


def _walk(sure: Seeds, beta: float) -> Floats:
    """The probability that a walker meets the lesion first, (M, N)."""
    from skimage.segmentation import random_walker
    from skimage.transform import resize

    grey = sure.grey  # the solver's weights are not those of the same image in other units
    shape = grey.shape
    shrink = LONGEST_SIDE / max(shape)
    seeds = sure.lesion.astype(np.int64) + 2 * sure.background
    if shrink < 1:
        small = tuple(max(1, round(side * shrink)) for side in shape)
        grey, seeds = resize(grey, small), resize(seeds, small, order=0)
    # As the image was made smaller, a kind of seeds may be lost, or all that lay between them.
    if not all((seeds == kind).any() for kind in (0, 1, 2)):
        return sure.halfway.astype(np.float64)
    if not np.ptp(grey) > 0:  # an even image, which the solver cannot scale, hinders nobody
        grey, beta = np.arange(float(grey.size)).reshape(grey.shape), 0.0
    with warnings.catch_warnings():
        # Of the solver's choice, which differs by what is installed beside.
        warnings.simplefilter("ignore", UserWarning)
        met = random_walker(
            grey,
            seeds,
            beta=beta,
            mode="cg_j",
            tol=1e-4,
            return_full_prob=True,
            prob_tol=1.0,  # no word of rounding: in threads no filter of warnings holds
        )[0]
    return met if met.shape == shape else resize(met, shape)
