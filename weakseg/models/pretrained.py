"""Weights from elsewhere for the part of a segmentation network that a classifier shares."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from torch import Tensor, nn

from weakseg.errors import ConfigError, UserError
from weakseg.models.encoders import OnEncoder
from weakseg.models.fcn import FCN, TorchvisionSegmenter
from weakseg.models.segmenters import SEGMENTERS, find_segmenter, on_classifier
from weakseg.models.states import Match, load_tensors, match, refuse_not_finite
from weakseg.models.transfer import first_layer_channels, fit_words


def backbone_of(net: nn.Module) -> nn.Module | None:
    """The part that is a classifier without its head; None where the network has none."""
    if isinstance(net, OnEncoder):
        return net.encoder
    if isinstance(net, FCN):
        return net.backbone
    if isinstance(net, TorchvisionSegmenter):
        return net.net.get_submodule("backbone")
    return None


def backbone_name(arch: str) -> str:
    """The classifier that a segmentation network is built on.

    Raises
    ------
    ConfigError
        If it has none, so that ImageNet weights have no place in it.
    """
    spec, backbone = find_segmenter(arch)
    if spec.backbones:
        return backbone
    if on_classifier(arch.partition(":")[0]):
        return "resnet50"
    able = [n for n in SEGMENTERS if on_classifier(n)]
    raise ConfigError(
        f"{arch} has no backbone that ImageNet weights could fill.",
        where="segmenter.weights",
        fix=f"set weights: none; of networks of images these have one: {', '.join(able)}",
    )


def load_backbone(net: nn.Module, state: Mapping[str, Tensor], source: str) -> list[str]:
    """Copy weights into a segmentation network.

    Parameters
    ----------
    net : nn.Module
    state : dict of Tensor
        Of the same network as weakseg saves it (all of it is copied), or of a classifier, named
        as in torchvision or timm or as weakseg saves classifiers: then all of the backbone is
        copied, and the rest stays random. Anything may stand before all names, see
        `weakseg.models.states`. A first layer for three colours is summed where ours takes one.
    source : str
        Where it comes from, for messages.

    Returns
    -------
    list of str
        The parts that stayed random; empty where the whole network was loaded.

    Raises
    ------
    UserError
        If the weights belong to another network, are for images of other channels or are no finite
        numbers, or the network has no such part.
    """
    own = net.state_dict()
    whole = match(own, state)
    left_out = _left_out(net)
    if not (whole.missing or whole.other or {*whole.unknown} - left_out):
        refuse_not_finite(whole.fitting, source)
        load_tensors(net, whole.fitting, strict=False)
        return []
    backbone = backbone_of(net)
    if backbone is None:
        words = fit_words(whole, own, {*whole.missing, *whole.other}, whole.unknown)
        raise _foreign(source, words, "weights of this very network")
    names = backbone.state_dict()
    ours = {n.removeprefix("model."): n for n in names}
    found_there = match({theirs: names[n] for theirs, n in ours.items()}, state)
    of_backbone = {n.removeprefix("encoder.").removeprefix("model.") for n in left_out}
    _refuse_other(names, ours, found_there, of_backbone, source)
    refuse_not_finite(found_there.fitting, source)
    load_tensors(backbone, {ours[k]: v for k, v in found_there.fitting.items()}, strict=False)
    loaded = {id(p) for p in backbone.parameters()}
    return sorted(
        {_part(net, n, backbone) for n, p in net.named_parameters() if id(p) not in loaded}
    )


def _left_out(net: nn.Module) -> frozenset[str]:
    """Tensors of the named backbone that the network has no use for."""
    return net.left_out if isinstance(net, OnEncoder) else frozenset()


def _refuse_other(
    names: Mapping[str, Tensor],
    ours: Mapping[str, str],
    found: Match,
    left_out: Collection[str],
    source: str,
) -> None:
    """Refuse weights that lack something of a backbone, or have more of what it is made of."""
    own = {theirs: names[n] for theirs, n in ours.items()}
    parts = {k.partition(".")[0] for k in own}
    unknown = [k for k in found.unknown if k.partition(".")[0] in parts and k not in left_out]
    lacking = {*found.missing, *found.other}
    if not (lacking or unknown):
        return
    channels = next(v.shape[1] for v in own.values() if v.ndim == 4)
    given = first_layer_channels(own, found.other, channels)
    if given is not None and not (unknown or found.missing):
        raise UserError(
            "The weights are for images of another number of channels.",
            where=f"{source}, tensor {next(iter(found.other))!r}",
            found=f"{given} {'channel' if given == 1 else 'channels'}",
            expected=f"{channels}, or 3 colours" if channels == 1 else str(channels),
            fix="this network may take grey images repeated: choose encoder-unet or an FCN on the "
            "same backbone, which take them as they are, or set weights: none"
            if given == 1
            else "take weights for images like these, or set weights: none",
        )
    raise _foreign(source, fit_words(found, own, lacking, unknown), "weights of the named backbone")


def _part(net: nn.Module, parameter: str, backbone: nn.Module) -> str:
    """The module directly below the network, or beside the backbone, that a parameter is in."""
    first, *more = parameter.split(".")
    if any(m is backbone for m in net.get_submodule(first).modules()):
        return f"{first}.{more[0]}"
    return first


def _foreign(source: str, found: str, expected: str) -> UserError:
    return UserError(
        "The weights do not fit the segmentation network.",
        where=source,
        found=found,
        expected=expected,
        fix="name weights of the backbone behind the colon of `arch`, or weights: none",
    )
