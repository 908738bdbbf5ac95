"""Segmentation networks by name.

Every network maps images (B, C, *size) to logits (B, K, *output) and says how much of its input's
border has no output: ``margin`` (before, after), ``input_size(output)``, ``output_size(input)``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from weakseg.errors import ConfigError, did_you_mean
from weakseg.models.deepmedic import DeepMedic
from weakseg.models.encoder_unet import ENCODERS, EncoderUNet
from weakseg.models.fcn import (
    FCN,
    TorchvisionSegmenter,
    build_deeplabv3_resnet50,
    build_fcn,
    build_fcn_resnet50,
)
from weakseg.models.layers import ARCHITECTURES
from weakseg.models.receptive_field import ReceptiveField, receptive_fields
from weakseg.models.unet import UNet

Segmenter = DeepMedic | UNet | EncoderUNet | FCN | TorchvisionSegmenter
"""Any network of the registry."""


def _segmenter_fields(
    net: Segmenter, in_channels: int, dims: int, patch: int
) -> dict[str, ReceptiveField]:
    size = net.input_size(patch)
    return receptive_fields(net, (1, in_channels, *[size] * dims))


def _deepmedic_fields(
    net: Segmenter, in_channels: int, dims: int, patch: int
) -> dict[str, ReceptiveField]:
    assert isinstance(net, DeepMedic)
    names = {f"paths.{i}": f"{f}x" for i, f in enumerate(net.variant.factors)}
    # Enough output for every place within a block of the coarsest pathway.
    size = net.input_size(max(patch, net.period))
    fields = receptive_fields(net, (1, in_channels, *[size] * dims), ("", *names))
    return {names.get(layer, layer): window for layer, window in fields.items()}


@dataclass(frozen=True)
class SegmenterSpec:
    """What the registry knows of a network.

    Attributes
    ----------
    build : callable
        From channels, classes (background included) and dimensions to the network.
    patch : dict of int
        Side of the output of a training patch, by supported number of dimensions.
    description : str
    fields : callable
        Receptive field of the scores (``""``) and of named pathways, from the network, its
        channels, dimensions and patch.
    backbones : tuple of str
        Classifiers that may be named behind a colon, the default first.
    """

    build: Callable[[int, int, int, str], Segmenter]
    patch: dict[int, int]
    description: str
    fields: Callable[[Segmenter, int, int, int], dict[str, ReceptiveField]] = field(
        default=_segmenter_fields
    )
    backbones: tuple[str, ...] = ()

    @property
    def dims(self) -> tuple[int, ...]:
        """Supported numbers of dimensions."""
        return tuple(self.patch)


def _unet(channels: int, classes: int, dims: int, _: str) -> UNet:
    return UNet(channels, classes, dims, padding="same", base=32, batch_norm=True, dropout=0.0)


def _unet_original(channels: int, classes: int, dims: int, _: str) -> UNet:
    # Four poolings cost 184 voxels an axis, more than most volumes have: in 3D three, like
    # Çiçek et al. (132 gives 44).
    return UNet(channels, classes, dims) if dims == 2 else UNet(channels, classes, 3, depth=3)


_FCN_BACKBONES = ("vgg16", *[a for a in ARCHITECTURES if a != "vgg16"])

SEGMENTERS: dict[str, SegmenterSpec] = {
    "unet": SegmenterSpec(
        _unet,
        {2: 128, 3: 64},
        "U-Net, same convolutions, batch normalisation, 32 maps at the first level",
    ),
    "unet-original": SegmenterSpec(
        _unet_original,
        {2: 388, 3: 44},
        "U-Net as published: valid convolutions, 64 maps at the first level",
    ),
    "encoder-unet": SegmenterSpec(
        lambda channels, classes, _, encoder: EncoderUNet(channels, classes, encoder),
        {2: 128},
        "U-Net on a classifier, which may be pretrained (segmentation_models_pytorch)",
        backbones=tuple(ENCODERS),
    ),
    "fcn32s": SegmenterSpec(
        lambda channels, classes, _, backbone: build_fcn(channels, classes, 32, backbone),
        {2: 224},
        "FCN-32s: scores of the deepest map",
        backbones=_FCN_BACKBONES,
    ),
    "fcn16s": SegmenterSpec(
        lambda channels, classes, _, backbone: build_fcn(channels, classes, 16, backbone),
        {2: 224},
        "FCN-16s: scores from stride 16 on, summed",
        backbones=_FCN_BACKBONES,
    ),
    "fcn8s": SegmenterSpec(
        lambda channels, classes, _, backbone: build_fcn(channels, classes, 8, backbone),
        {2: 224},
        "FCN-8s: scores from stride 8 on, summed",
        backbones=_FCN_BACKBONES,
    ),
    "fcn_resnet50": SegmenterSpec(
        lambda channels, classes, *_: build_fcn_resnet50(channels, classes),
        {2: 224},
        "torchvision's FCN on a ResNet-50 of stride 8",
    ),
    "deeplabv3_resnet50": SegmenterSpec(
        lambda channels, classes, *_: build_deeplabv3_resnet50(channels, classes),
        {2: 224},
        "torchvision's DeepLabV3 on a ResNet-50 of stride 8",
    ),
    "deepmedic": SegmenterSpec(
        lambda channels, classes, dims, _: DeepMedic(channels, classes, dims, "paper"),
        {2: 9, 3: 9},
        "DeepMedic as published: pathways 1x and 3x",
        _deepmedic_fields,
    ),
    "deepmedic-release": SegmenterSpec(
        lambda channels, classes, dims, _: DeepMedic(channels, classes, dims, "release"),
        {2: 7, 3: 7},
        "DeepMedic 0.6.1: residual connections, a joined layer of 3-kernels",
        _deepmedic_fields,
    ),
    "deepmedic-latest": SegmenterSpec(
        lambda channels, classes, dims, _: DeepMedic(channels, classes, dims, "latest"),
        {2: 21, 3: 21},
        "DeepMedic 0.8.4: pathways 1x, 3x and 5x, a mirrored joined layer",
        _deepmedic_fields,
    ),
}
"""All networks.

