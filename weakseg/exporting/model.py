"""An exported method, and what graphs of all kinds of methods share."""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from weakseg.exporting.masks import HALF, Nodes


class Model(NamedTuple):
    """An exported method.

    Attributes
    ----------
    onnx : bytes
        See `weakseg.exporting.description.INPUTS` and `weakseg.exporting.description.OUTPUTS`.
    outputs : tuple of str
        Which of the outputs it has.
    labels, lesion_labels : tuple of str
        Of the classifiers in it; empty without.
    channels : int
        Of the squares.
    inputs : tuple of str
        Their names, in their order.
    size : int
        Side of the square ``images``.
    precision : str
        The run's; the model itself is fp32.
    layer : str
        Of the heatmap; empty for a segmenter.
    mean, std : tuple of float
        By which the first network's input is normalised inside; empty for none.
    alone : bool
        Whether the run's masks of a slice look at the slices beside it, as the model's do not.
    """

    onnx: bytes
    outputs: tuple[str, ...]
    labels: tuple[str, ...]
    lesion_labels: tuple[str, ...]
    channels: int
    inputs: tuple[str, ...]
    size: int
    precision: str
    layer: str
    mean: tuple[float, ...]
    std: tuple[float, ...]
    alone: bool = False


def plain(models: Sequence[nn.Module]) -> list[Any]:
    """Copies as a graph is made of them."""
    laid = torch.contiguous_format
    return [deepcopy(m).cpu().float().eval().to(memory_format=laid) for m in models]


def rounded(images: Tensor) -> Tensor:
    """To half precision, as images are kept; see `HALF`."""
    long = images * HALF
    return long - (long - images)


def parse(model: bytes, boxes: Sequence[str] = ("box",)) -> tuple[Any, Nodes]:
    """A graph, to which operations can be added, and the inputs that say where images lie."""
    import onnx

    proto = onnx.load_from_string(model)
    for name in boxes:
        info = onnx.helper.make_tensor_value_info(name, onnx.TensorProto.INT64, [6])
        proto.graph.input.append(info)
    proto.doc_string = "Made by weakseg. For research only: no medical device."
    return proto, Nodes(proto.graph)
