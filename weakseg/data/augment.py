"""Random changes of a batch of training images: each image its own, all at once."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from weakseg.config import AugmentConfig, PatchAugmentConfig
from weakseg.data.geometry import left_right_axis
from weakseg.data.patches import IGNORE

SIDE_STEP = 8
"""Sides that `random_size` gives are multiples of so many pixels."""


def random_affine(n: int, config: AugmentConfig) -> Tensor:
    """Matrices of `torch.nn.functional.affine_grid`, (n, 2, 3): flip, rotation, zoom, shift.

    Drawn from torch's global generator, on the CPU whatever the device, so that a seed gives the
    same images everywhere.
    """

    def uniform(half: float, *shape: int) -> Tensor:
        return (torch.rand(n, *shape) * 2 - 1) * half

    angle = uniform(math.radians(config.rotate))
    # The grid maps output to input: a larger factor here shows more of the image, smaller.
    scale = 1 / (1 + uniform(config.zoom))
    flip = torch.where(torch.rand(n) < 0.5, -1.0, 1.0) if config.flip else torch.ones(n)
    cos, sin = angle.cos() * scale, angle.sin() * scale
    matrix = torch.zeros(n, 2, 3)
    matrix[:, 0, 0], matrix[:, 0, 1] = cos * flip, -sin
    matrix[:, 1, 0], matrix[:, 1, 1] = sin * flip, cos
    matrix[:, :, 2] = uniform(2 * config.shift, 2)  # the grid runs from -1 to 1
    return matrix


def augment(images: Tensor, config: AugmentConfig) -> Tensor:
    """Change every image of a batch by its own random draw.

    Parameters
    ----------
    images : Tensor
        (B, C, H, W) in [0, 1], or volumes (B, C, D, H, W), whose slices change alike.
    config : AugmentConfig

    Returns
    -------
    Tensor
        Of the same shape, in [0, 1]. What comes in from outside of the image is 0, as its padding;
        slices of a volume that are 0 throughout stay so.

    Raises
    ------
    ValueError
        For calipers in volumes.
    """
    n = len(images)
    if images.ndim == 5:
        _refuse_calipers(config)
        changed = augment(images.flatten(1, 2), config).unflatten(1, images.shape[1:3])
        return changed * (images.amax((1, 3, 4), keepdim=True) > 0)
    matrix = random_affine(n, config).to(images.device, images.dtype)
    grid = F.affine_grid(matrix, list(images.shape), align_corners=False)
    out = F.grid_sample(images, grid, padding_mode="zeros", align_corners=False)
    if config.contrast or config.brightness:
        factor = 1 + (torch.rand(n, 1, 1, 1) * 2 - 1) * config.contrast
        offset = (torch.rand(n, 1, 1, 1) * 2 - 1) * config.brightness
        out = (out * factor.to(out) + offset.to(out)).clamp(0, 1)
    out = scanner_look(out, config)
    return out * seen_window(n, out.shape[2:], config.crop).to(out) if config.crop else out


def scanner_look(images: Tensor, config: AugmentConfig) -> Tensor:
    """Every image to a power of its own, with speckle: noise that grows with the intensity; and
    with calipers drawn into it.

    Parameters
    ----------
    images : (B, C, *size) Tensor
        In [0, 1].
    config : AugmentConfig
        Its ``gamma``, ``speckle`` and ``calipers``; where all are 0 nothing is drawn.

    Returns
    -------
    (B, C, *size) Tensor
        In [0, 1]; what is 0 stays so, but for calipers.

    Raises
    ------
    ValueError
        For calipers in whole volumes.
    """
    if images.ndim == 5:
        _refuse_calipers(config)
    ones = [1] * (images.ndim - 2)
    if config.gamma:
        power = (1 + config.gamma) ** (torch.rand(len(images), 1, *ones) * 2 - 1)
        images = images.clamp(0, 1) ** power.to(images)
    if config.speckle:
        noise = torch.randn(len(images), 1, *images.shape[2:])
        images = (images * (1 + config.speckle * noise.to(images))).clamp(0, 1)
    if config.calipers:
        drawn = crosses(len(images), images.shape[2:], config.calipers).to(images.device)
        images = images.masked_fill(drawn, 1.0)
    return images


def _refuse_calipers(config: AugmentConfig) -> None:
    if config.calipers:
        raise ValueError("calipers are drawn into images, not into whole volumes")


def crosses(n: int, size: Sequence[int], most: int) -> Tensor:
    """Where crosses lie in images, (n, 1, H, W) of bool: each gets from none to ``most``, evenly.

    An arm is a pixel wide and as long as a fiftieth of the shorter side, at least two; whole
    crosses lie inside, anywhere with equal probability.
    """
    arm = max(2, min(size) // 50)
    drawn = torch.zeros(n, 1, *size, dtype=torch.bool)
    for image, count in zip(drawn[:, 0], torch.randint(0, most + 1, (n,)).tolist(), strict=True):
        for _ in range(count):
            y, x = (int(torch.randint(arm, side - arm, ())) for side in size)
            image[y, x - arm : x + arm + 1] = True
            image[y - arm : y + arm + 1, x] = True
    return drawn


def seen_window(n: int, size: Sequence[int], crop: float) -> Tensor:
    """A random rectangle an image, (n, 1, H, W) of bool: False beside it.

    On each of the four sides up to ``crop`` of the image lies outside, uniformly drawn.
    """
    inside = torch.ones(n, 1, *size, dtype=torch.bool)
    for axis, side in enumerate(size):
        place = (torch.arange(side) + 0.5) / side
        low, high = torch.rand(2, n, 1) * crop
        kept = (place >= low) & (place <= 1 - high)
        inside &= kept.view(n, 1, *[side if a == axis else 1 for a in range(len(size))])
    return inside


def rescaled(images: Tensor, scale: float) -> Tensor:
    """Images enlarged or made smaller, (B, C, S, S) to (B, C, scale S, scale S), bilinearly.

    Of volumes each slice is.
    """
    return _of_side(images, max(1, round(images.shape[-1] * scale)))


def random_size(images: Tensor, scales: tuple[float, float]) -> Tensor:
    """A batch enlarged or made smaller by one factor for all of its images.

    Parameters
    ----------
    images : (B, C, S, S) Tensor
    scales : tuple of float
        The factor is drawn uniformly between these two, from torch's global generator.

    Returns
    -------
    (B, C, R, R) Tensor
        R is the nearest multiple of `SIDE_STEP` pixels, at least one of it: a few sizes, for which
        libraries keep their kernels.
    """
    low, high = scales
    factor = low + (high - low) * float(torch.rand(()))
    return _of_side(images, SIDE_STEP * max(1, round(images.shape[-1] * factor / SIDE_STEP)))


def _of_side(images: Tensor, side: int) -> Tensor:
    if side == images.shape[-1]:
        return images
    if images.ndim == 5:
        return _of_side(images.flatten(1, 2), side).unflatten(1, images.shape[1:3])
    return F.interpolate(images, size=(side, side), mode="bilinear", antialias=True)


def augment_pairs(
    images: Tensor, truths: Tensor, config: PatchAugmentConfig, fill: Tensor
) -> tuple[Tensor, Tensor]:
    """Change every image of a batch by its own random draw, and its truth alike.

    Parameters
    ----------
    images : Tensor
        (B, C, *size), of two or three dimensions.
    truths : Tensor
        (B, *size) of 0, 1 and `weakseg.data.patches.IGNORE`.
    config : PatchAugmentConfig
        Rotation, zoom and shift are for two dimensions.
    fill : Tensor
        (B, C), what comes in from outside of an image.

    Returns
    -------
    images, truths : Tensor
        Of the same shapes. What comes in from outside of an image enters no loss.
    """
    n, dims = len(images), images.ndim - 2
    if config.rotate or config.zoom or config.shift:
        images, truths = _turn(images, truths, config, fill)
    elif config.flip:
        images, truths = _mirror(images, truths, left_right_axis(dims))
    if config.flip_all:
        for axis in range(dims):
            images, truths = _mirror(images, truths, axis)
    ones = [1] * dims
    if config.contrast or config.brightness:
        factor = 1 + (torch.rand(n, 1, *ones) * 2 - 1) * config.contrast
        offset = (torch.rand(n, 1, *ones) * 2 - 1) * config.brightness
        images = (images * factor.to(images) + offset.to(images)).clamp(0, 1)
    images = scanner_look(images, config)
    if config.crop:
        inside = seen_window(n, images.shape[2:], config.crop).to(images.device)
        images = torch.where(inside, images, fill.view(*fill.shape, *ones).to(images))
        truths = torch.where(inside[:, 0], truths, IGNORE).to(truths.dtype)
    if config.intensity_shift or config.intensity_scale:
        channels = images.shape[1]
        factor = 1 + torch.randn(n, channels, *ones) * config.intensity_scale
        offset = torch.randn(n, channels, *ones) * config.intensity_shift
        images = (images + offset.to(images)) * factor.to(images)
    return images, truths


def blended(images: Tensor, heat: Tensor, most: float) -> Tensor:
    """Images with a heatmap laid over them in white, as thick as it is hot.

    Parameters
    ----------
    images : (B, C, H, W) Tensor
        In [0, 1].
    heat : (B, 1, H, W) Tensor
        In [0, 1].
    most : float
        The share of white at a heat of 1 is drawn for each image, uniformly from 0 to this, from
        torch's global generator.

    Returns
    -------
    (B, C, H, W) Tensor
        Where there is no heat an image is as it was.
    """
    share = torch.rand(len(images), 1, 1, 1).to(images) * most * heat.to(images)
    return images + share * (1 - images)


def _turn(
    images: Tensor, truths: Tensor, config: AugmentConfig, fill: Tensor
) -> tuple[Tensor, Tensor]:
    matrix = random_affine(len(images), config).to(images.device, images.dtype)
    grid = F.affine_grid(matrix, list(images.shape), align_corners=False)
    outside = fill[:, :, None, None].to(images)
    images = F.grid_sample(images - outside, grid, align_corners=False) + outside
    # Shifted by one, so that zero stands for "outside" and the nearest neighbour for itself.
    moved = F.grid_sample((truths[:, None].float() + 1), grid, mode="nearest", align_corners=False)[
        :, 0
    ].round()
    truths = torch.where(moved == 0, IGNORE, moved.long() - 1).to(truths.dtype)
    return images, truths


def _mirror(images: Tensor, truths: Tensor, axis: int) -> tuple[Tensor, Tensor]:
    """Mirror each image of a batch along a spatial axis with probability 1/2."""
    chosen = (torch.rand(len(images)) < 0.5).to(images.device)
    pick = chosen.view(-1, *[1] * (images.ndim - 1))
    images = torch.where(pick, images.flip(axis + 2), images)
    truths = torch.where(pick[:, 0], truths.flip(axis + 1), truths)
    return images, truths