FCNs and ``encoder-unet`` take a classifier behind a colon, ``fcn8s:resnet18``; by default VGG-16
and ResNet-18.
"""


def find_segmenter(name: str) -> tuple[SegmenterSpec, str]:
    """The entry of a name, and its backbone (empty where there is none).

    Raises
    ------
    ConfigError
        For an unknown network or backbone, with the nearest.
    """
    base, colon, backbone = name.partition(":")
    spec = SEGMENTERS.get(base)
    if spec is None:
        raise ConfigError(
            f"There is no segmentation network {base!r}.",
            where="segmenter.arch",
            fix=did_you_mean(base, SEGMENTERS),
        )
    if colon and backbone not in spec.backbones:
        raise ConfigError(
            f"{base} has no backbone {backbone!r}.",
            where="segmenter.arch",
            fix=did_you_mean(backbone, spec.backbones)
            if spec.backbones
            else f"write {base} without a colon",
        )
    return spec, backbone or (spec.backbones[0] if spec.backbones else "")


def build_segmenter(name: str, in_channels: int, classes: int, dims: int = 2) -> Segmenter:
    """A segmentation network with random weights.

    Parameters
    ----------
    name : str
        Of `SEGMENTERS`, an FCN's backbone behind a colon.
    in_channels : int
    classes : int
        Background included.
    dims : {2, 3}, optional

    Raises
    ------
    ConfigError
        For an unknown name (with the nearest), dimensions that the network does not support, or
        channels that its backbone does not take.
    """
    spec, backbone = find_segmenter(name)
    if dims not in spec.dims:
        able = [n for n, s in SEGMENTERS.items() if dims in s.dims]
        raise ConfigError(
            f"{name} does not segment images of {dims} dimensions.",
            where="segmenter.arch",
            expected=" or ".join(map(str, spec.dims)),
            fix=f"choose one of: {', '.join(able)}" if able else None,
        )
    return spec.build(in_channels, classes, dims, backbone)
