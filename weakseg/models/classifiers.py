"""Image classifiers by name.

Any classifier of torchvision can be named, and ``timm:NAME`` where timm is installed. The
networks of `weakseg.models.layers.ARCHITECTURES` are tested; that module says of which layers their
heatmaps are made.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, TypeVar

from torch import Tensor, nn

from weakseg.config.volume_archs import flat_arch
from weakseg.errors import ConfigError, did_you_mean, lacks_memory, nearest
from weakseg.models.classifier import Classifier, ClassifierSpec
from weakseg.models.dilation import dilate
from weakseg.models.grey import COLOURS, take_grey
from weakseg.models.layers import ARCHITECTURES, default_layer, depths
from weakseg.models.localising import find_head, make_auxiliary_heads
from weakseg.models.suppression import suppress

RGB_MEAN, RGB_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Means and standard deviations of ImageNet, which pretrained weights expect."""

Found = TypeVar("Found")
Normalisation = tuple[tuple[float, ...], tuple[float, ...]]
TIMM_PREFIX = "timm:"
_WITHOUT_AUX: dict[str, dict[str, Any]] = {
    "inception_v3": {"aux_logits": False, "init_weights": True},
    "googlenet": {"aux_logits": False, "init_weights": True},
}
_TRANSFORM_INPUT = ("inception_v3", "googlenet")
"""Networks whose weights expect intensities in [-1, 1]. torchvision normalises for them as for all
others and changes that back inside of the network, in a flag that no weights file holds; here their
normalisation is the one that results."""

_SIDE = 224
"""Of images that all of torchvision's networks take."""


def torchvision_names() -> list[str]:
    """Every torchvision classifier."""
    from torchvision import models

    return models.list_models(module=models)


def check_arch(arch: str) -> None:
    """Refuse a name that cannot be built.

    Raises
    ------
    ConfigError
        With the nearest known name, or the command that installs timm.
    """
    if arch.startswith(TIMM_PREFIX):
        timm, name = _timm(), arch.removeprefix(TIMM_PREFIX)
        if name.split(".")[0] not in timm.list_models():
            raise ConfigError(
                f"timm has no network {name!r}.",
                where="classifier.arch",
                fix=did_you_mean(name, timm.list_models())
                if nearest(name, timm.list_models())
                else "list the names with timm.list_models()",
            )
        _check_tag(name)
    elif arch not in (names := torchvision_names()):
        close = nearest(arch, names)
        raise ConfigError(
            f"torchvision has no classifier {arch!r}.",
            where="classifier.arch",
            fix=(f"did you mean {close!r}? " if close else "")
            + f"Tested: {', '.join(ARCHITECTURES)}; timm's networks are timm:NAME",
        )


def _check_tag(name: str) -> None:
    """Refuse a name of timm whose part behind the dot, its pretrained weights, timm has not."""
    base, _, tag = name.partition(".")
    if not tag:
        return
    from timm.models import get_arch_pretrained_cfgs

    tags = [t.partition(".")[2] for t in get_arch_pretrained_cfgs(base)]
    tags = [t for t in tags if t]
    if tag not in tags:
        raise ConfigError(
            f"timm has no weights {tag!r} of {base}.",
            where="classifier.arch",
            found=f"{TIMM_PREFIX}{name}",
            expected=f"{TIMM_PREFIX}{base}"
            + (f", or behind a dot one of {', '.join(tags)}" if tags else ""),
            fix=f"write {TIMM_PREFIX}{base}",
        )


def _timm() -> Any:
    try:
        import timm
    except ImportError:
        raise ConfigError(
            "Networks named timm:NAME need the package timm, which is not installed.",
            where="classifier.arch",
            fix="pip install 'weakseg[timm]'",
        ) from None
    return timm


def build_classifier(spec: ClassifierSpec) -> Classifier:
    """A classifier with random weights, of images or, by its name, of volumes.

    Raises
    ------
    ConfigError
        For an unknown name, images of neither one nor three channels, or a network that cannot be
        given the pool or the stride.

    Notes
    -----
    Where a grey image through summed first-layer weights would be another function than the image
    repeated (see `weakseg.models.grey`), the specification of what is returned says ``repeat``.
    """
    if spec.flat_arch != spec.arch:
        from weakseg.models.volume_classifiers import for_volumes

        return for_volumes(build_classifier(replace(spec, arch=spec.flat_arch)), spec, draw=True)
    check_arch(spec.arch)
    if spec.channels not in (1, COLOURS):
        raise ConfigError(
            f"{spec.arch} takes grey or colour images.",
            where="classifier.arch",
            found=f"{spec.channels} channels",
            expected="1 or 3",
            fix="make grey or colour images of these; segmentation networks take more modalities",
        )
    build = _timm_net if spec.arch.startswith(TIMM_PREFIX) else _torchvision_net
    net, normalisation, side = build(spec.arch, len(spec.labels))
    summed = spec.channels == 1 and spec.grey_input == "first-layer"
    # Of the tested networks it is known that only the first convolution sees the image.
    if summed and not take_grey(net, None if spec.arch in ARCHITECTURES else side):
        spec = replace(spec, grey_input="repeat")
    model = Classifier(net, spec, *normalisation)
    _localise(model)
    return model


