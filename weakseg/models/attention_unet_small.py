"""A U-Net of at most a million parameters with attention.

After the abstract: attention that brings global context at few parameters. What stands for it here
is ours: depthwise separable convolutions, squeeze-and-excitation, and attention gates on the skip
connections; the abstract gives neither modules nor sizes.

References
----------
"Parameter-efficient attention", dissertation, 10.37099/mtu.dc.etdr/1941.
Chollet, "Xception: deep learning with depthwise separable convolutions", CVPR 2017.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn

from weakseg.models.blocks import (
    CONV,
    NORM,
    POOL,
    UP,
    AttentionGate,
    SqueezeExcite,
    start_for_relu,
)
from weakseg.models.whole_image import WholeImage, cropped, padded

WIDTHS = (32, 64, 128, 256, 384)


def separable(channels: int, out: int, dims: int) -> nn.Sequential:
    """A 3-convolution of each map, then a 1-convolution between them, normalised, with ReLU."""
    return nn.Sequential(
        CONV[dims](channels, channels, 3, padding=1, groups=channels, bias=False),
        CONV[dims](channels, out, 1, bias=False),
        NORM[dims](out),
        nn.ReLU(inplace=True),
    )


class SmallAttentionUNet(WholeImage):
    """The network.

    Parameters
    ----------
    in_channels : int
    classes : int
        Background included.
    dims : {2, 3}, optional
    """

    def __init__(self, in_channels: int, classes: int, dims: int = 2) -> None:
        super().__init__()

        def level(channels: int, out: int) -> nn.Sequential:
            return nn.Sequential(
                separable(channels, out, dims),
                separable(out, out, dims),
                SqueezeExcite(out, dims),
            )

        first, *_ = WIDTHS
        self.stem = CONV[dims](in_channels, first, 3, padding=1)
        self.pool = POOL[dims](2)
        pairs = list(pairwise(WIDTHS))[::-1]
        self.down = nn.ModuleList(
            level(a, b) for a, b in zip((first, *WIDTHS[:-1]), WIDTHS, strict=True)
        )
        # Raised map by map: a full transposed convolution would hold most of the parameters.
        self.up = nn.ModuleList(
            nn.Sequential(UP[dims](b, b, 2, stride=2, groups=b), CONV[dims](b, a, 1))
            for a, b in pairs
        )
        self.gates = nn.ModuleList(AttentionGate(a, a, a // 4, dims) for a, _ in pairs)
        self.merge = nn.ModuleList(level(2 * a, a) for a, _ in pairs)
        self.head = CONV[dims](first, classes, 1)
        start_for_relu(self)

    def forward(self, x: Tensor) -> Tensor:
        """Logits (B, K, *size) of images (B, C, *size)."""
        size = x.shape[2:]
        x = self.stem(padded(x, 2 ** (len(WIDTHS) - 1)))
        skips: list[Tensor] = []
        for i, convolve in enumerate(self.down):
            x = convolve(x if i == 0 else self.pool(x))
            skips.append(x)
        skips.pop()
        for raise_, gate, merge in zip(self.up, self.gates, self.merge, strict=True):
            x, skip = raise_(x), skips.pop()
            x = merge(torch.cat([gate(skip, x), x], dim=1))
        return cropped(self.head(x), size)


def build_small(channels: int, classes: int, dims: int, _: str) -> SmallAttentionUNet:
    """With random weights."""
    return SmallAttentionUNet(channels, classes, dims)
