"""Random masks that the tests of this folder share."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

Mask = NDArray[np.bool_]


def blob(shape: tuple[int, ...], seed: int, share: float = 0.15) -> Mask:
    """A few smooth blobs that take about ``share`` of the image; never empty, never all."""
    noise = gaussian_filter(np.random.default_rng(seed).normal(size=shape), 2.0, mode="reflect")
    return noise > np.quantile(noise, 1 - share)


def mask_pairs(max_side: int = 9) -> st.SearchStrategy[tuple[Mask, Mask]]:
    """Two masks of one shape in 2D or 3D, empty ones included."""
    shapes = hnp.array_shapes(min_dims=2, max_dims=3, min_side=1, max_side=max_side)
    return shapes.flatmap(
        lambda s: st.tuples(hnp.arrays(np.bool_, s), hnp.arrays(np.bool_, s)),
    )


def filled_pairs(max_side: int = 9) -> st.SearchStrategy[tuple[Mask, Mask]]:
    """As `mask_pairs`, without empty masks."""
    return mask_pairs(max_side).map(_with_a_pixel)


def _with_a_pixel(pair: tuple[Mask, Mask]) -> tuple[Mask, Mask]:
    a, b = (m.copy() for m in pair)
    if not a.any():
        a.flat[0] = True
    if not b.any():
        b.flat[-1] = True
    return a, b
