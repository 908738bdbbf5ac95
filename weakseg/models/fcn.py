"""Fully convolutional networks on a classifier's backbone, and torchvision's two.

References
----------
Long, Shelhamer, Darrell, "Fully convolutional networks for semantic segmentation", CVPR 2015.
Chen et al., "Rethinking atrous convolution for semantic image segmentation", arXiv 1706.05587.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from weakseg.errors import ConfigError, did_you_mean
from weakseg.models.classifier import Classifier, ClassifierSpec
from weakseg.models.classifiers import RGB_MEAN, RGB_STD, build_classifier
from weakseg.models.layers import ARCHITECTURES
from weakseg.models.receptive_field import strides
from weakseg.models.whole_image import WholeImage, at_least, cropped

PUBLISHED_TAPS: dict[str, dict[int, str]] = {
    "vgg16": {4: "features.9", 8: "features.16", 16: "features.23", 32: "features.30"},
}
"""Layers that are scored where the article names them: the outputs of VGG's poolings."""

_PROBE = 256  # side of the image on which strides are computed
_LEAST = 32
"""Side of the smallest image of which every backbone has maps; smaller ones go on to it."""


def taps(classifier: Classifier) -> dict[int, str]:
    """Layers to score: for each stride of the network, its last map of that stride.

    Layers are the modules beside the default heatmap layer (the stages of a ResNet, the blocks of
    a MobileNet), up to that layer; for VGG the article's (`PUBLISHED_TAPS`). Strides are computed
    from the network itself.

    Returns
    -------
    dict of str
        Names below ``classifier.net`` by stride, ascending.
    """
    arch = classifier.spec.arch
    if arch in PUBLISHED_TAPS:
        return PUBLISHED_TAPS[arch]
    if arch not in ARCHITECTURES:
        raise ConfigError(f"There is no FCN on {arch}.", fix=did_you_mean(arch, ARCHITECTURES))
    deepest = ARCHITECTURES[arch]
    parent = deepest.rpartition(".")[0]
    layers: dict[int, str] = {}
    for name, stride in strides(
        classifier.net, (1, classifier_inputs(classifier), _PROBE, _PROBE)
    ).items():
        if name.rpartition(".")[0] == parent:
            layers[int(stride)] = name
        if name == deepest:
            break
    return dict(sorted(layers.items()))


def classifier_inputs(classifier: Classifier) -> int:
    """Channels that ``classifier.net`` takes: three for grey images that are repeated."""
    return 3 if classifier.spec.grey_input == "repeat" else classifier.spec.channels


