"""The maps of a network, and what is wrong with a layer that has none.

Recognised once for a network, its layers and a size of images (`weakseg.models.probing`).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from weakref import WeakKeyDictionary

from torch import nn

from weakseg.errors import ConfigError, first_line, lacks_memory
from weakseg.models.classifier import Classifier
from weakseg.models.probing import Seen, look, shapes
from weakseg.models.space import Space

_KNOWN: WeakKeyDictionary[nn.Module, dict[tuple[object, ...], dict[str, Space]]] = (
    WeakKeyDictionary()
)


def maps_of(
    net: nn.Module,
    layers: Mapping[str, nn.Module],
    image_shape: Sequence[int],
    *,
    title: str = "the network",
    known: Collection[str] = (),
    afresh: bool = False,
) -> dict[str, Space]:
    """How some layers hold their maps.

    Parameters
    ----------
    net : nn.Module
        Gives class scores.
    layers : mapping of str to nn.Module
        Name, for messages, and part of ``net``.
    image_shape : sequence of int
        (C, H, W) of an image, or (C, D, H, W) of a volume, whose maps are taken to be of such axes.
    title : str, optional
        What messages call the network.
    known : collection of str, optional
        Layers that are known to give (B, C, h, w).
    afresh : bool, optional
        Look again at what is known already.

    Returns
    -------
    dict of Space
        As ``layers``.

    Raises
    ------
    ConfigError
        If the network does not take such images, or a layer gives no map of at least two places
        that leads to the class scores: with the layers that do.
    """
    cached = _KNOWN.setdefault(net, {})
    key = (*((name, id(layer)) for name, layer in layers.items()), *image_shape)
    if afresh or key not in cached:
        volumes = len(image_shape) > 3
        how = shapes if volumes or set(layers) <= set(known) else look
        seen = _look(net, layers, image_shape, title, how)
        for name in layers:
            _check(net, name, seen.get(name), image_shape, title)
        cached[key] = {name: s for name in layers if (s := seen[name].space) is not None}
    return cached[key]


def all_maps(
    net: nn.Module, image_shape: Sequence[int], title: str = "the network"
) -> dict[str, Space]:
    """Every module that gives a map once for an image, in the order in which they end.

    Maps of one row or column are left out, and layers that only pass or
    pool one, and single matrices.

    Raises
    ------
    ConfigError
        If the network does not take such images.
    """
    modules = {name: module for name, module in net.named_modules() if name}
    # A matrix is a part of a block: what attention reads, or what it gives.
    passing = nn.Dropout | nn.AdaptiveAvgPool2d | nn.AdaptiveAvgPool3d | nn.Linear
    how = shapes if len(image_shape) > 3 else look
    return {
        name: s.space
        for name, s in _look(net, modules, image_shape, title, how).items()
        if s.space is not None
        and s.runs == 1
        and min(s.space.grid[-2:]) > 1
        and not isinstance(modules[name], passing)
    }


def main_map(maps: Mapping[str, Space]) -> str | None:
    """The last map that speaks for itself; None if there is none.

    In a transformer whose class token alone is read, the places of its last block no longer
    matter. Then it is the last map before whose places do, of as many channels: what the block
    attends to, and not a part of it.
    """
    if not maps:
        return None
    last = list(maps.values())[-1]
    living = [name for name, space in maps.items() if space.alive]
    alike = [name for name in living if maps[name].channels == last.channels]
    return next(reversed(alike or living), None)


def main_maps(maps: Mapping[str, Space]) -> dict[str, Space]:
    """`main_map` of every resolution, in the order in which the network reaches them last."""
    sizes: dict[tuple[int, ...], dict[str, Space]] = {}
    for name, space in maps.items():
        sizes.setdefault(space.grid, {})[name] = space
    mains = {main_map(of_size) for of_size in sizes.values()}
    return {name: space for name, space in maps.items() if name in mains}


def advice(net: nn.Module, image_shape: Sequence[int]) -> str:
    """Layers of a network that have maps of such images, coarse to fine, as words.

    Of volumes nothing is said.
    """
    if len(image_shape) > 3:
        return ""
    maps = main_maps(all_maps(net, image_shape))
    names = [
        f"{_known_as(net, name)} ({s.grid[0]} x {s.grid[1]})" for name, s in reversed(maps.items())
    ]
    return ", ".join(names)


def _known_as(net: nn.Module, name: str) -> str:
    """The name of a layer as the experiment gives it: below the network of a classifier."""
    return name.removeprefix("net.") if isinstance(net, Classifier) else name


def _look(
    net: nn.Module,
    layers: Mapping[str, nn.Module],
    image_shape: Sequence[int],
    title: str,
    how: Callable[..., dict[str, Seen]] = look,
) -> dict[str, Seen]:
    try:
        return how(net, layers, image_shape)
    except ConfigError:
        raise
    except Exception as e:  # what a stranger's network raises is of any kind
        if lacks_memory(e):
            raise
        raise ConfigError(
            f"{title} does not take images of {_size(image_shape)}.",
            where="data.image_size",
            found=first_line(e),
            fix="set another data.image_size, or choose another network",
        ) from None


def _size(image_shape: Sequence[int]) -> str:
    channels, *slices, height, width = image_shape
    pixels = f"{height} pixels" if height == width else f"{height} x {width} pixels"
    pixels = f"{slices[0]} slices of {pixels}" if slices else pixels
    return pixels if channels in (1, 3) else f"{pixels} and {channels} channels"


def _check(
    net: nn.Module, name: str, seen: Seen | None, image_shape: Sequence[int], title: str
) -> None:
    """Refuse a layer that no heatmap can be made of."""
    if seen is not None and seen.runs == 1 and seen.space is not None and seen.space.alive:
        return
    others, name = advice(net, image_shape), _known_as(net, name)
    what, expected = _fault(name, seen, image_shape, title)
    raise ConfigError(
        what,
        where="heatmap.layer",
        found=f"{name}: {seen.found}" if seen is not None else name,
        expected=expected,
        fix=f"name one of its layers that have: {others}"
        if others
        else "choose another network, or larger images (data.image_size)",
    )


def _fault(
    name: str, seen: Seen | None, image_shape: Sequence[int], title: str
) -> tuple[str, str | None]:
    if seen is None or seen.runs != 1:
        runs = 0 if seen is None else seen.runs
        return f"A heatmap layer must run exactly once for an image: {name} ran {runs} times.", None
    if seen.space is not None:
        return (
            "The heatmap layer does not lead to the class scores.",
            "places that the class scores depend on; behind the last attention the scores are "
            "often read from a class token alone",
        )
    if len(seen.shape) == 4 and (1, 1) in (seen.shape[1:3], seen.shape[2:]):
        return (
            f"The heatmap layer {name} of {title} gives a single value for images of "
            f"{_size(image_shape)}: nothing has a place in a map of 1 x 1.",
            "a map of at least 2 x 2",
        )
    return (
        "The heatmap layer does not give a map.",
        "an output of shape (batch, channels, height, width), (batch, height, width, channels) or "
        "(batch, tokens, channels) whose places follow those of the image",
    )
