"""U-Nets whose contracting path is a classifier, by segmentation_models_pytorch.

References
----------
Iglovikov, Shvets, "TernausNet: U-Net with VGG11 encoder pre-trained on ImageNet", arXiv 1801.05746.
Iakubovskii, "Segmentation Models Pytorch", https://github.com/qubvel-org/segmentation_models.pytorch.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from weakseg.errors import ConfigError
from weakseg.models.classifiers import RGB_MEAN, RGB_STD
from weakseg.models.fcn import WholeImage

ENCODERS: dict[str, str] = {
    "resnet18": "resnet18",
    "resnet34": "resnet34",
    "resnet50": "resnet50",
    "vgg16": "vgg16",
    "densenet121": "densenet121",
    "mobilenet_v2": "mobilenet_v2",
    "squeezenet1_1": "",
    "tf_efficientnet_lite0": "tu-tf_efficientnet_lite0",
}
"""Name of the classifier, in torchvision or timm → its name in segmentation_models_pytorch.

The library has no SqueezeNet; ours is `SqueezeNetEncoder`.
"""

HALF = frozenset({"tf_efficientnet_lite0"})
"""Encoders whose weights were trained with a mean and standard deviation of 0.5."""

DECODER = (256, 128, 64, 32, 16)
"""Maps of the decoder's blocks, as the library has them, the deepest first."""

_SQUEEZENET_TAPS = (1, 4, 7, 12)  # the last layer of strides 2, 4, 8 and 16


class SqueezeNetEncoder(nn.Module):
    """The maps of a SqueezeNet 1.1 at strides 1 (the image), 2, 4, 8 and 16.

    The first convolution is padded by one pixel, which torchvision's is not, so that sides of
    2, 4, 8 and 16 are those of the image divided by them and maps lie over each other.
    """

    out_channels = (1, 64, 128, 256, 512)

    def __init__(self, in_channels: int) -> None:
        super().__init__()
        from torchvision.models import squeezenet1_1

        self.features = squeezenet1_1(weights=None).features
        old = self.features[0]
        self.features[0] = nn.Conv2d(in_channels, old.out_channels, 3, stride=2, padding=1)

    def forward(self, x: Tensor) -> list[Tensor]:
        maps = [x]
        for i, layer in enumerate(self.features):
            x = layer(x)
            if i in _SQUEEZENET_TAPS:
                maps.append(x)
        return maps


class EncoderUNet(WholeImage):
    """The network.

    Parameters
    ----------
    in_channels : {1, 3}
    classes : int
        Background included.
    encoder : str
        Of `ENCODERS`.

    Raises
    ------
    ConfigError
        For images of neither one nor three channels.

    Notes
    -----
    ``forward`` takes intensities in [0, 1] and normalises them as the encoder's weights expect,
    grey ones by the average of the colours.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, in_channels: int, classes: int, encoder: str) -> None:
        super().__init__()
        from segmentation_models_pytorch.decoders.unet.decoder import UnetDecoder

        if in_channels not in (1, 3):
            raise ConfigError(
                "A U-Net on a classifier takes grey or colour images.",
                found=f"{in_channels} channels",
                expected="1 or 3",
                fix="choose unet or deepmedic for images of several modalities",
            )
        name = ENCODERS[encoder]
        if name:
            from segmentation_models_pytorch.encoders import get_encoder

            self.encoder: nn.Module = get_encoder(name, in_channels=in_channels, weights=None)
        else:
            self.encoder = SqueezeNetEncoder(in_channels)
        widths = tuple(self.encoder.out_channels)
        decoder = DECODER[-len(widths) + 1 :]
        self.decoder = UnetDecoder(widths, decoder, n_blocks=len(decoder))
        self.head = nn.Conv2d(decoder[-1], classes, 3, padding=1)
        mean, std = ([0.5] * 3, [0.5] * 3) if encoder in HALF else (list(RGB_MEAN), list(RGB_STD))
        if in_channels == 1:
            mean, std = [sum(mean) / 3], [sum(std) / 3]
        self.register_buffer("mean", torch.tensor(mean).view(1, -1, 1, 1))
        self.register_buffer("std", torch.tensor(std).view(1, -1, 1, 1))

    def forward(self, images: Tensor) -> Tensor:
        """Logits (B, K, H, W) of images (B, C, H, W) in [0, 1], of any size."""
        return self.head(self.decoder(self.encoder((images - self.mean) / self.std)))
