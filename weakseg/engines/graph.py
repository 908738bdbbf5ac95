"""A function of torch as an ONNX graph, the gradients that it takes included.

A heatmap is a network and a gradient behind one of its layers. Where the gradient is a fixed
sequence of operations it can be written down like the network itself: the function is run once on
an example, every operation that PyTorch then performs is recorded, those of the backward pass too,
and the record becomes the graph. Behind the last map of a network with global pooling and a linear
layer that is the closed form: a row of weights.
"""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from weakseg.errors import UserError, first_line, lacks_memory

Function = Callable[..., Sequence[Tensor]]
"""Tensors to tensors, whose steps do not depend on the values."""


class ExportError(UserError):
    """A function that no graph can be made of."""


def onnx_of(
    function: Function,
    example: Sequence[Tensor],
    inputs: Sequence[str],
    outputs: Sequence[str],
    *,
    what: str,
) -> bytes:
    """A function as a serialised ONNX model.

    Parameters
    ----------
    function : callable
        What it makes of tensors of the example's shapes; other shapes are refused by the graph.
    example : sequence of Tensor
        On the processor, laid out contiguously, as are the function's own tensors.
    inputs, outputs : sequence of str
        Names in the graph.
    what : str
        The subject of messages, such as ``resnet18 with eigencam``.

    Returns
    -------
    bytes

    Raises
    ------
    ExportError
        With the operation that has no place in such a graph.
    """
    from torch.fx.experimental.proxy_tensor import make_fx

    try:
        with torch.autocast("cpu", enabled=False), _quiet():
            traced = make_fx(lambda *given: tuple(function(*given)), _steps())(*example)
            traced.graph.eliminate_dead_code()
            traced.recompile()
            program = torch.onnx.export(
                traced,
                tuple(example),
                dynamo=True,
                verbose=False,
                input_names=list(inputs),
                output_names=list(outputs),
            )
            assert program is not None
            return bytes(program.model_proto.SerializeToString())
    except UserError:
        raise
    except Exception as e:  # whatever the exporter raises of what it cannot do
        if lacks_memory(e):
            raise
        raise ExportError(
            f"{what} cannot be written as a graph for another engine.",
            where="engine",
            found=_reason(e),
            fix="set engine: torch",
        ) from None


def onnx_of_any_size(
    model: torch.nn.Module, example: Tensor, step: int, longest: int, *, what: str
) -> bytes:
    """A network as a serialised ONNX model that takes images or volumes of any size.

    Parameters
    ----------
    model : nn.Module
        In evaluation mode, on the processor; its steps do not depend on the size.
    example : (1, C, *size) Tensor
        Sides are whole multiples of ``step``, and more than one.
    step, longest : int
        Sides are multiples of ``step``, at most ``longest`` of them.
    what : str
        See `onnx_of`.

    Raises
    ------
    ExportError
        For a network whose steps depend on the size.
    """
    sides = range(2, example.ndim)
    dims = {i: step * torch.export.Dim(f"side_{i}", min=1, max=longest) for i in sides}
    try:
        with torch.autocast("cpu", enabled=False), torch.no_grad(), _quiet():
            traced = torch.export.export(model, (example,), dynamic_shapes=(dims,), strict=False)
            names: Any = {"input_names": ["images"], "output_names": ["logits"]}
            program = torch.onnx.export(traced, (example,), dynamo=True, verbose=False, **names)
            assert program is not None
            return bytes(program.model_proto.SerializeToString())
    except Exception as e:  # whatever the exporter raises of what it cannot do
        if lacks_memory(e):
            raise
        raise ExportError(
            f"{what} cannot be written as a graph for volumes of any size.",
            where="export",
            found=_reason(e),
            fix="use weakseg predict on the run itself",
        ) from None


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Nothing of what the exporter says of its steps."""
    exporters = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript", "onnx_ir")]
    levels = [logger.level for logger in exporters]
    for logger in exporters:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(exporters, levels, strict=True):
            logger.setLevel(level)


def _reason(e: BaseException) -> str:
    """The innermost cause, which names the operation."""
    while e.__cause__ is not None:
        e = e.__cause__
    return f"{type(e).__name__}: {first_line(e)}"


def _steps() -> dict[Any, Callable[..., Any]]:
    """Backward operations that ONNX does not know → the same by forward ones."""
    aten = torch.ops.aten
    return {
        aten.convolution_backward.default: _convolution_backward,
        aten.max_pool2d_with_indices_backward.default: _max_pool_backward,
        aten.max_pool3d_with_indices_backward.default: _max_pool_backward,
        aten._adaptive_avg_pool2d_backward.default: _adaptive_pool_backward,
        aten.avg_pool2d_backward.default: _average_pool_backward,
        aten.silu_backward.default: _silu_backward,
    }


def _convolution_backward(
    gradient: Tensor,
    given: Tensor,
    weight: Tensor,
    bias_sizes: Any,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    transposed: bool,
    output_padding: Sequence[int],
    groups: int,
    wanted: Sequence[bool],
) -> tuple[Tensor | None, None, None]:
    """The gradient of a convolution's input: the transposed convolution."""
    if wanted[1] or wanted[2] or transposed:
        raise NotImplementedError("the gradient of a layer's weights")
    kernel = weight.shape[2:]
    none = [0] * len(kernel)
    if groups == 1 and all(s == 1 for s in stride):
        # As a convolution with the kernel turned round, which engines have faster kernels for.
        turned = weight.transpose(0, 1).flip(list(range(2, weight.ndim)))
        pads = [d * (k - 1) - p for d, k, p in zip(dilation, kernel, padding, strict=True)]
        if min(pads) >= 0:
            run = torch.ops.aten.convolution
            ones = [1] * len(kernel)
            return run(gradient, turned, None, ones, pads, dilation, False, none, 1), None, None
    rest = [
        n - ((g - 1) * s - 2 * p + d * (k - 1) + 1)
        for n, g, s, p, d, k in zip(
            given.shape[2:], gradient.shape[2:], stride, padding, dilation, kernel, strict=True
        )
    ]
    run = torch.ops.aten.convolution
    return run(gradient, weight, None, stride, padding, dilation, True, rest, groups), None, None