class FCN(WholeImage):
    """Class scores of several depths, summed and upsampled.

    The deepest map is scored by a 1×1 convolution, upsampled by two, the scores of the next
    shallower map are added, and so on to ``stride``; the sum is upsampled to the image. FCN-8s of
    the article is ``stride=8``, FCN-32s ``stride=32``.

    Parameters
    ----------
    classifier : Classifier
        Its convolutional part becomes the backbone, weights shared.
    classes : int
        Background included.
    stride : int
        Of the finest map that is scored.

    Raises
    ------
    ConfigError
        If the network has no map of that stride (a SqueezeNet's deepest is 16: it has 16s, 8s and
        4s), or is not one of `ARCHITECTURES`.

    Notes
    -----
    ``forward`` takes intensities in [0, 1] and normalises them as the classifier does.

    As published: score layers start at zero and upsampling at bilinear interpolation. Departures:
    upsampling stays bilinear, where the article goes on to learn it between depths; images are not
    padded by 100; VGG's two fully connected layers are left out, so that any backbone serves.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, classifier: Classifier, classes: int, stride: int) -> None:
        super().__init__()
        layers = taps(classifier)
        if stride not in layers:
            arch, deepest = classifier.spec.arch, max(layers)
            raise ConfigError(
                f"{arch} has no map of stride {stride}.",
                where="segmenter.arch",
                found=f"FCN-{stride}s",
                expected=f"a stride of {', '.join(str(s) for s in layers if s > 1)}",
                fix=f"fcn{deepest}s:{arch}, or another backbone",
            )
        self.strides = [s for s in layers if s >= stride]
        self.repeat = classifier_inputs(classifier) != classifier.spec.channels
        from torchvision.models.feature_extraction import create_feature_extractor

        self.backbone = create_feature_extractor(
            classifier.net, {layers[s]: str(s) for s in self.strides}
        )
        self.register_buffer("mean", classifier.mean.clone())
        self.register_buffer("std", classifier.std.clone())
        widths = _widths(self.backbone, classifier_inputs(classifier))
        self.score = nn.ModuleDict(
            {str(s): nn.Conv2d(widths[str(s)], classes, 1) for s in self.strides}
        )
        for layer in self.score.values():
            for weights in layer.parameters():
                nn.init.zeros_(weights)

    def forward(self, images: Tensor) -> Tensor:
        """Logits (B, K, H, W) of images (B, C, H, W) in [0, 1]."""
        grown = at_least(images, _LEAST)
        x = (grown - self.mean) / self.std
        if self.repeat:
            x = x.expand(-1, 3, -1, -1)
        maps = self.backbone(x)
        coarse, *finer = reversed(self.strides)
        total = self.score[str(coarse)](maps[str(coarse)])
        for stride in finer:
            scores = self.score[str(stride)](maps[str(stride)])
            total = _upsampled(total, coarse // stride, scores.shape[2:]) + scores
            coarse = stride
        return cropped(_upsampled(total, coarse, grown.shape[2:]), images.shape[2:])


def _upsampled(x: Tensor, factor: int, size: Sequence[int]) -> Tensor:
    """Bilinear by a whole factor, so that strides stay exact, then cut or continued to a size."""
    if factor > 1:
        x = F.interpolate(x, scale_factor=factor, mode="bilinear", align_corners=False)
    x = x[:, :, : size[0], : size[1]]
    lacking = [n - have for n, have in zip(size, x.shape[2:], strict=True)]
    if any(lacking):
        x = F.pad(x, [0, lacking[1], 0, lacking[0]], mode="replicate")
    return x


def _widths(backbone: nn.Module, channels: int) -> dict[str, int]:
    """Channels of each map."""
    weights = {
        n: torch.empty_like(t, device="meta")
        for n, t in [*backbone.named_parameters(), *backbone.named_buffers()]
    }
    image = torch.empty(2, channels, _PROBE, _PROBE, device="meta")
    with torch.no_grad():
        maps = torch.func.functional_call(backbone, weights, (image,))
    return {name: out.shape[1] for name, out in maps.items()}


def build_fcn(in_channels: int, classes: int, stride: int, arch: str = "vgg16") -> FCN:
    """An FCN with random weights on a classifier of `ARCHITECTURES`.

    Raises
    ------
    ConfigError
        See `FCN`; or for images of neither one nor three channels.
    """
    _check_channels(in_channels, f"fcn{stride}s")
    if arch not in ARCHITECTURES:
        raise ConfigError(f"There is no FCN on {arch!r}.", fix=did_you_mean(arch, ARCHITECTURES))
    classifier = build_classifier(
        ClassifierSpec(arch, tuple(map(str, range(classes))), in_channels)
    )
    return FCN(classifier, classes, stride)


class TorchvisionSegmenter(WholeImage):
    """A segmentation network of torchvision that takes grey images as well.

    Parameters
    ----------
    net : nn.Module
        Gives a dictionary with ``out``.
    channels : {1, 3}
        Grey images are repeated three times and normalised by the average of the colours, as
        `Classifier` does.

    Notes
    -----
    DeepLab's image pooling is batch-normalised: training needs two images a batch or more.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, net: nn.Module, channels: int) -> None:
        super().__init__()
        self.net = net
        mean, std = RGB_MEAN, RGB_STD
        if channels == 1:
            mean, std = (sum(mean) / 3,) * 3, (sum(std) / 3,) * 3
        self.register_buffer("mean", torch.tensor(mean).view(1, -1, 1, 1))
        self.register_buffer("std", torch.tensor(std).view(1, -1, 1, 1))

    def forward(self, images: Tensor) -> Tensor:
        """Logits (B, K, H, W) of images (B, C, H, W) in [0, 1]."""
        return self.net((images.expand(-1, 3, -1, -1) - self.mean) / self.std)["out"]


def build_fcn_resnet50(in_channels: int, classes: int) -> TorchvisionSegmenter:
    """torchvision's FCN on a ResNet-50 of stride 8, with random weights."""
    from torchvision.models import segmentation

    _check_channels(in_channels, "fcn_resnet50")
    net = segmentation.fcn_resnet50(weights=None, weights_backbone=None, num_classes=classes)
    return TorchvisionSegmenter(net, in_channels)


def build_deeplabv3_resnet50(in_channels: int, classes: int) -> TorchvisionSegmenter:
    """torchvision's DeepLabV3 on a ResNet-50 of stride 8, with random weights."""
    from torchvision.models import segmentation

    _check_channels(in_channels, "deeplabv3_resnet50")
    net = segmentation.deeplabv3_resnet50(weights=None, weights_backbone=None, num_classes=classes)
    return TorchvisionSegmenter(net, in_channels)


def _check_channels(channels: int, name: str) -> None:
    if channels not in (1, 3):
        raise ConfigError(
            f"{name} takes grey or colour images.",
            found=f"{channels} channels",
            expected="1 or 3",
            fix="choose unet or deepmedic for images of several modalities",
        )
