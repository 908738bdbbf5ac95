"""Masks of whole superpixels: what looks alike is marked alike."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from weakseg.masks.region import brightness, unit_range
from weakseg.masks.thresholds import normalise

Ints = npt.NDArray[np.int64]


def slic_parts(grey: npt.ArrayLike, *, count: int, compactness: float) -> Ints:
    """Parts of a grey image that look alike, by scikit-image's SLIC.

    Parameters
    ----------
    grey : (M, N) array_like
    count : int
        About how many parts.
    compactness : float
        How much distance counts beside grey values in [0, 1].

    Returns
    -------
    (M, N) ndarray of int64
        Numbers from 0; some may be missing.
    """
    from skimage.segmentation import slic

    parts = slic(
        np.asarray(grey),
        n_segments=count,
        compactness=compactness,
        channel_axis=None,
        start_label=0,
    )
    return np.asarray(parts, dtype=np.int64)


def part_means(parts: Ints, values: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """The mean over every part of values (M, N), (K,); 0 for numbers that are missing."""
    flat, of = parts.ravel(), np.asarray(values, dtype=np.float64).ravel()
    return np.bincount(flat, weights=of) / np.maximum(np.bincount(flat), 1)


def superpixel_mask(
    heatmap: npt.ArrayLike,
    image: npt.ArrayLike,
    *,
    at: float = 0.5,
    count: int = 300,
    compactness: float = 0.1,
) -> npt.NDArray[np.bool_]:
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
    if not 0 < at < 1:
        raise ValueError(f"at must be in (0, 1), got {at}")
    if count < 2 or compactness <= 0:
        raise ValueError(
            f"count must be at least 2 and compactness positive: {count}, {compactness}"
        )
    heat, grey = normalise(heatmap), unit_range(brightness(image))
    if heat.shape != grey.shape:
        raise ValueError(f"the heatmap is {heat.shape}, the image {grey.shape}")
    if not heat.any():
        return np.zeros(heat.shape, dtype=bool)
    parts = slic_parts(grey, count=count, compactness=compactness)
    means = part_means(parts, heat)
    return np.asarray((means > at * means.max())[parts])
