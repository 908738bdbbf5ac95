"""The layers of a classifier that heatmaps are made of.

The networks of `ARCHITECTURES` have named defaults; for others they are found by running the
network (`weakseg.models.maps`).
"""

from __future__ import annotations

from collections.abc import Sequence
from weakref import WeakKeyDictionary

from torch import nn

from weakseg.config.volume_archs import is_deep
from weakseg.errors import ConfigError, nearest
from weakseg.models.classifier import Classifier
from weakseg.models.maps import all_maps, main_map, main_maps, maps_of
from weakseg.models.space import Space

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

SLICES = 8
"""Of volumes whose number of slices is not known."""

FINEST = 4
"""The output stride of the shallowest layer of a fused heatmap."""


_FOUND: WeakKeyDictionary[Classifier, dict[tuple[str, int], list[str]]] = WeakKeyDictionary()


def default_layer(model: Classifier, image_size: int = 128) -> str:
    """The name, below ``model.net``, of the layer that heatmaps are made of by default.

    For a network outside `ARCHITECTURES`: the last module to run, before the adaptive pooling,
    whose output is a map with more than one row and column that is not yet a map of class scores;
    of a transformer with a class token see `weakseg.models.maps.main_map`.

    Raises
    ------
    ConfigError
        If there is no such module.
    """
    if model.spec.flat_arch in ARCHITECTURES:
        return ARCHITECTURES[model.spec.flat_arch]
    if (named := _named(model, AUTO)) is not None:
        return named[0]
    name = main_map(maps := _maps(model, image_size))
    if name is None:
        raise ConfigError(
            f"{model.spec.arch} has no map of its images to make a heatmap of.",
            where="heatmap.layer",
            found=f"images of {image_size} pixels, {len(maps)} maps that lead to no class score",
            fix=f"choose another network, for example {', '.join(ARCHITECTURES)}, or larger images",
        )
    return name


def depths(model: Classifier, image_size: int = 128) -> tuple[str, ...]:
    """The names, below ``model.net``, of the layers of a fused heatmap, shallow to deep.

    For a network outside `DEPTHS`: the last map of every resolution from a quarter of the image's
    down.

    Raises
    ------
    ConfigError
        As `default_layer`.
    """
    if model.spec.flat_arch in DEPTHS:
        return DEPTHS[model.spec.flat_arch]
    if (named := _named(model, FUSED)) is not None:
        return named
    finest = -(-image_size // FINEST)
    maps = main_maps(_maps(model, image_size))
    wanted = [name for name, space in maps.items() if max(space.grid) <= finest]
    return tuple(wanted or [default_layer(model, image_size)])


def _named(model: Classifier, wanted: str) -> tuple[str, ...] | None:
    """What was found of a network of images before it was made one of volumes."""
    return getattr(model, "named_layers", {}).get(wanted)


def _maps(model: Classifier, image_size: int) -> dict[str, Space]:
    """The maps of features of a classifier, in the order in which they end."""
    maps = all_maps(model, _shape(model, image_size), model.spec.arch)
    below = {n.removeprefix("net."): s for n, s in maps.items() if n.startswith("net.")}
    return {n: s for n, s in below.items() if s.channels != len(model.spec.labels)}


def _shape(model: Classifier, image_size: int) -> tuple[int, ...]:
    slices = (model.spec.depth or SLICES,) if is_deep(model.spec.arch) else ()
    return model.spec.channels, *slices, image_size, image_size


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
        For an unknown name, with the nearest ones; for a layer without a map of such images, or
        with one of a single place, with those that have one.
    """
    layers = named_layers(model, wanted, image_size)
    spaces_of(model, layers, image_size)
    return list(layers.items())


def named_layers(
    model: Classifier, wanted: str | Sequence[str], image_size: int = 128
) -> dict[str, nn.Module]:
    """The modules of `find_layers`, whether they have maps or not; unknown names are refused."""
    model = model.explained
    names = _names(model, wanted, image_size)
    modules = dict(model.net.named_modules())
    modules.pop("", None)
    for name in names:
        if name not in modules:
            raise unknown_layer(model.spec.arch, name, list(modules))
    return {name: modules[name] for name in names}


def spaces_of(model: Classifier, layers: dict[str, nn.Module], image_size: int) -> dict[str, Space]:
    """How layers below ``model.net`` hold their maps."""
    model = model.explained
    shape, spec = _shape(model, image_size), model.spec
    below = {f"net.{name}": layer for name, layer in layers.items()}
    maps = maps_of(model, below, shape, title=spec.arch, known=known_maps(model))
    return dict(zip(layers, maps.values(), strict=True))


def known_maps(model: nn.Module) -> set[str]:
    """The layers of a classifier, below ``model``, that are listed here."""
    listed = DEPTHS.get(model.spec.flat_arch, ()) if isinstance(model, Classifier) else ()
    return {f"net.{name}" for name in listed}


def grids(
    model: Classifier, wanted: str | Sequence[str], image_size: int
) -> dict[str, tuple[int, ...]]:
    """Rows and columns of the maps of `find_layers`, by name; of volumes their depth before."""
    layers = dict(find_layers(model, wanted, image_size))
    return {name: space.grid for name, space in spaces_of(model, layers, image_size).items()}


def _names(model: Classifier, wanted: str | Sequence[str], image_size: int) -> list[str]:
    """The layers' names; what ``auto`` and ``fused`` mean is looked for once."""
    if not isinstance(wanted, str):
        return list(wanted)
    if wanted not in (AUTO, FUSED):
        return [wanted]
    names = _FOUND.setdefault(model, {})
    if (wanted, image_size) not in names:
        auto = wanted == AUTO
        names[wanted, image_size] = (
            [default_layer(model, image_size)] if auto else list(depths(model, image_size))
        )
    return names[wanted, image_size]


def unknown_layer(title: str, name: str, known: Sequence[str]) -> ConfigError:
    """What is wrong with a name that no layer has."""
    top = [n for n in known if n.count(".") <= 1]
    close = nearest(name, known)
    return ConfigError(
        f"{title} has no layer {name!r}.",
        where="heatmap.layer",
        fix=f"did you mean {close!r}?" if close else f"some of its layers: {', '.join(top[:40])}",
    )