def _max_pool_backward(
    gradient: Tensor,
    given: Tensor,
    kernel: Any,
    stride: Any,
    padding: Any,
    dilation: Any,
    ceil_mode: bool,
    indices: Tensor,
) -> Tensor:
    """Each value's gradient goes to the place that it was taken from."""
    flat = given.new_zeros(given.shape).flatten(2)
    return flat.scatter_add(2, indices.flatten(2), gradient.flatten(2)).reshape(given.shape)


def _adaptive_pool_backward(gradient: Tensor, given: Tensor) -> Tensor:
    """By the matrices that say which share of a place each value is."""
    rows, columns = (
        _shares(n, m) for n, m in zip(given.shape[2:], gradient.shape[2:], strict=True)
    )
    return rows.T @ gradient @ columns


def _shares(n: int, m: int) -> Tensor:
    """What of n places each of m means is made of, (m, n)."""
    shares = torch.zeros(m, n)
    for i in range(m):
        first, last = i * n // m, -(-(i + 1) * n // m)
        shares[i, first:last] = 1 / (last - first)
    return shares


def _silu_backward(gradient: Tensor, given: Tensor) -> Tensor:
    """The derivative of x·σ(x): σ(x)·(1 + x·(1 - σ(x)))."""
    share = given.sigmoid()
    return gradient * share * (1 + given * (1 - share))


def _average_pool_backward(
    gradient: Tensor,
    given: Tensor,
    kernel: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[int],
    ceil_mode: bool,
    count_include_pad: bool,
    divisor: int | None,
) -> Tensor:
    """A transposed convolution with a kernel of equal weights, each channel alone."""
    if any(padding) or ceil_mode or divisor:
        raise NotImplementedError("the gradient of an average pooling with padding")
    channels = given.shape[1]
    size = list(kernel) * (2 // len(kernel))
    steps = list(stride or kernel)
    steps *= 2 // len(steps)
    rest = [
        n - ((g - 1) * s + k)
        for n, g, s, k in zip(given.shape[2:], gradient.shape[2:], steps, size, strict=True)
    ]
    weight = torch.full((channels, 1, *size), 1 / (size[0] * size[1]))
    run = torch.ops.aten.convolution
    return run(gradient, weight, None, steps, [0, 0], [1, 1], True, rest, channels)
