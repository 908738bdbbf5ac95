"""A convolutional network on two scales with connections across layers.

After the abstract: cross-layer connections, features of two scales at once, and dropout whose
probability follows a layer's depth (`weakseg.training.dropout`, on by default for this network).
Sizes are ours.

References
----------
"An optimized convolutional neural network with adaptive dropout for medical image segmentation",
Complexity 2020, 1645479.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from weakseg.models.blocks import CONV, POOL, convolution, start_for_relu
from weakseg.models.whole_image import WholeImage, cropped, padded, resized

FACTORS = (2, 4)
"""Strides of the two scales."""
LAYERS, WIDTH = 6, 32


class Crossed(nn.Module):
    """Convolutions each of which reads the outputs of all before it.

    Parameters
    ----------
    channels, out : int
        Of the input, and of every layer.
    layers : int
    dims : {2, 3}
    """

    def __init__(self, channels: int, out: int, layers: int, dims: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            convolution(channels + i * out, out, dims) for i in range(layers)
        )

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, *size) to (B, C + layers · out, *size)."""
        for layer in self.layers:
            x = torch.cat([x, layer(x)], dim=1)
        return x


class TwoScaleCNN(WholeImage):
    """The network: two pathways at strides 2 and 4, joined at the finer, raised to the image.

    Parameters
    ----------
    in_channels : int
    classes : int
        Background included.
    dims : {2, 3}, optional
    """

    def __init__(self, in_channels: int, classes: int, dims: int = 2) -> None:
        super().__init__()
        self.stem = convolution(in_channels, WIDTH, dims, 3)
        self.pools = nn.ModuleList(POOL[dims](f) for f in FACTORS)
        self.paths = nn.ModuleList(Crossed(WIDTH, WIDTH, LAYERS, dims) for _ in FACTORS)
        self.squeeze = nn.ModuleList(
            convolution(WIDTH * (1 + LAYERS), 2 * WIDTH, dims, 1) for _ in FACTORS
        )
        self.join = convolution(2 * WIDTH * len(FACTORS), 2 * WIDTH, dims)
        # The image's own detail again, across all layers.
        self.last = convolution(3 * WIDTH, WIDTH, dims)
        self.head = CONV[dims](WIDTH, classes, 1)
        start_for_relu(self)

    def forward(self, x: Tensor) -> Tensor:
        """Logits (B, K, *size) of images (B, C, *size)."""
        size = x.shape[2:]
        stem = self.stem(padded(x, max(FACTORS)))
        maps = [
            squeeze(path(pool(stem)))
            for pool, path, squeeze in zip(self.pools, self.paths, self.squeeze, strict=True)
        ]
        joined = self.join(torch.cat([resized(m, maps[0].shape[2:]) for m in maps], dim=1))
        x = self.last(torch.cat([resized(joined, stem.shape[2:]), stem], dim=1))
        return cropped(self.head(x), size)


def build_two_scale(channels: int, classes: int, dims: int, _: str) -> TwoScaleCNN:
    """With random weights."""
    return TwoScaleCNN(channels, classes, dims)
