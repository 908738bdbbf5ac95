"""Two ways to run a network for its connections only: windows without data, and linearised.

Both listen to the calls that a network makes of PyTorch's functions (`TorchFunctionMode`), so that
they work on any module, cropping and padding by indices included. `weakseg.models.receptive_field`
is their door.

One room, since the two ways read the same recorded calls.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import wraps
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode, handle_torch_function, has_torch_function


@dataclass(frozen=True)
class Axis:
    """Element i of a map depends on inputs ``stride·i + first`` to ``stride·i + last``."""

    stride: Fraction
    first: Fraction
    last: Fraction

    def through(self, stride: Fraction, first: Fraction, last: Fraction) -> Axis:
        """The window after a layer whose element i reads ``stride·i + first`` to ``… + last``."""
        return Axis(
            self.stride * stride, self.first + self.stride * first, self.last + self.stride * last
        )


@dataclass(frozen=True)
class Window:
    """Windows of a tensor's dimensions.

    Attributes
    ----------
    axes : tuple of Axis or None
        One a dimension; None for batch, channels, and what has been pooled away.
    whole : bool
        Whether the elements also depend on the whole image by a global pooling.
    unknown : str
        The operation that could not be followed, if any.
    deepest : Fraction
        The largest stride of any map on the way here.
    """

    axes: tuple[Axis | None, ...]
    whole: bool = False
    unknown: str = ""
    deepest: Fraction = Fraction(1)

    def with_last(self, axes: Sequence[Axis | None]) -> Window:
        """The same with the last dimensions replaced."""
        return replace(self, axes=(*self.axes[: len(self.axes) - len(axes)], *axes))


def _each(value: Any, n: int) -> list[Any]:
    if isinstance(value, Sequence) and not isinstance(value, str):
        return list(value) * n if len(value) == 1 else list(value)
    return [value] * n


def _slide(
    window: Window, kernel: Sequence[int], stride: Any, padding: Any, dilation: Any
) -> Window:
    n = len(kernel)
    steps, pads, holes = _each(stride, n), _each(padding, n), _each(dilation, n)
    if isinstance(padding, str):
        pads = [(k - 1) * d // 2 if padding == "same" else 0 for k, d in zip(kernel, holes)]  # noqa: B905
    axes = [
        a and a.through(Fraction(s), Fraction(-p), Fraction((k - 1) * d - p))
        for a, k, s, p, d in zip(window.axes[-n:], kernel, steps, pads, holes, strict=True)
    ]
    return window.with_last(axes)


def _conv(
    window: Window,
    out: Tensor,
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> Window:
    return _slide(window, weight.shape[2:], stride, padding, dilation)


def _transposed(
    window: Window,
    out: Tensor,
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Any = 1,
    padding: Any = 0,
    output_padding: Any = 0,
    groups: int = 1,
    dilation: Any = 1,
) -> Window:
    kernel = weight.shape[2:]
    n = len(kernel)
    axes = [
        a and a.through(Fraction(1, s), Fraction(p - (k - 1) * d, s), Fraction(p, s))
        for a, k, s, p, d in zip(
            window.axes[-n:],
            kernel,
            _each(stride, n),
            _each(padding, n),
            _each(dilation, n),
            strict=True,
        )
    ]
    return window.with_last(axes)


def _pool(
    window: Window,
    out: Tensor,
    x: Tensor,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    *_: Any,
    **__: Any,
) -> Window:
    kernel = _each(kernel_size, x.ndim - 2)
    # Average pooling has no dilation; the place is that of `ceil_mode`, a bool.
    holes = 1 if isinstance(dilation, bool) else dilation
    return _slide(window, kernel, kernel if stride in (None, []) else stride, padding, holes)


def _pool_to(window: Window, out: Tensor, x: Tensor, *_: Any, **__: Any) -> Window:
    n = x.ndim - 2
    if out.shape[-n:] == x.shape[-n:]:
        return window
    return replace(window.with_last([None] * n), whole=True)


def _flatten(window: Window, out: Tensor, *_: Any, **__: Any) -> Window:
    return replace(window, axes=(None,) * out.ndim, whole=True)


def _mean(
    window: Window,
    out: Tensor,
    x: Tensor,
    dim: Any = None,
    keepdim: bool = False,
    **_: Any,
) -> Window:
    dims = range(x.ndim) if dim is None else [dim] if isinstance(dim, int) else dim
    gone = {d % x.ndim for d in dims}
    axes = [None if d in gone else a for d, a in enumerate(window.axes) if keepdim or d not in gone]
    whole = window.whole or any(window.axes[d] for d in gone)
    return replace(window, axes=tuple(axes), whole=whole)


def _interpolate(
    window: Window,
    out: Tensor,
    x: Tensor,
    size: Any = None,
    scale_factor: Any = None,
    mode: str = "nearest",
    align_corners: bool | None = None,
    *_: Any,
    **__: Any,
) -> Window:
    n = x.ndim - 2
    if mode not in ("nearest", "bilinear", "trilinear", "linear"):
        return replace(window, unknown=f"interpolate({mode})")
    if align_corners:  # the ratio of the sides is then none of whole numbers
        return replace(window, unknown=f"interpolate({mode}, align_corners)")
    axes = []
    for a, before, after in zip(window.axes[-n:], x.shape[-n:], out.shape[-n:], strict=True):
        ratio = Fraction(before, after)
        ends = [_sources(j, ratio, mode) for j in range(after)]
        first = min(low - ratio * j for j, (low, _) in enumerate(ends))
        last = max(high - ratio * j for j, (_, high) in enumerate(ends))
        axes.append(a and a.through(ratio, first, last))
    return window.with_last(axes)


def _sources(j: int, ratio: Fraction, mode: str) -> tuple[int, int]:
    """First and last element that element j is interpolated from, borders aside."""
    if mode == "nearest":
        return int(j * ratio // 1), int(j * ratio // 1)
    at = (j + Fraction(1, 2)) * ratio - Fraction(1, 2)
    low = at // 1
    return int(low), int(low) + (at != low)


def _pad(window: Window, out: Tensor, x: Tensor, pad: Sequence[int], *_: Any, **__: Any) -> Window:
    axes = list(window.axes)
    for i in range(len(pad) // 2):
        axis = axes[-1 - i]
        shift = Fraction(-pad[2 * i])
        axes[-1 - i] = axis and axis.through(Fraction(1), shift, shift)
    return replace(window, axes=tuple(axes))


def _take(window: Window, out: Tensor, x: Tensor, index: Any) -> Window:
    if not any(window.axes):
        return replace(window, axes=(None,) * out.ndim)
    indices = list(index) if isinstance(index, tuple) else [index]
    if Ellipsis in indices:
        at = indices.index(Ellipsis)
        indices[at : at + 1] = [slice(None)] * (x.ndim - len(indices) + 1)
    if not all(isinstance(i, slice) for i in indices):
        return replace(window, axes=(None,) * out.ndim, unknown="indexing")
    axes = list(window.axes)
    for d, cut in enumerate(indices):
        axis = axes[d]
        start, _, step = cut.indices(x.shape[d])
        axes[d] = axis and axis.through(Fraction(step), Fraction(start), Fraction(start))
    return replace(window, axes=tuple(axes))


def _permute(window: Window, out: Tensor, x: Tensor, *dims: Any, **kwargs: Any) -> Window:
    order = kwargs.get("dims") or (dims[0] if isinstance(dims[0], Sequence) else dims)
    return replace(window, axes=tuple(window.axes[d] for d in order))


def _swap(window: Window, out: Tensor, x: Tensor, first: int, second: int) -> Window:
    axes = list(window.axes)
    axes[first], axes[second] = axes[second], axes[first]
    return replace(window, axes=tuple(axes))


def _along(name: str) -> Callable[..., Window]:
    """The rule of what joins all that lies along one axis, which no place may lie along."""

    def rule(
        window: Window, out: Tensor, x: Tensor, dim: int | None = None, *_: Any, **__: Any
    ) -> Window:
        followed = dim is None or window.axes[dim] is not None
        return replace(window, unknown=name) if followed and any(window.axes) else window

    return rule


def _last_axis(window: Window, out: Tensor, *_: Any, **__: Any) -> Window:
    return replace(window, unknown="linear") if window.axes[-1] else window


def _layer_norm(
    window: Window, out: Tensor, x: Tensor, normalized_shape: Sequence[int], *_: Any, **__: Any
) -> Window:
    return replace(window, whole=window.whole or any(window.axes[-len(normalized_shape) :]))


def _moved(name: str) -> Callable[..., Window]:
    """The rule of what brings places to other places, of whichever axis."""

    def rule(window: Window, out: Tensor, *_: Any, **__: Any) -> Window:
        axes = window.axes if len(window.axes) == out.ndim else (None,) * out.ndim
        return replace(window, axes=axes, unknown=name) if any(window.axes) else window

    return rule


def _move_axis(window: Window, out: Tensor, x: Tensor, source: int, to: int) -> Window:
    axes = list(window.axes)
    moved = axes.pop(source % x.ndim)
    axes.insert(to % x.ndim, moved)
    return replace(window, axes=tuple(axes))


def _windowed(window: Window, out: Tensor, x: Tensor, block: Any, side: int, shift: int) -> Window:
    """Attention within windows: a place sees its own, which may begin or end with it."""
    return _slide(window, [2 * side - 1] * (x.ndim - 2), 1, side - 1, 1)


def _statistics(window: Window, *_: Any, **__: Any) -> Window:
    return replace(window, whole=True)


_RULES: dict[str, Callable[..., Window]] = {
    **dict.fromkeys(("conv1d", "conv2d", "conv3d"), _conv),
    **dict.fromkeys(("conv_transpose1d", "conv_transpose2d", "conv_transpose3d"), _transposed),
    **dict.fromkeys(("max_pool2d", "max_pool3d", "avg_pool2d", "avg_pool3d"), _pool),
    **dict.fromkeys(("adaptive_avg_pool2d", "adaptive_avg_pool3d"), _pool_to),
    **dict.fromkeys(("group_norm", "instance_norm", "weighed_by_lines"), _statistics),
    "mean": _mean,
    "flatten": _flatten,
    "windowed": _windowed,
    "interpolate": _interpolate,
    "pad": _pad,
    "__getitem__": _take,
    "permute": _permute,
    "movedim": _move_axis,
    **dict.fromkeys(("transpose", "swapaxes", "swapdims"), _swap),
    **{n: _along(n) for n in ("softmax", "log_softmax", "cumsum", "cumprod", "sort")},
    "linear": _last_axis,
    "layer_norm": _layer_norm,
    # What keeps the shape, so that it would be taken for an operation on each place.
    **{n: _moved(n) for n in ("roll", "flip", "fliplr", "flipud", "rot90", "grid_sample")},
    **{n: _moved(n) for n in ("matmul", "__matmul__", "bmm", "einsum")},
    **{n: _moved(n) for n in ("gather", "take_along_dim", "index_select")},
}


def one_operation(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """Let a function of tensors be one call to those who follow what a place sees.

    For what rearranges places inside and cannot be followed step by step. Without an entry in the
    rules, places of its result see what the same places of its operands do.
    """

    @wraps(function)
    def call(*args: Any) -> Tensor:
        tensors = tuple(_tensors(args))
        if has_torch_function(tensors):
            return handle_torch_function(call, tensors, *args)
        return function(*args)

    return call


def _tensors(values: Any) -> Iterator[Tensor]:
    for value in values:
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, list | tuple):
            yield from _tensors(value)


class WindowTracer(TorchFunctionMode):
    """Follows windows from an image through every call made while it is active.

    Parameters
    ----------
    image : (B, C, *size) Tensor
    """

    def __init__(self, image: Tensor) -> None:
        super().__init__()
        start = Axis(Fraction(1), Fraction(0), Fraction(0))
        # The tensors are held as well: a freed one's identity could be given to another.
        self._known: dict[int, tuple[Tensor, Window]] = {}
        self._set(image, Window((None, None, *[start] * (image.ndim - 2))))

    def window(self, tensor: Tensor) -> Window | None:
        """The window of a tensor, None if it does not depend on the image."""
        entry = self._known.get(id(tensor))
        return entry[1] if entry else None

    def _set(self, tensor: Tensor, window: Window) -> None:
        deepest = max([window.deepest, *(a.stride for a in window.axes if a)])
        self._known[id(tensor)] = (tensor, replace(window, deepest=deepest))

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        # Before the call: an operation in place gives its input's identity to its output.
        windows = [
            (t, w) for t in _tensors([*args, *kwargs.values()]) if (w := self.window(t)) is not None
        ]
        shapes = [tuple(t.shape) for t, _ in windows]
        out = func(*args, **kwargs)
        if not windows:
            return out
        name = getattr(func, "__name__", str(func))
        for result in _tensors(out if isinstance(out, list | tuple) else [out]):
            rule = _RULES.get(name)
            window = (
                rule(windows[0][1], result, *args, **kwargs)
                if rule
                else _pointwise(name, [w for _, w in windows], shapes, tuple(result.shape))
            )
            self._set(result, window)
        return out


def _pointwise(
    name: str, windows: Sequence[Window], shapes: Sequence[tuple[int, ...]], out: tuple[int, ...]
) -> Window:
    """Union of the operands' windows; an operation that moves voxels is marked unknown."""
    unknown = next((w.unknown for w in windows if w.unknown), "")
    axes: list[Axis | None] = [None] * len(out)
    for window, shape in zip(windows, shapes, strict=True):
        if not any(window.axes):
            continue
        lead = len(out) - len(shape)
        if lead < 0:
            unknown = unknown or name
            continue
        for d, axis in enumerate(window.axes, start=lead):
            if axis is None:
                continue
            before = axes[d]
            if shape[d - lead] != out[d] or (before and before.stride != axis.stride):
                unknown = unknown or name
            axes[d] = (
                Axis(axis.stride, min(before.first, axis.first), max(before.last, axis.last))
                if before
                else axis
            )
    return Window(
        tuple(axes),
        any(w.whole for w in windows),
        unknown,
        max(w.deepest for w in windows),
    )


