"""Receptive field and stride of any convolutional network, computed and measured.

**Definition.** An output voxel at index i sees input voxels between ``stride·i + first`` and
``stride·i + last``. In a network that upsamples, neighbouring outputs see differently placed
fields (three neighbours of DeepMedic's low-resolution pathway see the same one). ``first`` and
``last`` are the extremes over all outputs, and the receptive field is ``last - first + 1``: the
side of the smallest window about *any* output that holds everything the output depends on. For
networks that only downsample it is the textbook's ``1 + Σ (k - 1)·s``. Of single outputs, some may
see less: one voxel of DeepMedic's low-resolution pathway spans 49 voxels; the three voxels of a
block, each centred, span 51.

**Computed.** `receptive_fields` runs the network once on tensors without data and follows the
window of each tensor's elements through every operation: convolutions (dilated, strided,
transposed), pooling, interpolation, padding, slices; it takes the union where branches meet. An
operation it does not know is an error, not a guess.

**Measured.** `measured_receptive_field` takes the gradient of output voxels with respect to the
input. In a real network gradients cancel, die in a ReLU or choose one voxel of a max-pool, so that
the network is run in a linearised form: one channel, positive weights, no activations and
normalisations, means for maxima. What is connected then has a positive gradient.

References
----------
Araujo, Norris, Sim, "Computing receptive fields of convolutional neural networks", Distill 2019.
Bertels, Robben, Lemmens, Vandermeulen, arXiv 2211.09562 (input = receptive field - 1 + output).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from weakseg.errors import ConfigError
from weakseg.models.modes import evaluating
from weakseg.models.tracing import Linearised, Window, WindowTracer


@dataclass(frozen=True)
class ReceptiveField:
    """What an output voxel sees, per axis in input voxels.

    Attributes
    ----------
    size : tuple of int
        Side of the window. Global branches (see `whole_image`) are left out of it.
    stride : tuple of float
        Input voxels from one output voxel to the next: 32 for a ResNet's last map, 1 for a
        segmenter's scores.
    first, last : tuple of float
        Ends of the window relative to ``stride`` times the output's index.
    whole_image : bool
        Whether a global pooling (squeeze-and-excitation, image pooling) lets every voxel of the
        image have some influence beside the window.
    deepest_stride : int
        The largest stride of any map on the way: 32 for an FCN's scores, 16 for a U-Net's. Outputs
        whose indices differ by it see equally placed fields.
    """

    size: tuple[int, ...]
    stride: tuple[float, ...]
    first: tuple[float, ...]
    last: tuple[float, ...]
    whole_image: bool
    deepest_stride: int

    def input_size(self, output: int, axis: int = 0) -> int:
        """Side of the input that holds the whole window of ``output`` neighbouring voxels.

        ``size - 1 + output`` at stride 1. For a network with several strides inside, a valid
        U-Net, it is an upper bound; the network's own ``input_size`` is exact.
        """
        return math.ceil(self.size[axis] + (output - 1) * self.stride[axis])


def receptive_fields(
    net: nn.Module, input_shape: Sequence[int], layers: Sequence[str] = ("",)
) -> dict[str, ReceptiveField]:
    """Receptive field of the network's output and of maps inside it.

    Parameters
    ----------
    net : nn.Module
        On any device; its weights are not used and not copied.
    input_shape : sequence of int
        (B, C, *size) of an input that the network takes. The result does not depend on it, if
        upsampling is by whole factors.
    layers : sequence of str, optional
        Names of modules that give one tensor; ``""`` is the output of the network.

    Returns
    -------
    dict of ReceptiveField
        By layer.

    Raises
    ------
    ConfigError
        For an unknown layer, one that is not reached, or an operation that cannot be followed.
    """
    tracer, maps = _run(net, input_shape, layers)
    fields = {}
    for name in layers:
        window = tracer.window(maps[name]) if name in maps else None
        if window is None:
            raise ConfigError(f"The layer {name!r} gives no map that depends on the input.")
        fields[name] = _field(window, name)
    return fields


def receptive_field(net: nn.Module, input_shape: Sequence[int], layer: str = "") -> ReceptiveField:
    """Receptive field of one layer: see `receptive_fields`."""
    return receptive_fields(net, input_shape, (layer,))[layer]


def strides(net: nn.Module, input_shape: Sequence[int]) -> dict[str, float]:
    """Stride along the first axis of the map that each module gives, in order of execution.

    Modules that give no map, one that is not followed, or a vector, are left out.
    """
    names = [n for n, _ in net.named_modules() if n]
    tracer, maps = _run(net, input_shape, names)
    by_layer: dict[str, float] = {}
    for name, tensor in maps.items():
        window = tracer.window(tensor)
        axis = window.axes[2] if window and len(window.axes) > 2 else None
        if axis is not None and window is not None and not window.unknown:
            by_layer[name] = float(axis.stride)
    return by_layer


def _run(
    net: nn.Module, input_shape: Sequence[int], layers: Sequence[str]
) -> tuple[WindowTracer, dict[str, Tensor]]:
    modules = dict(net.named_modules())
    maps: dict[str, Tensor] = {}
    handles = []
    # Before any hook: one that is set when another layer is refused would stay.
    for name in layers:
        if name not in modules:
            raise ConfigError(f"The network has no layer {name!r}.")
    for name in layers:

        def keep(_m: nn.Module, _i: Any, out: Any, name: str = name) -> None:
            if isinstance(out, Tensor):
                maps[name] = out

        handles.append(modules[name].register_forward_hook(keep))
    weights = {
        name: torch.empty_like(tensor, device="meta")
        for name, tensor in [*net.named_parameters(), *net.named_buffers()]
    }
    image = torch.empty(*input_shape, device="meta")
    try:
        with torch.no_grad(), evaluating(net), WindowTracer(image) as tracer:
            functional_call(net, weights, (image,))
    finally:
        for handle in handles:
            handle.remove()
    return tracer, maps


def _field(window: Window, name: str) -> ReceptiveField:
    axes = window.axes[2:]
    if window.unknown or any(a is None for a in axes):
        through = f" through {window.unknown!r}" if window.unknown else ": it is no map"
        raise ConfigError(
            f"The receptive field of layer {name!r} cannot be followed{through}.",
            fix="name a layer before it",
        )
    placed = [a for a in axes if a is not None]
    return ReceptiveField(
        size=tuple(math.floor(a.last - a.first) + 1 for a in placed),
        stride=tuple(float(a.stride) for a in placed),
        first=tuple(float(a.first) for a in placed),
        last=tuple(float(a.last) for a in placed),
        whole_image=window.whole,
        deepest_stride=math.ceil(window.deepest),
    )


def measured_receptive_field(
    net: nn.Module,
    size: Sequence[int],
    *,
    layer: str = "",
    outputs: int = 1,
    stride: float = 1,
) -> tuple[int | None, ...]:
    """Receptive field by the gradient of output voxels with respect to the input.

    Parameters
    ----------
    net : nn.Module
        On the CPU. Only its structure counts.
    size : sequence of int
        Of the input; more than the receptive field, or the border cuts it. An axis that does not
        matter may be kept narrow, to save time.
    layer : str, optional
        Name of the module whose output is measured, by default the network's.
    outputs : int, optional
        Neighbouring output voxels, on the diagonal about the centre, over which the extremes are
        taken: ``deepest_stride`` for a network that upsamples.
    stride : float, optional
        Input voxels from one of them to the next.

    Returns
    -------
    tuple of (int or None)
        Side of the window per axis; None where it reached a border of the image: a larger input,
        if any, is needed to see its end.

    Raises
    ------
    ConfigError
        If the layer gives no map.
    """
    kept: list[Tensor] = []
    handle = net.get_submodule(layer).register_forward_hook(lambda _m, _i, out: kept.append(out))
    image = torch.ones(1, 1, *size, dtype=torch.float64, requires_grad=True)
    try:
        with evaluating(net), Linearised():
            net(image)
    finally:
        handle.remove()
    if not kept or kept[-1].ndim != image.ndim:
        raise ConfigError(f"The layer {layer!r} gives no map.")
    scores = kept[-1][0].sum(0)
    first, last = [math.inf] * len(size), [-math.inf] * len(size)
    cut = [False] * len(size)
    for step in range(outputs):
        at = tuple(min(max(n // 2 - outputs // 2 + step, 0), n - 1) for n in scores.shape)
        (gradient,) = torch.autograd.grad(scores[at], image, retain_graph=True)
        seen = gradient[0, 0].nonzero()
        low, high = seen.amin(0).tolist(), seen.amax(0).tolist()
        for axis, n in enumerate(size):
            cut[axis] = cut[axis] or low[axis] == 0 or high[axis] == n - 1
            first[axis] = min(first[axis], low[axis] - stride * at[axis])
            last[axis] = max(last[axis], high[axis] - stride * at[axis])
    return tuple(None if c else int(b - a) + 1 for c, a, b in zip(cut, first, last, strict=True))
