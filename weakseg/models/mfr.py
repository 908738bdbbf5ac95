"""Modules of a network for rectal tumours, for U-Nets: retention of scales and two attentions.

After the abstract: a backbone that fuses skip connections, Multi-scale Feature Retention,
Multi-branch Cross-channel Attention and Coordinate Attention. Coordinate attention is published on
its own and is as there; of the other modules the abstract tells no more than their names, so that
their inner make, and all sizes, are ours.

References
----------
Medical Physics 2024, mp.17044 (rectal tumours in MRI).
Hou, Zhou, Feng, "Coordinate attention for efficient mobile network design", CVPR 2021.
Wang et al., "ECA-Net: efficient channel attention", CVPR 2020 (a branch of the cross-channel one).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from weakseg.models.blocks import CONV, NORM, UP, convolution
from weakseg.models.tracing import one_operation

DILATIONS = (1, 2, 4)
BRANCHES = (3, 5, 7)
LEAST = 8
"""Coordinate attention squeezes to no fewer maps than these, as published."""


class MultiScale(nn.Module):
    """Multi-scale feature retention: several dilations and the image's mean, added to what was.

    Parameters
    ----------
    channels : int
    dims : {2, 3}
    dilations : sequence of int, optional
    """

    def __init__(self, channels: int, dims: int, dilations: Sequence[int] = DILATIONS) -> None:
        super().__init__()
        part = max(1, channels // (len(dilations) + 1))
        self.branches = nn.ModuleList(
            convolution(channels, part, dims, 3, dilation) for dilation in dilations
        )
        self.everywhere = CONV[dims](channels, part, 1)
        self.join = convolution(part * (len(dilations) + 1), channels, dims, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, *size) to the same shape."""
        mean = x.mean(dim=tuple(range(2, x.ndim)), keepdim=True)
        mean = torch.relu(self.everywhere(mean)).expand(-1, -1, *x.shape[2:])
        return x + self.join(torch.cat([*(b(x) for b in self.branches), mean], dim=1))


class ChannelAttention(nn.Module):
    """Multi-branch cross-channel attention: every map weighed by those beside it.

    The mean and the maximum of every map are convolved along the maps, by kernels of several
    lengths; the sigmoid of the branches' mean is the weight. With one branch and the mean alone it
    is ECA.

    Parameters
    ----------
    branches : sequence of int, optional
        Lengths, odd.
    maximum : bool, optional
        Whether the maximum counts beside the mean.
    """

    def __init__(self, branches: Sequence[int] = BRANCHES, maximum: bool = True) -> None:
        super().__init__()
        self.maximum = maximum
        self.branches = nn.ModuleList(
            nn.Conv1d(1, 1, k, padding=k // 2, bias=False) for k in branches
        )

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, *size) to the same shape."""
        flat = x.flatten(2)
        said = flat.mean(2)[:, None]
        if self.maximum:
            said = said + flat.amax(2)[:, None]
        weight = torch.stack([branch(said)[:, 0] for branch in self.branches]).mean(0)
        return x * torch.sigmoid(weight).view(*weight.shape, *[1] * (x.ndim - 2))


class CoordinateAttention(nn.Module):
    """Every place weighed by the mean of its row and of its column, map by map.

    Means along the other axes give a line an axis; the lines are joined, squeezed by one common
    1-convolution, batch-normalised, through h-swish, and each is brought back to a weight by a
    1-convolution of its own and a sigmoid.

    Parameters
    ----------
    channels : int
    dims : {2, 3}
        In three dimensions the same with three lines, which the article has not.
    reduction : int, optional
    """

    def __init__(self, channels: int, dims: int, reduction: int = 32) -> None:
        super().__init__()
        between = max(LEAST, channels // reduction)
        self.squeeze = CONV[dims](channels, between, 1)
        self.norm = NORM[dims](between)
        self.act = nn.Hardswish()
        self.weights = nn.ModuleList(CONV[dims](between, channels, 1) for _ in range(dims))

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, *size) to the same shape."""
        return weighed_by_lines(x, self)


@one_operation
def weighed_by_lines(x: Tensor, module: CoordinateAttention) -> Tensor:
    """What `CoordinateAttention` does."""
    axes = range(2, x.ndim)
    # Every line lies along the first axis, so that one convolution takes them all.
    lines = [
        x.mean(dim=tuple(o for o in axes if o != a), keepdim=True).transpose(2, a) for a in axes
    ]
    squeezed = module.act(module.norm(module.squeeze(torch.cat(lines, dim=2))))
    parts = squeezed.split([line.shape[2] for line in lines], dim=2)
    for a, line, weigh in zip(axes, parts, module.weights, strict=True):
        x = x * torch.sigmoid(weigh(line)).transpose(2, a)
    return x


class SkipFusion(nn.Module):
    """A skip connection joined with the level below it, and brought back to its own width.

    Parameters
    ----------
    channels : int
        Of the skip connection; the level below has twice as many.
    dims : {2, 3}
    """

    def __init__(self, channels: int, dims: int) -> None:
        super().__init__()
        self.up = UP[dims](2 * channels, channels, 2, stride=2)
        self.join = convolution(2 * channels, channels, dims, 1)

    def forward(self, skip: Tensor, below: Tensor) -> Tensor:
        """(B, C, *size) and (B, 2C, *half) to the shape of the first."""
        return self.join(torch.cat([skip, self.up(below)], dim=1))
