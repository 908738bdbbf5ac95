"""TransUNet: a classifier's layers, a vision transformer on their last map, raised with skips.

References
----------
Chen et al., "TransUNet: transformers make strong encoders for medical image segmentation",
arXiv 2102.04306.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from weakseg.models.blocks import convolution
from weakseg.models.encoders import OnEncoder
from weakseg.models.transformer import EveryPlace
from weakseg.models.whole_image import cropped, padded, resized

DECODER = (256, 128, 64, 16)
"""Maps of the upsampler's blocks, the deepest first, as published."""

_DEEPEST = 4  # stride 16


class TransUNet(OnEncoder):
    """The network.

    Parameters
    ----------
    in_channels : {1, 3}
    classes : int
        Background included.
    encoder : str
        Of `weakseg.models.encoders.ENCODERS`; its layers behind stride 16 are left out, as the
        article's ResNet has none.
    width, layers, heads, hidden : int, optional
        Of the transformer. The article's are those of ViT-Base, 768, 12, 12 and 3072, with weights
        from ImageNet-21k, which ours has not: it is random at the beginning, and a smaller one.

    Notes
    -----
    As published: the transformer reads places of the stride-16 map one by one; its tokens become a
    map again, a 3-convolution to 512 maps follows, then four blocks that raise it by two
    (bilinear), join the skip connections of strides 8, 4 and 2, and convolve twice. Departures:
    encoders are torchvision's or timm's with batch normalisation where the article's ResNet-50 has
    group normalisation, and learnt positions are interpolated, so that any size of image is taken.
    """

    def __init__(
        self,
        in_channels: int,
        classes: int,
        encoder: str,
        *,
        width: int = 384,
        layers: int = 6,
        heads: int = 6,
        hidden: int = 1536,
    ) -> None:
        super().__init__(in_channels, encoder, _DEEPEST)
        _, *skips, deepest = self.widths
        self.transformer = EveryPlace(deepest, width, layers, heads, hidden)
        self.bottom = convolution(width, 512, 2)
        entering = (512, *DECODER[:-1])
        beside = (*reversed(skips), 0)
        self.blocks = nn.ModuleList(
            nn.Sequential(convolution(a + s, b, 2), convolution(b, b, 2))
            for a, s, b in zip(entering, beside, DECODER, strict=True)
        )
        self.head = nn.Conv2d(DECODER[-1], classes, 3, padding=1)

    def forward(self, images: Tensor) -> Tensor:
        """Logits (B, K, H, W) of images (B, C, H, W) in [0, 1], of any size."""
        _, *skips, deepest = self.maps(padded(images, 2**_DEEPEST))
        x = self.bottom(self.transformer(deepest))
        for block, skip in zip(self.blocks, [*reversed(skips), None], strict=True):
            x = resized(x, [2 * n for n in x.shape[2:]])
            x = block(x if skip is None else torch.cat([x, skip], dim=1))
        return cropped(self.head(x), images.shape[2:])


def build_transunet(channels: int, classes: int, _: int, encoder: str) -> TransUNet:
    """With random weights."""
    return TransUNet(channels, classes, encoder)
