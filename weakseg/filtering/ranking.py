"""Pixels in the order of their heat, so that exactly as many are taken as were asked for.

A threshold cannot do that. More than half of a Grad-CAM map is often exactly 0 after the ReLU: a
percentile then falls on 0 and takes all of those pixels at once.
"""

from __future__ import annotations

from decimal import ROUND_HALF_UP, Decimal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from weakseg.scores.checks import Mask, as_mask

Indices = NDArray[np.intp]


def rank(scores: ArrayLike, valid: ArrayLike, rng: np.random.Generator) -> Indices:
    """The pixels of an image, hottest first.

    Parameters
    ----------
    scores : (H, W) array_like of float
        Of any scale and sign; only their order counts. Those that are not finite (NaN and both
        infinities) rank behind all others, and tie with one another.
    valid : (H, W) array_like of bool
        The pixels to rank; what the others hold does not matter.
    rng : numpy.random.Generator
        Breaks exact ties: every order of the pixels that tie is equally likely. One permutation
        of the valid pixels is drawn, whether there are ties or not.

    Returns
    -------
    (n,) ndarray of int
        Flat indices of the n valid pixels, each once.

    Raises
    ------
    ValueError
        For scores that are no real numbers, or arrays that are not of one 2D shape.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> rank([[0.1, 0.7], [np.nan, 0.3]], [[1, 1], [1, 1]], rng).tolist()
    [1, 3, 0, 2]
    """
    heat, inside = _checked(scores, valid)
    # The sort keeps the order of equals, so that shuffling first leaves ties in random order.
    pixels = rng.permutation(np.flatnonzero(inside))
    drawn = heat.ravel()[pixels]
    drawn[~np.isfinite(drawn)] = -np.inf
    return pixels[np.argsort(-drawn, kind="stable")]


def top_share(scores: ArrayLike, share: float, valid: ArrayLike, rng: np.random.Generator) -> Mask:
    """The hottest share of the valid pixels.

    Parameters
    ----------
    scores, valid, rng
        See `rank`.
    share : float
        In [0, 1].

    Returns
    -------
    (H, W) ndarray of bool
        With exactly ``share_count(share, n)`` pixels, none outside ``valid``. What a smaller share
        takes, a larger one takes as well, if the generators are in the same state.

    Raises
    ------
    ValueError
        For a share out of range; else see `rank`.

    Examples
    --------
    >>> heat, everywhere = np.zeros((4, 5)), np.ones((4, 5), bool)
    >>> int(top_share(heat, 0.3, everywhere, np.random.default_rng(0)).sum())
    6
    """
    heat, inside = _checked(scores, valid)
    return top_count(heat, share_count(share, int(inside.sum())), inside, rng)


def top_count(scores: ArrayLike, count: int, valid: ArrayLike, rng: np.random.Generator) -> Mask:
    """The ``count`` hottest of the valid pixels, see `top_share`.

    Raises
    ------
    ValueError
        For a count below 0 or above the number of valid pixels; else see `rank`.
    """
    order = rank(scores, valid, rng)
    if not 0 <= count <= len(order):
        raise ValueError(f"count must lie in 0..{len(order)}, the valid pixels, got {count}")
    return marked(order[:count], np.shape(scores))


def share_count(share: float, pixels: int) -> int:
    """How many pixels a share is: ``share · pixels``, rounded half up.

    The share is taken for the decimal number that it prints as: 0.29 of 50 is 14.5 and gives 15,
    where the product of floats is 14.499999999999998.

    Raises
    ------
    ValueError
        For a share outside [0, 1].

    Examples
    --------
    >>> share_count(0.29, 50), share_count(0.5, 5), share_count(0.1, 4)
    (15, 3, 0)
    """
    if not 0 <= share <= 1:
        raise ValueError(f"share must lie in [0, 1], got {share!r}")
    return int((Decimal(repr(float(share))) * pixels).to_integral_value(ROUND_HALF_UP))


def marked(pixels: NDArray[np.integer], shape: tuple[int, ...]) -> Mask:
    """Flat indices as a mask of that shape."""
    mask = np.zeros(shape, dtype=np.bool_)
    mask.flat[pixels] = True
    return mask


def _checked(scores: ArrayLike, valid: ArrayLike) -> tuple[NDArray[np.float64], Mask]:
    inside = as_mask("valid", valid)
    heat = np.asarray(scores)
    if heat.dtype.kind not in "buif":
        raise ValueError(f"scores must hold real numbers, got type {heat.dtype}")
    if inside.ndim != 2 or heat.shape != inside.shape:
        raise ValueError(
            f"scores and valid must be of one shape (H, W), got {heat.shape} and {inside.shape}"
        )
    return heat.astype(np.float64), inside
