"""A generator that gives an image of another site the look of the training images, and its critic.

References
----------
Zhu, Park, Isola, Efros, "Unpaired image-to-image translation using cycle-consistent adversarial
networks", ICCV 2017, for a discriminator of patches.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

WIDTH = 16
"""Maps of a generator's layers."""

_SLOPE = 0.2


class Generator(nn.Module):
    """An image and what is added to it: nothing before it is trained.

    Three convolutions of 3 x 3, the last of which begins at 0, so that an untrained generator is
    the identity, to the bit.

    Parameters
    ----------
    channels : int
        Of the images.
    width : int, optional
    """

    def __init__(self, channels: int, width: int = WIDTH) -> None:
        super().__init__()
        self.channels, self.width = channels, width
        self.layers = nn.Sequential(
            nn.Conv2d(channels, width, 3, padding=1, padding_mode="replicate"),
            nn.LeakyReLU(_SLOPE),
            nn.Conv2d(width, width, 3, padding=1, padding_mode="replicate"),
            nn.LeakyReLU(_SLOPE),
        )
        self.last = nn.Conv2d(width, channels, 3, padding=1, padding_mode="replicate")
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(self.last.bias)  # type: ignore[arg-type]

    def forward(self, images: Tensor, region: Tensor) -> Tensor:
        """Images (B, C, H, W) changed within a region (B, 1, H, W) of bool, and nowhere else."""
        added: Tensor = self.last(self.layers(images))
        return images + torch.where(region, added, torch.zeros_like(added))


class PatchDiscriminator(nn.Module):
    """Says of each place of an image whether it looks like the training images.

    Two convolutions of stride 2 and two of stride 1: a score stands for 18 x 18 pixels.

    Parameters
    ----------
    channels : int
        Of the images.
    width : int, optional
        Maps of its first layer.
    """

    def __init__(self, channels: int, width: int = 16) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(channels, width, 4, 2, 1),
            nn.LeakyReLU(_SLOPE),
            nn.Conv2d(width, 2 * width, 4, 2, 1),
            nn.LeakyReLU(_SLOPE),
            nn.Conv2d(2 * width, 2 * width, 3, padding=1),
            nn.LeakyReLU(_SLOPE),
            nn.Conv2d(2 * width, 1, 1),
        )

    def forward(self, images: Tensor) -> Tensor:
        """Scores (B, 1, H / 4, W / 4); 1 stands for the training images and 0 for others."""
        out: Tensor = self.layers(images)
        return out
