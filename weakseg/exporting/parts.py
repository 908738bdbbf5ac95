"""The connected parts of a mask, and which of them stay, as ONNX operations.

The same as `weakseg.masks.screen.screen_parts` in an image of any size. ONNX knows no connected
parts: every pixel of the mask gets a number of its own, and takes the highest of its row's run and
then of its column's, until none changes any more.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from weakseg.exporting.masks import Nodes
from weakseg.masks.screen import SLACK


def not_below(value: float) -> np.float32:
    """The smallest single-precision number that is no less: what is at least the one is at least
    the other, for all single-precision numbers."""
    near = np.float32(value)
    return near if float(near) >= value else np.nextafter(near, np.float32(np.inf))


def screened(
    nodes: Nodes, mask: str, score: str, *, min_area: float = 0.0, min_peak: float = 0.0
) -> str:
    """Drop the parts of a mask that are too small, or of which nobody is sure.

    Parameters
    ----------
    nodes : Nodes
    mask, score : str
        (H, W) of bool, and of float32, at least 0.
    min_area : float
        Parts below this share of the image are dropped.
    min_peak : float
        Parts whose highest score is below this are dropped.

    Returns
    -------
    str
        (H, W) of bool.
    """
    if not min_area and not min_peak:
        return mask
    flat, one = nodes.integers(-1), nodes.integers(1)
    marked = nodes.add("Reshape", nodes.add("NonZero", nodes.add("Reshape", mask, flat)), flat)
    longer = nodes.add("Add", nodes.add("Shape", marked), one)  # a place for each number from 0
    part = _parts(nodes, mask, marked, longer)
    kept = []
    if min_peak:
        none = _filled(nodes, longer, 0, np.float32)
        values = nodes.add("Gather", nodes.add("Reshape", score, flat), marked)
        peak = nodes.add("ScatterElements", none, part, values, axis=0, reduction="max")
        kept.append(nodes.add("GreaterOrEqual", peak, nodes.constant(not_below(min_peak))))
    if min_area:
        none = _filled(nodes, longer, 0, np.int32)
        ones = _filled(nodes, nodes.add("Shape", marked), 1, np.int32)
        size = nodes.add("ScatterElements", none, part, ones, axis=0, reduction="add")
        share = nodes.constant(min_area * (1 - SLACK), np.float64)
        least = nodes.add("Mul", nodes.cast(nodes.add("Size", mask), "DOUBLE"), share)
        kept.append(nodes.add("GreaterOrEqual", nodes.cast(size, "DOUBLE"), least))
    stays = kept[0] if len(kept) == 1 else nodes.add("And", *kept)
    of_marked = nodes.cast(nodes.add("Gather", stays, part), "INT32")
    empty = _filled(nodes, nodes.add("Reshape", nodes.add("Size", mask), one), 0, np.int32)
    of_pixels = nodes.add("ScatterElements", empty, marked, of_marked, axis=0)
    return nodes.cast(nodes.add("Reshape", of_pixels, nodes.add("Shape", mask)), "BOOL")


def _filled(nodes: Nodes, shape: str, value: float, dtype: Any) -> str:
    from onnx import numpy_helper

    of = numpy_helper.from_array(np.asarray([value], dtype))
    return nodes.add("ConstantOfShape", shape, value=of)


def _parts(nodes: Nodes, mask: str, marked: str, longer: str) -> str:
    """A number, from 1, for each of the pixels (n,) that are marked, the same throughout a part."""
    along = nodes.add("Gather", _runs(nodes, mask), marked)
    turned = nodes.add("Transpose", mask, perm=[1, 0])
    down = nodes.add("Reshape", _runs(nodes, turned), nodes.add("Shape", turned))
    down = nodes.add("Reshape", nodes.add("Transpose", down, perm=[1, 0]), nodes.integers(-1))
    one = nodes.constant(1, np.int32)
    end = nodes.cast(nodes.add("Squeeze", longer), "INT32")
    first = nodes.add("Range", one, end, one)
    always = nodes.constant(True, np.bool_)
    body = _sweep(longer, along, nodes.add("Gather", down, marked))
    return nodes.add("Loop", "", always, first, body=body)


def _runs(nodes: Nodes, mask: str) -> str:
    """A number for each pixel of (H, W), row after row, (H·W,): where it is marked, of its run in
    the row, from 1."""
    begin, last = nodes.integers(0), nodes.integers(-1)
    number = nodes.cast(mask, "INT32")
    before = nodes.add("Slice", number, begin, last, nodes.integers(1))
    before = nodes.add("Pad", before, nodes.integers(0, 1, 0, 0))
    starts = nodes.add("Mul", number, nodes.add("Sub", nodes.constant(1, np.int32), before))
    flat = nodes.add("Reshape", starts, nodes.integers(-1))
    return nodes.add("CumSum", flat, nodes.constant(0, np.int64))


def _sweep(longer: str, along: str, down: str) -> Any:
    """The body of the loop: the highest number of each run, of rows and then of columns, and the
    number of the pixel that it names, which shortens winding ways."""
    from onnx import TensorProto, helper, numpy_helper

    steps, held = [], "held"
    nothing = numpy_helper.from_array(np.zeros(1, np.int32))
    for runs, of in ((along, "row"), (down, "column")):
        # Zeros anew each time: OpenVINO writes into those that it is given.
        zeros = helper.make_node("ConstantOfShape", [longer], [f"{of}_none"], value=nothing)
        given, highest = [f"{of}_none", runs, held], [f"{of}_highest"]
        scattered = helper.make_node("ScatterElements", given, highest, axis=0, reduction="max")
        gathered = helper.make_node("Gather", [*highest, runs], [f"{of}_held"])
        steps += [zeros, scattered, gathered]
        held = f"{of}_held"
    steps += [
        helper.make_node("Constant", [], ["beside"], value=nothing),
        helper.make_node("Concat", ["beside", held], ["from_0"], axis=0),
        helper.make_node("Gather", ["from_0", held], ["jumped"]),
        helper.make_node("Equal", ["jumped", "held"], ["same"]),
        helper.make_node("Not", ["same"], ["other"]),
        helper.make_node("Cast", ["other"], ["changed"], to=TensorProto.INT32),
        helper.make_node("ReduceSum", ["changed"], ["how_many"], keepdims=0),
        helper.make_node("Cast", ["how_many"], ["again"], to=TensorProto.BOOL),
    ]
    value = helper.make_tensor_value_info
    return helper.make_graph(
        steps,
        "parts",
        [
            value("step", TensorProto.INT64, []),
            value("goes_on", TensorProto.BOOL, []),
            value("held", TensorProto.INT32, ["marked"]),
        ],
        [value("again", TensorProto.BOOL, []), value("jumped", TensorProto.INT32, ["marked"])],
    )
