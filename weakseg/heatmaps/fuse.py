"""One heatmap of several: of a network's depths, and of an image and its mirror image."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from weakseg.data.geometry import to_grid


def mirrored(maps: np.ndarray, others: np.ndarray) -> np.ndarray:
    """The mean of maps and of those of the mirrored images.

    Parameters
    ----------
    maps, others : (B, h, w) ndarray
        The latter are mirrored left–right, and turned back here.

    Returns
    -------
    (B, h, w) ndarray
    """
    return (maps + others[:, :, ::-1]) / 2


def average(maps: Sequence[np.ndarray]) -> np.ndarray:
    """The mean of heatmaps by several networks, each over its own maximum.

    Parameters
    ----------
    maps : sequence of (B, h, w) ndarray
        Of one grid. Negative scores are dropped, unless there is a single map.

    Returns
    -------
    (B, h, w) ndarray of float32
        Its maximum is the mean of the maps' own.
    """
    if len(maps) == 1:
        return np.asarray(maps[0], dtype=np.float32)
    positive = [np.maximum(m, 0) for m in maps]
    tops = [m.max(axis=(1, 2), keepdims=True) for m in positive]
    total = sum(m / np.where(t > 0, t, 1) for m, t in zip(positive, tops, strict=True))
    highest = np.max(total, axis=(1, 2), keepdims=True)
    scaled = total / np.where(highest > 0, highest, 1) * np.mean(tops, axis=0)
    return np.asarray(scaled, dtype=np.float32)


def same_grid_average(maps: Sequence[np.ndarray]) -> np.ndarray:
    """`average` of maps of different grids, on that of the first."""
    first = maps[0]
    grid = (int(first.shape[1]), int(first.shape[2]))
    others = [np.stack([to_grid(m, grid) for m in of_scale]) for of_scale in maps[1:]]
    return average([first, *others])


def fuse(maps: Sequence[np.ndarray]) -> np.ndarray:
    """The mean of heatmaps of several depths, each over its own maximum.

    A shallow map is sharp and marks much that is no lesion; a deep one knows the lesion and not
    its outline. Negative scores are dropped first, and every map counts alike.

    Parameters
    ----------
    maps : sequence of (B, h, w) ndarray
        Raw scores, the deepest last, whose scale the result takes; their grids may differ.

    Returns
    -------
    (B, h, w) ndarray of float32
        On the finest grid. A single map comes back as it is, signed. Several are averaged, and
        scaled so that the maximum of the mean is that of the deepest map: images of one network
        stay comparable. A map without positive scores adds nothing.

    References
    ----------
    P.-T. Jiang et al., "LayerCAM", IEEE Trans. Image Processing 30, 2021, for the fusion of depths.
    """
    if len(maps) == 1:
        return np.asarray(maps[0], dtype=np.float32)
    grid = max((m.shape[1:] for m in maps), key=lambda s: s[0] * s[1])
    total = np.zeros((len(maps[0]), *grid), dtype=np.float32)
    for m in maps:
        positive = np.maximum(m, 0)
        top = positive.max(axis=(1, 2), keepdims=True)
        share = positive / np.where(top > 0, top, 1)
        total += np.stack([to_grid(s, grid) for s in share])
    top = total.max(axis=(1, 2), keepdims=True)
    deepest = np.maximum(maps[-1], 0).max(axis=(1, 2), keepdims=True)
    return total / np.where(top > 0, top, 1) * deepest
