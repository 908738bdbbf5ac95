"""Image classifiers by name.

Any classifier of torchvision can be named, and ``timm:NAME`` where timm is installed. The
networks of `weakseg.models.layers.ARCHITECTURES` are tested; that module says of which layers their
heatmaps are made.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from weakseg.errors import ConfigError, DataError, did_you_mean, nearest
from weakseg.models.classifier import Classifier, ClassifierSpec
from weakseg.models.dilation import dilate
from weakseg.models.layers import ARCHITECTURES, default_layer, depths
from weakseg.models.localising import find_end, make_exits

RGB_MEAN, RGB_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Means and standard deviations of ImageNet, which pretrained weights expect."""

Found = TypeVar("Found")
TIMM_PREFIX = "timm:"
_AUXILIARY = ("AuxLogits.", "aux1.", "aux2.")
_WITHOUT_AUX: dict[str, dict[str, Any]] = {
    "inception_v3": {"aux_logits": False, "init_weights": True},
    "googlenet": {"aux_logits": False, "init_weights": True},
}


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
    elif arch not in (names := torchvision_names()):
        close = nearest(arch, names)
        raise ConfigError(
            f"torchvision has no classifier {arch!r}.",
            where="classifier.arch",
            fix=(f"did you mean {close!r}? " if close else "")
            + f"Tested: {', '.join(ARCHITECTURES)}; timm's networks are timm:NAME",
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
    """A classifier with random weights.

    Raises
    ------
    ConfigError
        For an unknown name, or a network that cannot be given the pool or the stride.
    """
    check_arch(spec.arch)
    classes, mean, std = len(spec.labels), RGB_MEAN, RGB_STD
    if spec.arch.startswith(TIMM_PREFIX):
        net = _timm().create_model(
            spec.arch.removeprefix(TIMM_PREFIX), pretrained=False, num_classes=classes
        )
        mean, std = tuple(net.pretrained_cfg["mean"]), tuple(net.pretrained_cfg["std"])
    else:
        from torchvision import models

        extra = _WITHOUT_AUX.get(spec.arch, {})
        net = models.get_model(spec.arch, weights=None, num_classes=classes, **extra)
    if spec.arch.startswith("squeezenet"):
        # Its head ends in a ReLU: a class with a negative score would have neither a gradient nor
        # a heatmap. 1000-class training can live with that, two classes cannot.
        net.classifier[2] = nn.Identity()
    if spec.channels == 1 and spec.grey_input == "first-layer":
        _take_grey(net)
    model = Classifier(net, spec, mean, std)
    _localise(model)
    return model


def _localise(model: Classifier) -> None:
    """Give a new classifier the stride, the pool and the exits of its specification."""
    spec = model.spec
    if spec.stride is not None:
        layer = _layers(default_layer, model, "classifier.stride")
        dilate(model.net, layer, spec.stride, spec.net_channels)
    if spec.pool != "default":
        model.end = find_end(model.net, spec.net_channels, spec.arch)
    if spec.exits:
        layers = _layers(depths, model, "classifier.exits")[:-1]
        model.exits = make_exits(model.net, layers, spec.net_channels, len(spec.labels))
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


def _first_conv(net: nn.Module) -> tuple[str, nn.Conv2d]:
    for name, module in net.named_modules():
        if isinstance(module, nn.Conv2d) and module.in_channels == 3:
            return name, module
    raise ConfigError(
        "The network has no first layer that takes three colours.",
        where="classifier.grey_input",
        fix="set classifier.grey_input: repeat",
    )


def _take_grey(net: nn.Module) -> None:
    """Replace the first convolution by one for a single channel, its weights summed."""
    name, conv = _first_conv(net)
    grey = nn.Conv2d(
        1,
        conv.out_channels,
        conv.kernel_size,  # type: ignore[arg-type]
        conv.stride,  # type: ignore[arg-type]
        conv.padding,  # type: ignore[arg-type]
        conv.dilation,  # type: ignore[arg-type]
        bias=conv.bias is not None,
        padding_mode=conv.padding_mode,
    )
    with torch.no_grad():
        grey.weight.copy_(conv.weight.sum(1, keepdim=True))
        if conv.bias is not None and grey.bias is not None:
            grey.bias.copy_(conv.bias)
    parent, _, last = name.rpartition(".")
    setattr(net.get_submodule(parent), last, grey)


def load_pretrained(model: Classifier, state: dict[str, Tensor], source: str) -> list[str]:
    """Copy weights of a network that was trained on other classes.

    Every tensor must fit but those of the last layer, which stays random when its number of
    classes differs, and the auxiliary heads of older networks, which are not used. Exits stay
    random where the source has none that fit. A first layer for three colours is summed where
    ours takes one.

    Parameters
    ----------
    model : Classifier
    state : dict of Tensor
        Names as in torchvision or timm, or as weakseg saves them (``net.`` before).
    source : str
        Where it comes from, for messages.

    Returns
    -------
    list of str
        The tensors that stayed random.

    Raises
    ------
    DataError
        If the weights belong to another network.
    """
    held = model.exits.state_dict(prefix="exits.")
    exits = {k: state[k] for k, v in held.items() if k in state and state[k].shape == v.shape}
    if any(k.startswith("net.") for k in state):
        state = {k.removeprefix("net."): v for k, v in state.items() if k.startswith("net.")}
    state = {k: v for k, v in state.items() if not k.startswith(_AUXILIARY)}
    own = model.net.state_dict()
    head = _head_names(model.net, len(model.spec.labels))
    fitted, random = {}, []
    for name, tensor in own.items():
        given = state.get(name)
        if given is None:
            if name.endswith("num_batches_tracked"):
                continue
            raise _foreign(model.spec.arch, source, f"no tensor {name!r}")
        if given.shape != tensor.shape and given.ndim == 4 and given.shape[1] == 3:
            summed = given.float().sum(1, keepdim=True)
            given = summed if summed.shape == tensor.shape else given
        if given.shape != tensor.shape:
            if name not in head:
                raise _foreign(
                    model.spec.arch,
                    source,
                    f"{name}: {tuple(given.shape)}, not {tuple(tensor.shape)}",
                )
            random.append(name)
            continue
        fitted[name] = given.to(tensor.dtype)
    unknown = sorted(set(state) - set(own))
    if unknown:
        raise _foreign(model.spec.arch, source, f"unknown tensor {unknown[0]!r}")
    model.net.load_state_dict(fitted, strict=False)
    model.load_state_dict(exits, strict=False)
    return random + [k for k in held if k not in exits]


def _head_names(net: nn.Module, classes: int) -> set[str]:
    """Names of the tensors of the last layer: the last module with `classes` outputs."""
    last = ""
    for name, module in net.named_modules():
        out = getattr(module, "out_features", None) or getattr(module, "out_channels", None)
        if isinstance(module, nn.Linear | nn.Conv2d) and out == classes:
            last = name
    return {f"{last}.weight", f"{last}.bias"}


def _foreign(arch: str, source: str, found: str) -> DataError:
    return DataError(
        f"The weights do not belong to {arch}.",
        where=source,
        found=found,
        expected=f"the tensors of {arch}",
        fix="set classifier.arch to the network that the weights were made for",
    )


def imagenet_state(arch: str) -> dict[str, Tensor]:
    """Weights of ImageNet from torchvision's or timm's servers.

    Raises
    ------
    ConfigError
        Where they cannot be had, with the alternatives.
    """
    import socket

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
        raise ConfigError(
            f"The ImageNet weights of {arch} could not be fetched.",
            where="classifier.weights: imagenet",
            found=f"{type(e).__name__}: {e}".splitlines()[0][:200],
            fix="connect to the internet; or name a file, classifier.weights: PATH.safetensors; "
            "or train from scratch with classifier.weights: none",
        ) from None
    finally:
        socket.setdefaulttimeout(before)
