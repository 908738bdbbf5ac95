"""Trivial masks, made without a classifier: what a method must beat to be worth something."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import numpy.typing as npt

from weakseg.masks.checks import Bools
from weakseg.masks.clusters import end_cluster
from weakseg.masks.region import brightness, unit_range
from weakseg.masks.rules.chan_vese import chan_vese_mask
from weakseg.masks.rules.region_growing import region_growing_mask
from weakseg.masks.rules.seeded import smoothed
from weakseg.masks.rules.snake import snake_mask
from weakseg.masks.rules.watershed import watershed_mask
from weakseg.masks.thresholds import is_flat

TISSUES = 4
"""Clusters of grey values: white and grey matter, fluid and tumour, as in fuzzy-neuro."""


def everything(shape: Sequence[int]) -> Bools:
    """All pixels of an image of this (M, N) shape."""
    return np.ones(tuple(shape[:2]), dtype=bool)


def brightest(image: npt.ArrayLike, share: float) -> Bools:
    """The brightest pixels.

    Parameters
    ----------
    image : (M, N) or (M, N, C) array_like
        Channels are averaged. NaN is the darkest of all.
    share : float
        In (0, 1].

    Returns
    -------
    (M, N) ndarray of bool
        floor(share × M × N) pixels; of equally bright ones those that come first, row by row from
        the top left.

    Raises
    ------
    ValueError
        When ``share`` is out of range or the image has another number of dimensions.
    """
    return _first(-brightness(image), share)


def darkest(image: npt.ArrayLike, share: float) -> Bools:
    """The darkest pixels; as `brightest`, except that NaN is the brightest of all."""
    return _first(brightness(image), share)


def centred_ellipse(shape: Sequence[int], share: float) -> Bools:
    """An ellipse in the middle with the image's own proportions.

    Parameters
    ----------
    shape : (M, N)
    share : float
        The ellipse's area over the image's, in (0, π/4]; half axes are sqrt(share / π) of the
        sides. π/16 gives half axes of a quarter of each side.

    Returns
    -------
    (M, N) ndarray of bool
        True where a pixel's centre lies in the ellipse or on its edge.

    Raises
    ------
    ValueError
        When ``share`` is out of range.
    """
    if not 0.0 < share <= np.pi / 4:
        raise ValueError(f"share must be in (0, π/4], got {share}")
    M, N = shape[:2]
    y = (np.arange(M) + 0.5) / M - 0.5
    x = (np.arange(N) + 0.5) / N - 0.5
    return np.asarray(y[:, None] ** 2 + x[None, :] ** 2 <= share / np.pi)


def _first(key: npt.NDArray[np.float64], share: float) -> Bools:
    if not 0.0 < share <= 1.0:
        raise ValueError(f"share must be in (0, 1], got {share}")
    mask = np.zeros(key.size, dtype=bool)
    # A sort leaves NaN to the end. The small term undoes rounding such as 0.29 × 100 = 28.999….
    mask[np.argsort(key, axis=None, kind="stable")[: int(share * key.size + 1e-9)]] = True
    return mask.reshape(key.shape)


def _everything(image: npt.ArrayLike) -> Bools:
    return everything(np.shape(image))


def _ellipse(image: npt.ArrayLike) -> Bools:
    return centred_ellipse(np.shape(image), np.pi / 16)


LONGEST_SIDE = 128
"""Of the copy that contours are drawn on: they take many steps."""
BLUR = 0.02
"""Sd of the smoothing that leaves the brightest part of an image and not its brightest pixel."""


def from_brightest(image: npt.ArrayLike, rule: Callable[..., Bools]) -> Bools:
    """What a rule that begins with a heatmap makes of the image's own brightness instead.

    Parameters
    ----------
    image : (M, N) or (M, N, C) array_like
        Channels are averaged; what is no finite number is as the darkest.
    rule : callable
        (heat, image) → mask.

    Returns
    -------
    (M, N) ndarray of bool
        Empty for an even image.
    """
    from skimage.transform import resize

    grey = brightness(image)
    finite = np.isfinite(grey)
    grey = np.where(finite, grey, grey[finite].min() if finite.any() else 0.0)
    shrink = LONGEST_SIDE / max(grey.shape)
    small = grey
    if shrink < 1:
        shape = [max(1, round(side * shrink)) for side in grey.shape]
        small = resize(grey, shape, anti_aliasing=True, preserve_range=True)
    heat = unit_range(smoothed(small, BLUR))
    if is_flat(heat):
        return np.zeros(grey.shape, dtype=bool)
    mask = rule(heat, small)
    return mask if mask.shape == grey.shape else np.asarray(resize(mask, grey.shape, order=0))


FLOORS: dict[str, Callable[[npt.ArrayLike], Bools]] = {
    "floor-everything": _everything,
    "floor-brightest-5": partial(brightest, share=0.05),
    "floor-brightest-10": partial(brightest, share=0.10),
    "floor-brightest-20": partial(brightest, share=0.20),
    "floor-darkest-10": partial(darkest, share=0.10),
    "floor-darkest-20": partial(darkest, share=0.20),
    "floor-ellipse": _ellipse,
    "floor-k-means-brightest": partial(end_cluster, count=TISSUES),
    "floor-k-means-darkest": partial(end_cluster, count=TISSUES, bright=False),
    "floor-fuzzy-c-means-brightest": partial(end_cluster, count=TISSUES, fuzzy=True),
    "floor-fuzzy-c-means-darkest": partial(end_cluster, count=TISSUES, fuzzy=True, bright=False),
    "floor-region-growing": partial(from_brightest, rule=region_growing_mask),
    "floor-watershed": partial(from_brightest, rule=watershed_mask),
    "floor-chan-vese": partial(from_brightest, rule=chan_vese_mask),
    "floor-snake": partial(from_brightest, rule=snake_mask),
}
"""Name → function from an image, (M, N) or (M, N, C), to its (M, N) mask; of volumes see
`weakseg.masks.region.plane_by_plane`."""
