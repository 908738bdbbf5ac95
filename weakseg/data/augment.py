"""Random changes of a batch of training images: each image its own, all at once."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from weakseg.config import AugmentConfig


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
        (B, C, H, W) in [0, 1].
    config : AugmentConfig

    Returns
    -------
    Tensor
        (B, C, H, W) in [0, 1]. What comes in from outside of the image is 0, as its padding.
    """
    n = len(images)
    matrix = random_affine(n, config).to(images.device, images.dtype)
    grid = F.affine_grid(matrix, list(images.shape), align_corners=False)
    out = F.grid_sample(images, grid, padding_mode="zeros", align_corners=False)
    if config.contrast or config.brightness:
        factor = 1 + (torch.rand(n, 1, 1, 1) * 2 - 1) * config.contrast
        offset = (torch.rand(n, 1, 1, 1) * 2 - 1) * config.brightness
        out = (out * factor.to(out) + offset.to(out)).clamp(0, 1)
    return out
