"""Segmentation networks by name.

Every network maps images (B, C, *size) to logits (B, K, *output) and says how much of its input's
border has no output: ``margin`` (before, after), ``input_size(output)``, ``output_size(input)``.
While it is trained it may give `Outputs` instead: further heads, points, whether there is a lesion.

One room for one registry: an entry a network, and how each is built.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from weakseg.errors import ConfigError, did_you_mean
from weakseg.models.attention_unet_small import build_small
from weakseg.models.cascade import Cascade
from weakseg.models.deepmedic import DeepMedic
from weakseg.models.encoder_unet import EncoderUNet
from weakseg.models.encoder_unetpp import build_encoder_unetpp
from weakseg.models.encoders import ENCODERS
from weakseg.models.fcn import build_deeplabv3_resnet50, build_fcn, build_fcn_resnet50
from weakseg.models.fuzzy_neuro import build_fuzzy_neuro
from weakseg.models.layers import ARCHITECTURES
from weakseg.models.receptive_field import ReceptiveField, receptive_fields
from weakseg.models.render_unet import build_render_unet
from weakseg.models.spoken_names import way_to
from weakseg.models.sw_unet import build_sw_unet
from weakseg.models.transunet import build_transunet
from weakseg.models.two_scale_cnn import build_two_scale
from weakseg.models.unet import UNet, build_mfr_unet, build_unet, build_unet_original
from weakseg.models.unetpp import build_unetpp
from weakseg.models.whole_image import WholeImage

Segmenter = DeepMedic | UNet | WholeImage
"""Any network of the registry."""

_SIDES = {2: 128, 3: 64}
"""Side of a training patch of networks whose scores have the size of the image, by dimensions."""


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
    spoken : str
        Its name in the literature.
    backbones : tuple of str
        Classifiers that may be named behind a colon, the default first.
    modules : tuple of str
        Additions that may be named behind a colon, joined by a plus; by default it has none.
    networks : tuple of str
        Networks that it is made of, which others may be named for behind a colon, joined by ``>``.
    """

    build: Callable[[int, int, int, str], Segmenter]
    patch: dict[int, int]
    description: str
    spoken: str
    fields: Callable[[Segmenter, int, int, int], dict[str, ReceptiveField]] = field(
        default=_segmenter_fields
    )
    backbones: tuple[str, ...] = ()
    modules: tuple[str, ...] = ()
    networks: tuple[str, ...] = ()

    @property
    def dims(self) -> tuple[int, ...]:
        """Supported numbers of dimensions."""
        return tuple(self.patch)


_FCN_BACKBONES = ("vgg16", *[a for a in ARCHITECTURES if a != "vgg16"])
_ENCODERS = tuple(ENCODERS)


def _cascade(channels: int, classes: int, dims: int, named: str) -> Cascade:
    coarse, fine = named.split(">")
    return Cascade(
        build_segmenter(coarse, channels, classes, dims),
        build_segmenter(fine, channels + classes - 1, classes, dims),
    )


