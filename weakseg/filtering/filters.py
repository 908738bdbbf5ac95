"""What is left of an image, and what takes the place of the rest."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from weakseg.config import Condition
from weakseg.filtering.imputation import linear_imputation

Bools = NDArray[np.bool_]
Floats = NDArray[np.float32]


def filtered_image(
    image: Floats,
    mark: Floats | None,
    condition: Condition,
    means: Floats,
    valid: Bools,
    rng: np.random.Generator,
) -> tuple[Floats, float]:
    """One image as a condition shows it.

    The result is k · image + (1 - k) · fill, where k is the mark or, to remove what is marked,
    1 - mark. Padding is never changed.

    Parameters
    ----------
    image : (C, S, S) ndarray of float
        In [0, 1], not normalised.
    mark : (S, S) ndarray of float or None
        In [0, 1]; None for the raw image.
    condition : Condition
        Its side and fill. ``mean`` fills with the training images' mean of each channel;
        ``linear`` with noisy linear imputation: pixels with k < 1/2 from those with k ≥ 1/2;
        ``shape`` shows the mark alone, in every channel.
    means : (C,) ndarray of float
    valid : (S, S) ndarray of bool
        Where the square shows the image.
    rng : Generator
        Of the imputation's noise.

    Returns
    -------
    filtered : (C, S, S) ndarray of float32
    area : float
        The share of the image that is kept: the mean of k. 0 for ``shape``.
    """
    if mark is None:
        return image.astype(np.float32), 1.0
    if condition.fill == "shape":
        shown = np.where(valid, mark, 0)
        return np.repeat(shown[None].astype(np.float32), len(image), axis=0), 0.0
    kept = mark if condition.side == "keep" else 1 - mark
    kept = np.where(valid, kept, 1).astype(np.float32)
    area = float(kept[valid].mean())
    if condition.fill == "zero":
        return image * kept, area
    if condition.fill == "mean":
        return image * kept + (1 - kept) * means[:, None, None].astype(np.float32), area
    fill = linear_imputation(image, valid & (kept < 0.5), rng=rng, valid=valid)
    return image * kept + (1 - kept) * fill, area


def channel_means(images: NDArray[np.floating], valid: Bools) -> NDArray[np.float64]:
    """Sum over the image's pixels and their number, a channel: (C + 1,).

    Added up over images, the first C over the last are the means.
    """
    sums = (images * valid).sum(axis=(1, 2), dtype=np.float64)
    return np.append(sums, valid.sum())
