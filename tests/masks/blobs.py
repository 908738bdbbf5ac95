"""Heat that half agrees with a truth, and Dice in plain sums."""

from __future__ import annotations

import numpy as np
from scipy.ndimage import gaussian_filter

from weakseg.masks.thresholds import normalise


def blobs(seed: int, shape: tuple[int, int] = (40, 50)) -> tuple[np.ndarray, np.ndarray]:
    """A normalised heatmap and a truth that it half agrees with."""
    rng = np.random.default_rng(seed)
    signal = gaussian_filter(rng.standard_normal(shape), 5)
    other = gaussian_filter(rng.standard_normal(shape), 5)
    return normalise(signal), signal + 0.7 * other > 1.2 * signal.std()


def naive_dice(mask: np.ndarray, truth: np.ndarray) -> float:
    """1 for two empty masks."""
    both = mask.sum() + truth.sum()
    return 2 * (mask & truth).sum() / both if both else 1.0