SEGMENTERS: dict[str, SegmenterSpec] = {
    "unet": SegmenterSpec(
        build_unet,
        _SIDES,
        "U-Net, same convolutions, batch normalisation, 32 maps at the first level",
        "U-Net",
        modules=("mfr", "mca", "ca"),
    ),
    "unet-original": SegmenterSpec(
        build_unet_original,
        {2: 388, 3: 44},
        "U-Net as published: valid convolutions, 64 maps at the first level",
        "U-Net as published",
    ),
    "encoder-unet": SegmenterSpec(
        lambda channels, classes, _, encoder: EncoderUNet(channels, classes, encoder),
        {2: 128},
        "U-Net on a classifier, which may be pretrained (segmentation_models_pytorch)",
        "U-Net on a classifier",
        backbones=_ENCODERS,
    ),
    "unetpp": SegmenterSpec(
        build_unetpp,
        _SIDES,
        "UNet++: nested U-Nets with a head each, which may be pruned at inference",
        "UNet++",
    ),
    "encoder-unetpp": SegmenterSpec(
        build_encoder_unetpp,
        {2: 128},
        "UNet++ on a classifier, which may be pretrained (segmentation_models_pytorch)",
        "UNet++ on a classifier",
        backbones=_ENCODERS,
    ),
    "transunet": SegmenterSpec(
        build_transunet,
        {2: 128},
        "TransUNet: a classifier, a vision transformer on its last map, an upsampler with skips",
        "TransUNet",
        backbones=_ENCODERS,
    ),
    "sw-unet": SegmenterSpec(
        build_sw_unet,
        _SIDES,
        "SW-UNet: a U-Net with windowed self-attention, images fused by channel and space",
        "SW-UNet",
    ),
    "mfr-unet": SegmenterSpec(
        build_mfr_unet,
        _SIDES,
        "U-Net with fused skips, retained scales, cross-channel and coordinate attention",
        "U-Net with multi-scale feature retention",
    ),
    "attention-unet-small": SegmenterSpec(
        build_small,
        _SIDES,
        "U-Net of few parameters: separable convolutions, squeeze-and-excitation, gates",
        "small attention U-Net",
    ),
    "two-scale-cnn": SegmenterSpec(
        build_two_scale,
        _SIDES,
        "two scales at once, connections across layers, dropout by depth",
        "two-scale CNN",
    ),
    "render-unet": SegmenterSpec(
        build_render_unet,
        _SIDES,
        "nested attention U-Net whose uncertain places are classified anew point by point",
        "Render U-Net",
    ),
    "fuzzy-neuro": SegmenterSpec(
        build_fuzzy_neuro,
        {2: 128},
        "grey level and local features by degrees of fuzzy sets, into a small network",
        "fuzzy-neural network",
    ),
    "cascade": SegmenterSpec(
        _cascade,
        _SIDES,
        "a coarse network, and a fine one that sees the image and the coarse result",
        "cascade",
        networks=("two-scale-cnn", "unet"),
    ),
    "fcn32s": SegmenterSpec(
        lambda channels, classes, _, backbone: build_fcn(channels, classes, 32, backbone),
        {2: 224},
        "FCN-32s: scores of the deepest map",
        "FCN-32s",
        backbones=_FCN_BACKBONES,
    ),
    "fcn16s": SegmenterSpec(
        lambda channels, classes, _, backbone: build_fcn(channels, classes, 16, backbone),
        {2: 224},
        "FCN-16s: scores from stride 16 on, summed",
        "FCN-16s",
        backbones=_FCN_BACKBONES,
    ),
    "fcn8s": SegmenterSpec(
        lambda channels, classes, _, backbone: build_fcn(channels, classes, 8, backbone),
        {2: 224},
        "FCN-8s: scores from stride 8 on, summed",
        "FCN-8s",
        backbones=_FCN_BACKBONES,
    ),
    "fcn_resnet50": SegmenterSpec(
        lambda channels, classes, *_: build_fcn_resnet50(channels, classes),
        {2: 224},
        "torchvision's FCN on a ResNet-50 of stride 8",
        "FCN on ResNet-50",
    ),
    "deeplabv3_resnet50": SegmenterSpec(
        lambda channels, classes, *_: build_deeplabv3_resnet50(channels, classes),
        {2: 224},
        "torchvision's DeepLabV3 on a ResNet-50 of stride 8",
        "DeepLabv3 on ResNet-50",
    ),
    "deepmedic": SegmenterSpec(
        lambda channels, classes, dims, _: DeepMedic(channels, classes, dims, "paper"),
        {2: 9, 3: 9},
        "DeepMedic as published: pathways 1x and 3x",
        "DeepMedic",
        _deepmedic_fields,
    ),
    "deepmedic-release": SegmenterSpec(
        lambda channels, classes, dims, _: DeepMedic(channels, classes, dims, "release"),
        {2: 7, 3: 7},
        "DeepMedic 0.6.1: residual connections, a joined layer of 3-kernels",
        "DeepMedic as first released",
        _deepmedic_fields,
    ),
    "deepmedic-latest": SegmenterSpec(
        lambda channels, classes, dims, _: DeepMedic(channels, classes, dims, "latest"),
        {2: 21, 3: 21},
        "DeepMedic 0.8.4: pathways 1x, 3x and 5x, a mirrored joined layer",
        "DeepMedic as last released",
        _deepmedic_fields,
    ),
}
"""All networks.

FCNs and those on encoders take a classifier behind a colon, ``fcn8s:resnet18``, by default VGG-16
and ResNet-18; ``unet`` takes modules, ``unet:mfr+ca``; ``cascade`` two networks,
``cascade:fcn8s:resnet18>unet``.
"""


