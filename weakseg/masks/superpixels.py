"""Masks of whole superpixels: what looks alike is marked alike."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]


def slic_parts(grey: npt.ArrayLike, *, count: int, compactness: float) -> Ints:
    """Parts of a grey image that look alike, by scikit-image's SLIC.

    Parameters
    ----------
    grey : (M, N[, P]) array_like
    count : int
        About how many parts.
    compactness : float
        How much distance counts beside grey values in [0, 1].

    Returns
    -------
    (M, N[, P]) ndarray of int64
        Numbers from 0; some may be missing.
    """
    from skimage.segmentation import slic

    parts: Ints = slic(
        np.asarray(grey),
        n_segments=count,
        compactness=compactness,
        channel_axis=None,
        start_label=0,
    )
    return parts


def part_means(parts: Ints, values: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """The mean over every part of values (M, N), (K,); 0 for numbers that are missing."""
    flat = parts.ravel()
    return np.bincount(flat, weights=np.ravel(values)) / np.maximum(np.bincount(flat), 1)
