"""SW-UNet: a U-Net with a few modules of windowed self-attention, and attention that fuses images.

After the abstract: convolutions and a vision transformer in one U-Net; self-attention in sliding
windows; its vectors are widened, so that few modules and a small network do, as medical sets are
small; several images are fused by a hybrid of channel and space attention. Sizes, places of the
modules and the fusion's inner make are ours.

References
----------
"SW-UNet: a U-Net fusing sliding window transformer block with CNN for segmentation of lung
nodules", Frontiers in Medicine 2023, 1273441.
Woo et al., "CBAM: convolutional block attention module", ECCV 2018 (channel, then space).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from weakseg.models.blocks import CONV, POOL, UP, convolution, double, start_for_relu
from weakseg.models.transformer import WindowAttention
from weakseg.models.whole_image import WholeImage, cropped, padded

WIDTHS = (24, 48, 96, 192)
WINDOW = {2: 8, 3: 4}
"""Side of a window of places, by dimensions."""
HEADS, WIDEN = 6, 2
STEM = 8
"""Maps that each image has before it is fused."""


class ImageFusion(nn.Module):
    """Images of one place (sequences of a scanner, colours) weighed as wholes and place by place.

    Every image gets maps of its own; each map is weighed by the means and maxima of all, then
    every place of every image by what its maps say there.

    Parameters
    ----------
    images : int
    out : int
        Maps of the fusion.
    dims : {2, 3}
    """

    def __init__(self, images: int, out: int, dims: int) -> None:
        super().__init__()
        self.images, maps = images, images * STEM
        self.stem = nn.Sequential(
            CONV[dims](images, maps, 3, padding=1, groups=images), nn.ReLU(inplace=True)
        )
        between = max(4, maps // 4)
        self.channel = nn.Sequential(nn.Linear(maps, between), nn.ReLU(), nn.Linear(between, maps))
        # Of each image two maps, its mean and its maximum; out comes one weight a place.
        self.space = CONV[dims](2 * images, images, 7, padding=3)
        self.join = convolution(maps, out, dims, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, images, *size) to (B, out, *size)."""
        maps = self.stem(x)
        flat = maps.flatten(2)
        said = torch.sigmoid(self.channel(flat.mean(2)) + self.channel(flat.amax(2)))
        maps = maps * said.view(*said.shape, *[1] * (x.ndim - 2))
        each = [maps[:, i * STEM : (i + 1) * STEM] for i in range(self.images)]
        shown = [f for m in each for f in (m.mean(1, keepdim=True), m.amax(1, keepdim=True))]
        weights = torch.sigmoid(self.space(torch.cat(shown, dim=1)))
        each = [m * weights[:, i : i + 1] for i, m in enumerate(each)]
        return self.join(torch.cat(each, dim=1))


class SWUNet(WholeImage):
    """The network: fusion, a U-Net, and windowed self-attention on its two deepest levels.

    Parameters
    ----------
    in_channels : int
        Images of one place.
    classes : int
        Background included.
    dims : {2, 3}, optional
    """

    def __init__(self, in_channels: int, classes: int, dims: int = 2) -> None:
        super().__init__()
        self.fusion = ImageFusion(in_channels, WIDTHS[0], dims)
        self.pool = POOL[dims](2)
        self.down = nn.ModuleList(
            double(a, b, dims) for a, b in zip((WIDTHS[0], *WIDTHS[:-1]), WIDTHS, strict=True)
        )
        self.up = nn.ModuleList(UP[dims](w, w // 2, 2, stride=2) for w in WIDTHS[:0:-1])
        self.merge = nn.ModuleList(double(w, w // 2, dims) for w in WIDTHS[:0:-1])
        self.head = CONV[dims](WIDTHS[0], classes, 1)
        start_for_relu(self)
        self.attention = nn.ModuleList(
            WindowAttention(w, HEADS, 2 * w, WIDEN, dims, WINDOW[dims]) for w in WIDTHS[-2:]
        )

    def forward(self, x: Tensor) -> Tensor:
        """Logits (B, K, *size) of images (B, C, *size)."""
        size = x.shape[2:]
        x = self.fusion(padded(x, 2 ** (len(WIDTHS) - 1)))
        skips: list[Tensor] = []
        plain = len(self.down) - len(self.attention)
        for level, convolve in enumerate(self.down):
            x = convolve(x if level == 0 else self.pool(x))
            if level >= plain:
                x = self.attention[level - plain](x)
            skips.append(x)
        skips.pop()
        for raise_, merge, skip in zip(self.up, self.merge, reversed(skips), strict=True):
            x = merge(torch.cat([skip, raise_(x)], dim=1))
        return cropped(self.head(x), size)


def build_sw_unet(channels: int, classes: int, dims: int, _: str) -> SWUNet:
    """With random weights."""
    return SWUNet(channels, classes, dims)