def on_classifier(name: str) -> bool:
    """Whether a network of `SEGMENTERS` begins as a classifier of grey or colour images."""
    return bool(SEGMENTERS[name].backbones) or name.endswith("_resnet50")


def find_segmenter(name: str) -> tuple[SegmenterSpec, str]:
    """The entry of a name, and its backbone, modules or networks (empty where there is none).

    Raises
    ------
    ConfigError
        For an unknown network or backbone, with the nearest, or where that system is.
    """
    base, colon, backbone = name.partition(":")
    spec = SEGMENTERS.get(base)
    if spec is None:
        raise ConfigError(
            f"There is no segmentation network {base!r}.",
            where="segmenter.arch",
            fix=way_to(base, {n: s.spoken for n, s in SEGMENTERS.items()}),
        )
    if not colon:
        return spec, spec.backbones[0] if spec.backbones else ">".join(spec.networks)
    if spec.networks:
        return spec, _two_networks(base, backbone)
    if spec.modules:
        return spec, _modules(base, spec, backbone)
    if backbone not in spec.backbones:
        raise ConfigError(
            f"{base} has no backbone {backbone!r}.",
            where="segmenter.arch",
            fix=did_you_mean(backbone, spec.backbones)
            if spec.backbones
            else f"write {base} without a colon",
        )
    return spec, backbone


def _modules(base: str, spec: SegmenterSpec, named: str) -> str:
    """The modules behind a colon, each once, in the registry's order."""
    chosen = named.split("+")
    for name in chosen:
        if name not in spec.modules or chosen.count(name) > 1:
            raise ConfigError(
                f"{base} has no module {name!r}."
                if name not in spec.modules
                else f"{base} has the module {name!r} once.",
                where="segmenter.arch",
                found=f"{base}:{named}",
                expected=f"some of {', '.join(spec.modules)}, joined by +",
                fix=f"{base}:{'+'.join(spec.modules)}, or a backbone: encoder-unet:NAME",
            )
    return "+".join(m for m in spec.modules if m in chosen)


def _two_networks(base: str, named: str) -> str:
    """The networks behind a cascade's colon, the coarse one first."""
    members = named.split(">")
    specs = [find_segmenter(m)[0] for m in members]
    wrong = [
        f"{m} scores less than it sees"
        for m in members
        if m.startswith(("deepmedic", "unet-original"))
    ]
    wrong += [f"{m} is a cascade itself" for m, s in zip(members, specs, strict=True) if s.networks]
    wrong += [
        f"{m} stands on a classifier, which takes no further channel"
        for m in members[1:]
        if on_classifier(m.partition(":")[0])
    ]
    if len(members) != 2 or wrong:
        raise ConfigError(
            f"{base} is made of two networks that score every place of the image, of which the "
            "fine one takes any number of channels.",
            where="segmenter.arch",
            found=f"{base}:{named}" + (f"; {wrong[0]}" if wrong else ""),
            expected=f"{base}:COARSE>FINE",
            fix=f"{base}:two-scale-cnn>unet, or for images {base}:encoder-unet:resnet18>unet",
        )
    return named


def build_segmenter(name: str, in_channels: int, classes: int, dims: int = 2) -> Segmenter:
    """A segmentation network with random weights.

    Parameters
    ----------
    name : str
        Of `SEGMENTERS`, a backbone or modules behind a colon.
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