def _timm_net(arch: str, classes: int) -> tuple[nn.Module, Normalisation, int]:
    """A network of timm, the mean and standard deviation of its images, and their side."""
    name = arch.removeprefix(TIMM_PREFIX)
    net = _timm().create_model(name, pretrained=False, num_classes=classes)
    pretrained = net.pretrained_cfg
    return net, (tuple(pretrained["mean"]), tuple(pretrained["std"])), pretrained["input_size"][-1]


def _torchvision_net(arch: str, classes: int) -> tuple[nn.Module, Normalisation, int]:
    """A network of torchvision, the mean and standard deviation of its images, and their side."""
    from torchvision import models

    net = models.get_model(arch, weights=None, num_classes=classes, **_WITHOUT_AUX.get(arch, {}))
    if arch.startswith("squeezenet"):
        # Its head ends in a ReLU: a class with a negative score would have neither a gradient nor
        # a heatmap. 1000-class training can live with that, two classes cannot.
        net.classifier[2] = nn.Identity()
    if arch in _TRANSFORM_INPUT:
        return net, ((0.5,) * COLOURS, (0.5,) * COLOURS), _SIDE
    wanted = models.get_model_weights(arch).DEFAULT.transforms()
    return net, (tuple(wanted.mean), tuple(wanted.std)), _SIDE


def _localise(model: Classifier) -> None:
    """Give a new classifier what its specification asks for: stride, suppression, pool, exits."""
    spec = model.spec
    if spec.stride is not None:
        layer = _layers(default_layer, model, "classifier.stride")
        dilate(model.net, layer, spec.stride, spec.net_channels)
    if spec.suppress < 1:
        layers = _layers(depths, model, "classifier.suppress")
        suppress(model.net, layers, spec.suppress, spec.net_channels)
    if spec.pool != "default":
        model.end = find_head(model.net, spec.net_channels, spec.arch)
    if spec.exits:
        layers = _layers(depths, model, "classifier.exits")[:-1]
        model.exits = make_auxiliary_heads(model.net, layers, spec.net_channels, len(spec.labels))
        model.exit_layers = layers


def _layers(find: Callable[[Classifier], Found], model: Classifier, where: str) -> Found:
    """What is found of a network's layers; its maps are looked at with a size of our choice."""
    try:
        return find(model)
    except ConfigError as e:
        raise ConfigError(
            f"{model.spec.arch} has no layers that {where.rpartition('.')[2]} could work on.",
            where=where,
            found=e.what,
            fix=f"leave {where} out, or choose another network: {', '.join(ARCHITECTURES)}",
        ) from None


def imagenet_state(arch: str) -> dict[str, Tensor]:
    """Weights of ImageNet from torchvision's or timm's servers; of volumes' networks the images'.

    Raises
    ------
    ConfigError
        Where they cannot be had, with the alternatives.
    """
    import socket

    arch = flat_arch(arch)
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(20.0)
    try:
        if arch.startswith(TIMM_PREFIX):
            net = _timm().create_model(arch.removeprefix(TIMM_PREFIX), pretrained=True)
            return net.state_dict()
        from torchvision import models

        weights = models.get_model_weights(arch).DEFAULT
        return weights.get_state_dict(progress=False, check_hash=True, weights_only=True)
    except Exception as e:  # the hubs raise many kinds
        if lacks_memory(e):
            raise
        raise ConfigError(
            f"The ImageNet weights of {arch} could not be fetched.",
            where="classifier.weights: imagenet",
            found=f"{type(e).__name__}: {e}".splitlines()[0][:200],
            fix="connect to the internet; or name a file, classifier.weights: PATH.safetensors; "
            "or train from scratch with classifier.weights: none",
        ) from None
    finally:
        socket.setdefaulttimeout(before)
