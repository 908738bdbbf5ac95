"""The layers of a classifier that heatmaps are made of.

The networks of `ARCHITECTURES` have named defaults; for others they are found by running the
network once.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from weakseg.errors import ConfigError, first_line, nearest
from weakseg.models.classifier import Classifier
from weakseg.models.modes import evaluating

AUTO, FUSED = "auto", "fused"

ARCHITECTURES: dict[str, str] = {
    "resnet18": "layer4",
    "resnet50": "layer4",
    "vgg16": "features.29",
    "densenet121": "features.norm5",
    "mobilenet_v2": "features.18",
    "squeezenet1_1": "features.12",
    "efficientnet_b0": "features.8",
    "convnext_tiny": "features.7",
}
"""Tested networks and their default heatmap layer: the last map before pooling."""

DEPTHS: dict[str, tuple[str, ...]] = {
    "resnet18": ("layer1", "layer2", "layer3", "layer4"),
    "resnet50": ("layer1", "layer2", "layer3", "layer4"),
    "vgg16": ("features.15", "features.22", "features.29"),
    "densenet121": (
        "features.denseblock1",
        "features.denseblock2",
        "features.denseblock3",
        "features.norm5",
    ),
    "mobilenet_v2": ("features.3", "features.6", "features.13", "features.18"),
    "squeezenet1_1": ("features.4", "features.7", "features.10", "features.12"),
    "efficientnet_b0": ("features.2", "features.3", "features.5", "features.8"),
    "convnext_tiny": ("features.1", "features.3", "features.5", "features.7"),
}
"""Tested networks and the layers, shallow to deep, of a ``fused`` heatmap: the last map of every
resolution from a quarter of the image's down; of SqueezeNet, whose deepest resolution is half its
depth, one more."""

FINEST = 4
"""The output stride of the shallowest layer of a fused heatmap."""


def default_layer(model: Classifier, image_size: int = 128) -> str:
    """The name, below ``model.net``, of the layer that heatmaps are made of by default.

    For a network outside `ARCHITECTURES`: the last module to run, before the adaptive pooling,
    whose output is a map (B, C, h, w) with h, w > 1 that is not yet a map of class scores.

    Raises
    ------
    ConfigError
        If there is no such module (a transformer of tokens, say).
    """
    if model.spec.arch in ARCHITECTURES:
        return ARCHITECTURES[model.spec.arch]
    return _maps(model, image_size)[-1][0]


def depths(model: Classifier, image_size: int = 128) -> tuple[str, ...]:
    """The names, below ``model.net``, of the layers of a fused heatmap, shallow to deep.

    For a network outside `DEPTHS`: the last map of every resolution from a quarter of the image's
    down.

    Raises
    ------
    ConfigError
        As `default_layer`.
    """
    if model.spec.arch in DEPTHS:
        return DEPTHS[model.spec.arch]
    last = {side: name for name, (side, _) in _maps(model, image_size)}
    wanted = [name for side, name in last.items() if side <= -(-image_size // FINEST)]
    return tuple(wanted or [default_layer(model, image_size)])


def _maps(model: Classifier, image_size: int) -> list[tuple[str, tuple[int, ...]]]:
    """Modules whose output is a map, in the order in which they run, and the map's sides."""
    maps: list[tuple[str, tuple[int, ...]]] = []

    def note(name: str) -> Any:
        def hook(module: nn.Module, _i: Any, out: Any) -> None:
            is_map = isinstance(out, Tensor) and out.ndim == 4 and min(out.shape[2:]) > 1
            passes = isinstance(module, nn.Dropout | nn.AdaptiveAvgPool2d)
            if is_map and not passes and out.shape[1] != len(model.spec.labels):
                maps.append((name, tuple(out.shape[2:])))

        return hook

    handles = [m.register_forward_hook(note(n)) for n, m in model.net.named_modules() if n]
    try:
        with torch.no_grad(), evaluating(model):
            blank = torch.zeros(1, model.spec.channels, image_size, image_size)
            model(blank.to(model.mean.device))
    except (RuntimeError, AssertionError, ValueError) as e:
        raise ConfigError(
            f"{model.spec.arch} does not take images of {image_size} pixels.",
            where="data.image_size",
            found=first_line(e),
            fix="set another data.image_size, or choose another network",
        ) from None
    finally:
        for h in handles:
            h.remove()
    if not maps:
        raise ConfigError(
            f"{model.spec.arch} has no convolutional map to make a heatmap of.",
            where="heatmap.layer",
            fix=f"choose a convolutional network, for example {', '.join(ARCHITECTURES)}",
        )
    return maps


def find_layers(
    model: Classifier, wanted: str | Sequence[str], image_size: int = 128
) -> list[tuple[str, nn.Module]]:
    """The modules below ``model.net`` that a heatmap is made of.

    Parameters
    ----------
    model : Classifier
    wanted : str or sequence of str
        ``auto`` (see `default_layer`), ``fused`` (see `depths`), a module's name, or several.
    image_size : int, optional

    Raises
    ------
    ConfigError
        For an unknown name, with the nearest ones.
    """
    if wanted == AUTO:
        wanted = default_layer(model, image_size)
    elif wanted == FUSED:
        wanted = depths(model, image_size)
    names = [wanted] if isinstance(wanted, str) else list(wanted)
    modules = dict(model.net.named_modules())
    modules.pop("", None)
    for name in names:
        if name not in modules:
            top = [n for n in modules if n.count(".") <= 1]
            close = nearest(name, modules)
            raise ConfigError(
                f"{model.spec.arch} has no layer {name!r}.",
                where="heatmap.layer",
                fix=f"did you mean {close!r}?"
                if close
                else f"some of its layers: {', '.join(top[:40])}",
            )
    return [(name, modules[name]) for name in names]
