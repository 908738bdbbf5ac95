"""One heatmap of several: of a network's depths, and of an image and its mirror image."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from weakseg.errors import ConfigError
from weakseg.models.whole_image import resized


def mirrored(maps: Tensor, others: Tensor) -> Tensor:
    """The mean of maps and of those of the mirrored images.

    Parameters
    ----------
    maps, others : (B[, d], h, w) Tensor
        The latter are mirrored left–right, and turned back here.

    Returns
    -------
    (B[, d], h, w) Tensor
    """
    return (maps + others.flip(-1)) / 2


def over_maximum(maps: Tensor) -> tuple[Tensor, Tensor]:
    """Positive scores over each map's maximum, and the maxima.

    Parameters
    ----------
    maps : (B[, d], h, w) Tensor

    Returns
    -------
    shares : (B[, d], h, w) Tensor
        From 0 to 1; 0 throughout where nothing is positive.
    tops : (B[, 1], 1, 1) Tensor
    """
    positive = maps.clamp_min(0)
    tops = positive.amax(tuple(range(1, maps.ndim)), keepdim=True)
    return positive / torch.where(tops > 0, tops, 1), tops


def average(maps: Sequence[Tensor]) -> Tensor:
    """The mean of heatmaps by several networks, each over its own maximum.

    Parameters
    ----------
    maps : sequence of (B[, d], h, w) Tensor of float32
        Of one grid. Negative scores are dropped, unless there is a single map.

    Returns
    -------
    (B[, d], h, w) Tensor of float32
        Its maximum is the mean of the maps' own.
    """
    if len(maps) == 1:
        return maps[0]
    shares, tops = zip(*(over_maximum(m) for m in maps), strict=True)
    return over_maximum(torch.stack(shares).sum(0))[0] * torch.stack(tops).mean(0)


def same_grid_average(maps: Sequence[Tensor]) -> Tensor:
    """`average` of maps of different grids, on that of the first."""
    return average([maps[0], *(on_grid(m, maps[0].shape[1:]) for m in maps[1:])])


def on_grid(maps: Tensor, grid: Sequence[int]) -> Tensor:
    """Maps on another grid of the same area, (B[, d], h, w) to (B, *grid), linearly each way.

    With half-pixel centres, as `weakseg.data.geometry.to_original` enlarges maps; a coarser grid
    is sampled at its centres, without antialiasing.
    """
    return resized(maps[:, None], grid)[:, 0]


def fuse(
    maps: Sequence[Tensor], fusion: str = "mean", weights: Sequence[float] | None = None
) -> Tensor:
    """The mean of heatmaps of several depths, each over its own maximum.

    A shallow map is sharp and marks much that is no lesion; a deep one knows the lesion and not
    its outline. Negative scores are dropped first, and every map counts alike.

    Parameters
    ----------
    maps : sequence of (B[, d], h, w) Tensor of float32
        Raw scores, the deepest last, whose scale the result takes; their grids may differ.
    fusion : {"mean", "entropy", "labels"}
        entropy: at every place a map counts by exp(-H), H being the entropy in nats of its share of
        its maximum there, taken for a probability: maps that are sure of yes or no count more.
        labels: each counts by its weight.
    weights : sequence of float, optional
        Of labels, see `weakseg.heatmaps.depth_weights`, one a map; default: all alike.

    Returns
    -------
    (B[, d], h, w) Tensor of float32
        On the finest grid. A single map comes back as it is, signed. Several are averaged, and
        scaled so that the maximum of the mean is that of the deepest map: images of one network
        stay comparable. A map without positive scores adds nothing.

    Raises
    ------
    ConfigError
        If there are not as many weights as maps.

    References
    ----------
    P.-T. Jiang et al., "LayerCAM", IEEE Trans. Image Processing 30, 2021, for the fusion of depths;
    J. Fu et al., "UM-CAM", Pattern Recognition 2025, for weights by entropy.
    """
    if weights is not None and len(weights) != len(maps):
        raise ConfigError(
            "There are not as many weights as layers.",
            where="heatmap.weights",
            found=f"{len(weights)} weights for {len(maps)} layers",
            fix="name one for each layer, or leave weights out: they are learnt",
        )
    if len(maps) == 1:
        return maps[0]
    grid = max((m.shape[1:] for m in maps), key=math.prod)
    shares, tops = zip(*(over_maximum(m) for m in maps), strict=True)
    total = torch.stack([on_grid(s, grid) for s in shares])
    if fusion == "entropy":
        total = total.clamp(0, 1)  # laid on another grid, 1 may be passed in the last bit
        # A map that says nothing is sure of nothing.
        hot = torch.stack([(t > 0).to(total) for t in tops])
        total = total * _sureness(total) / (_sureness(total) * hot).sum(0).clamp_min(1e-12)
    if weights is not None:
        total = total * total.new_tensor(weights).view(-1, *[1] * (total.ndim - 1))
    total = total.sum(0)
    deepest = over_maximum(maps[-1])[1]
    return over_maximum(total)[0] * deepest


def _sureness(shares: Tensor) -> Tensor:
    """exp(-H) of probabilities, from 1/2 where they are 1/2 to 1 where they are 0 or 1."""
    return (torch.special.xlogy(shares, shares) + torch.special.xlogy(1 - shares, 1 - shares)).exp()