_IDENTITIES = {
    *("batch_norm", "layer_norm", "group_norm", "instance_norm"),
    *("relu", "relu_", "leaky_relu", "prelu", "elu", "gelu", "silu", "hardtanh", "hardswish"),
    *("dropout", "dropout2d", "dropout3d"),
}


class Linearised(TorchFunctionMode):
    """Runs a network as one of positive weights that passes every gradient.

    Each convolution gives one channel, the mean of what its kernel covers; activations and
    normalisations pass their input, pools of maxima take means. The network's own weights are not
    read.
    """

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        name = getattr(func, "__name__", str(func))
        if name in _IDENTITIES:
            return args[0]
        if name == "linear":
            return args[0].mean(-1, keepdim=True)
        if name.startswith("conv") and name[-1] == "d":
            x, weight = args[0], args[1]
            ends = (x.shape[1], 1) if "transpose" in name else (1, x.shape[1])
            ones = x.new_ones(*ends, *weight.shape[2:])
            names = ("stride", "padding", "output_padding", "groups", "dilation")
            if "transpose" not in name:
                names = ("stride", "padding", "dilation", "groups", "")
            options = {**dict(zip(names, args[3:], strict=False)), **kwargs, "groups": 1}
            options.pop("bias", None)
            return func(x, ones / ones.numel(), None, **options)
        if name.startswith("max_pool"):
            return _mean_pool(name[-2], *args, **kwargs)
        return func(*args, **kwargs)


def _mean_pool(
    dims: str,
    x: Tensor,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Tensor:
    if any(d != 1 for d in _each(dilation, 1)):
        raise ValueError("a dilated max-pool cannot be replaced by an average")
    pool = torch.nn.functional.avg_pool2d if dims == "2" else torch.nn.functional.avg_pool3d
    return pool(x, kernel_size, stride or None, padding, ceil_mode)
