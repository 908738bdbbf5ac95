"""Networks whose scores have the size of their input, and what a network gives in training."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch.nn.functional as F
from torch import Tensor, nn


class Points(NamedTuple):
    """Scores of single places, which lie anywhere between the voxels.

    Attributes
    ----------
    logits : (B, K, N) Tensor
    places : (B, N, dims) Tensor
        In shares of each axis of the output, from 0 to 1: the middle of the first of n voxels is
        0.5 / n.
    """

    logits: Tensor
    places: Tensor


class Outputs(NamedTuple):
    """What a network may give instead of its logits while it is trained (`nn.Module.training`).

    In evaluation mode every network gives a tensor of logits. How the parts make one loss:
    `weakseg.training.supervision`.

    Attributes
    ----------
    logits : (B, K, *output) Tensor
        Of the head that counts most; the output of a network without further ones.
    auxiliary : tuple of Tensor
        Scores by further heads, of the same extent but maybe coarser (deep supervision).
    points : Points or None
        Scores of sampled places.
    presence : (B,) Tensor or None
        Logit that there is any lesion in the output at all.
    """

    logits: Tensor
    auxiliary: tuple[Tensor, ...] = ()
    points: Points | None = None
    presence: Tensor | None = None


class WholeImage(nn.Module):
    """A network whose scores have the size of its input, whatever that is."""

    margin: tuple[int, int] = (0, 0)

    def input_size(self, output: int) -> int:
        """Side of the input for a side of the output: the same."""
        return output

    def output_size(self, size: int) -> int:
        """Side of the output for a side of the input: the same."""
        return size


def padded(x: Tensor, multiple: int) -> Tensor:
    """(B, C, *size) with sides of whole multiples: the last voxel is repeated behind itself."""
    lacking = [-n % multiple for n in x.shape[2:]]
    if not any(lacking):
        return x
    return F.pad(x, [n for k in reversed(lacking) for n in (0, k)], mode="replicate")


def at_least(x: Tensor, side: int) -> Tensor:
    """(B, C, *size) with no shorter side than that: the last voxel is repeated behind itself."""
    lacking = [max(0, side - n) for n in x.shape[2:]]
    if not any(lacking):
        return x
    return F.pad(x, [n for k in reversed(lacking) for n in (0, k)], mode="replicate")


def cropped(x: Tensor, size: Sequence[int]) -> Tensor:
    """The first voxels of (B, K, *more), what `padded` or `at_least` added cut off."""
    return x[(slice(None), slice(None), *(slice(0, n) for n in size))]


def resized(x: Tensor, size: Sequence[int]) -> Tensor:
    """(B, K, *any) interpolated linearly to a size."""
    if tuple(x.shape[2:]) == tuple(size):
        return x
    mode = "bilinear" if len(size) == 2 else "trilinear"
    return F.interpolate(x, size=tuple(size), mode=mode, align_corners=False)
