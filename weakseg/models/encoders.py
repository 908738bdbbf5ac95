"""Classifiers as the contracting paths of segmentation networks, by segmentation_models_pytorch.

References
----------
Iakubovskii, "Segmentation Models Pytorch", https://github.com/qubvel-org/segmentation_models.pytorch.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from weakseg.errors import ConfigError
from weakseg.models.classifiers import RGB_MEAN, RGB_STD
from weakseg.models.whole_image import WholeImage

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

BEHIND_16: dict[str, tuple[str, ...]] = {
    "resnet18": ("layer4",),
    "resnet34": ("layer4",),
    "resnet50": ("layer4",),
    "densenet121": ("features.transition3.conv", "features.denseblock4", "features.norm5"),
    "mobilenet_v2": tuple(f"features.{i}" for i in range(14, 19)),
    "tf_efficientnet_lite0": ("model.blocks.5", "model.blocks.6"),
}
"""Layers behind the map of stride 16, which the library keeps, and of some runs for nothing.

The library's VGG-16 and our SqueezeNet have none.
"""

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


def _cut(net: nn.Module, layers: Sequence[str]) -> list[str]:
    """Take layers out of a network; the names that their tensors had."""
    names = set(net.state_dict())
    for layer in layers:
        parent, _, name = layer.rpartition(".")
        delattr(net.get_submodule(parent), name)
    return sorted(names - set(net.state_dict()))


def _overlook(net: nn.Module, state: dict[str, Any], prefix: str, *_: Any) -> None:
    """Take what a network has no layers for from what it is about to load."""
    assert isinstance(net, OnEncoder)
    for name in net.left_out:
        state.pop(prefix + name, None)


class OnEncoder(WholeImage):
    """A network that looks at an image through a classifier's layers.

    Parameters
    ----------
    in_channels : {1, 3}
    encoder : str
        Of `ENCODERS`.
    depth : {5, 4}, optional
        How often the classifier halves the image; with 4 its layers behind are left out.

    Attributes
    ----------
    widths : tuple of int
        Channels of the maps, those of the image first.
    left_out : frozenset of str
        Tensors of the classifier's layers that are left out. A file may hold them; they are not
        read.

    Raises
    ------
    ConfigError
        For images of neither one nor three channels.

    Notes
    -----
    Intensities in [0, 1] are normalised as the encoder's weights expect, grey ones by the average
    of the colours.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, in_channels: int, encoder: str, depth: int = 5) -> None:
        super().__init__()
        if in_channels not in (1, 3):
            raise ConfigError(
                "A network on a classifier takes grey or colour images.",
                found=f"{in_channels} channels",
                expected="1 or 3",
                fix="choose unet or deepmedic for images of several modalities",
            )
        name = ENCODERS[encoder]
        if name:
            from segmentation_models_pytorch.encoders import get_encoder

            self.encoder: nn.Module = get_encoder(
                name, in_channels=in_channels, weights=None, depth=depth
            )
        else:
            self.encoder = SqueezeNetEncoder(in_channels)
        self.widths = tuple(int(n) for n in self.encoder.out_channels)
        behind = BEHIND_16.get(encoder, ()) if depth < 5 else ()
        self.left_out = frozenset(f"encoder.{n}" for n in _cut(self.encoder, behind))
        self.register_load_state_dict_pre_hook(_overlook)
        mean, std = ([0.5] * 3, [0.5] * 3) if encoder in HALF else (list(RGB_MEAN), list(RGB_STD))
        if in_channels == 1:
            mean, std = [sum(mean) / 3], [sum(std) / 3]
        self.register_buffer("mean", torch.tensor(mean).view(1, -1, 1, 1))
        self.register_buffer("std", torch.tensor(std).view(1, -1, 1, 1))

    def maps(self, images: Tensor) -> list[Tensor]:
        """The image and the encoder's maps, each of half the size of the one before."""
        return list(self.encoder((images - self.mean) / self.std))
