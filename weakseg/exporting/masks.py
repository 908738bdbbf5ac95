"""From a map on the network's grid to a mask on the image's own, as ONNX operations.

The same steps as `weakseg.heatmaps.store.Heatmap.full` and `weakseg.masks.rules`, in an image of
any size: that is why they are written down here and not recorded.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from weakseg.errors import UserError
from weakseg.masks.rules import FittedRule
from weakseg.masks.rules.base import SetThresholdRule
from weakseg.masks.rules.global_thresholds import OtsuRule, QuantileRule
from weakseg.masks.thresholds import FLAT_TOLERANCE

BINS = 256
"""Of Otsu's histogram."""


HALF = 2.0**13 + 1
"""Times a single-precision number, less that less the number: its 11 leading bits, as many as half
precision has (Veltkamp). Engines that compute in single precision leave conversions out."""


class Nodes:
    """Operations that are added to the end of an ONNX graph.

    Parameters
    ----------
    graph : onnx.GraphProto
        Changed in place.
    """

    def __init__(self, graph: Any) -> None:
        self.graph = graph
        self._count = 0

    def _name(self) -> str:
        self._count += 1
        return f"mask_{self._count}"

    def add(self, operation: str, *inputs: str, **attributes: Any) -> str:
        """An operation of one output; the output's name."""
        from onnx import helper

        name = self._name()
        node = helper.make_node(operation, list(inputs), [name], name=name, **attributes)
        self.graph.node.append(node)
        return name

    def constant(self, values: Any, dtype: Any = np.float32) -> str:
        """Numbers that do not change."""
        from onnx import numpy_helper

        name = self._name()
        self.graph.initializer.append(numpy_helper.from_array(np.asarray(values, dtype), name))
        return name

    def integers(self, *values: int) -> str:
        """Whole numbers (n,), as sizes and axes are given."""
        return self.constant(values, np.int64)

    def cast(self, value: str, kind: str) -> str:
        """Another type of number, by ONNX's name for it."""
        from onnx import TensorProto

        return self.add("Cast", value, to=getattr(TensorProto, kind))

    def extreme(self, which: str, value: str) -> str:
        """The largest (``ReduceMax``) or smallest (``ReduceMin``) of all values."""
        return self.add(which, value, keepdims=0)

    def part(self, values: str, first: int, last: int) -> str:
        """Values from ``first`` up to ``last`` of (n,)."""
        return self.add("Slice", values, self.integers(first), self.integers(last))


def as_stored(nodes: Nodes, heat: str) -> str:
    """Rounded as `weakseg.heatmaps.store.as_stored` rounds it."""
    top = nodes.extreme("ReduceMax", nodes.add("Abs", heat))
    scale = _or_one(nodes, top)
    share = nodes.add("Div", heat, scale)
    long = nodes.add("Mul", share, nodes.constant(HALF))
    half = nodes.add("Sub", long, nodes.add("Sub", long, share))
    return nodes.add("Mul", half, scale)


def on_image(nodes: Nodes, map_: str, box: str, size: int) -> str:
    """A map (1, h, w) of the square on the image's own grid, (H, W).

    Parameters
    ----------
    nodes : Nodes
    map_, box : str
        ``box`` holds top, left, height, width, H and W of a `weakseg.data.geometry.Letterbox`.
    size : int
        Side of the square.
    """
    how = {"mode": "linear", "coordinate_transformation_mode": "half_pixel"}
    four = nodes.add("Unsqueeze", map_, nodes.integers(1))
    square = nodes.add("Resize", four, "", "", nodes.integers(1, 1, size, size), **how)
    begin, sides, original = (nodes.part(box, *at) for at in ((0, 2), (2, 4), (4, 6)))
    end = nodes.add("Add", begin, sides)
    content = nodes.add("Slice", square, begin, end, nodes.integers(2, 3))
    whole = nodes.add("Concat", nodes.integers(1, 1), original, axis=0)
    full = nodes.add("Resize", content, "", "", whole, **how)
    return nodes.add("Squeeze", full, nodes.integers(0, 1))


def _normalised(nodes: Nodes, heat: str) -> str:
    return nodes.add("Div", heat, _or_one(nodes, nodes.extreme("ReduceMax", heat)))


def _or_one(nodes: Nodes, number: str) -> str:
    """A divisor of at least 0; 1 where it is 0, as of a map that shows nothing.

    Its mask is emptied by `finish`, but no engine may be given places that are not numbers.
    """
    some = nodes.add("Greater", number, nodes.constant(0))
    return nodes.add("Where", some, number, nodes.constant(1))


def _above_set(nodes: Nodes, heat: str, fitted: FittedRule) -> str:
    scaled = _normalised(nodes, heat) if fitted.scale == "image" else heat
    return nodes.add("Greater", scaled, nodes.constant(fitted.threshold))


def _above_quantile(nodes: Nodes, heat: str, fitted: FittedRule) -> str:
    """Above the value that stands at ``ceil(q·(n - 1))`` of all, in their order."""
    q = fitted.rule.q  # type: ignore[attr-defined]
    flat = nodes.add("Reshape", heat, nodes.integers(-1))
    n = nodes.add("Size", flat)
    one = nodes.constant(1, np.int64)
    last = nodes.cast(nodes.add("Sub", n, one), "DOUBLE")
    place = nodes.add("Ceil", nodes.add("Mul", last, nodes.constant(q, np.float64)))
    above = nodes.add("Sub", n, nodes.cast(place, "INT64"))
    several = nodes.add("Reshape", above, nodes.integers(1))
    from onnx import helper

    values, places = nodes._name(), nodes._name()
    nodes.graph.node.append(helper.make_node("TopK", [flat, several], [values, places]))
    lowest = nodes.extreme("ReduceMin", values)
    return nodes.add("Greater", heat, nodes.add("Max", lowest, nodes.constant(0)))


def _above_otsu(nodes: Nodes, heat: str, fitted: FittedRule) -> str:
    """Above the centre of the last cool bin, as scikit-image gives it."""
    h = _normalised(nodes, heat)
    flat = nodes.add("Reshape", h, nodes.integers(-1))
    low, high = nodes.extreme("ReduceMin", flat), nodes.extreme("ReduceMax", flat)
    width = nodes.add("Div", nodes.add("Sub", high, low), nodes.constant(BINS))
    at = nodes.add("Floor", nodes.add("Div", nodes.add("Sub", flat, low), _or_one(nodes, width)))
    at = nodes.cast(nodes.add("Min", at, nodes.constant(BINS - 1)), "INT64")
    ones = nodes.add("Add", nodes.add("Mul", flat, nodes.constant(0)), nodes.constant(1))
    zeros = nodes.constant(np.zeros(BINS))
    counts = nodes.add("ScatterElements", zeros, at, ones, axis=0, reduction="add")
    half = nodes.add("Mul", width, nodes.constant(0.5))
    steps = nodes.add("Mul", width, nodes.constant(np.arange(BINS)))
    centres = nodes.add("Add", nodes.add("Add", steps, half), low)

    def sums(values: str, backwards: int) -> str:
        return nodes.add("CumSum", values, nodes.constant(0, np.int64), reverse=backwards)

    heats = nodes.add("Mul", counts, centres)
    cool, hot = sums(counts, 0), sums(counts, 1)
    cool_mean = nodes.add("Div", sums(heats, 0), cool)
    hot_mean = nodes.add("Div", sums(heats, 1), hot)
    first = [nodes.part(v, 0, BINS - 1) for v in (cool, cool_mean)]
    second = [nodes.part(v, 1, BINS) for v in (hot, hot_mean)]
    apart = nodes.add("Sub", first[1], second[1])
    between = nodes.add(
        "Mul", nodes.add("Mul", first[0], second[0]), nodes.add("Mul", apart, apart)
    )
    best = nodes.add("ArgMax", between, axis=0, keepdims=0)
    return nodes.add("Greater", h, nodes.add("Gather", centres, best))


RULES: dict[type, Callable[[Nodes, str, FittedRule], str]] = {
    SetThresholdRule: _above_set,
    QuantileRule: _above_quantile,
    OtsuRule: _above_otsu,
}
"""Rules that look at the heat alone, and what they do with it, (H, W) to (H, W) of bool."""


def require_rule(fitted: FittedRule, method: str) -> Callable[[Nodes, str, FittedRule], str]:
    """What a rule does, as operations.

    Raises
    ------
    UserError
        For one that needs more than the heat.
    """
    for kind, above in RULES.items():
        if isinstance(fitted.rule, kind):
            return above
    raise UserError(
        f"The rule {fitted.rule.rule} looks at the image, which no exported model does.",
        where=f"--method {method}",
        expected="a rule that is a threshold of the heat: fixed, otsu, quantile, train-quantile or "
        "validation; or a segmenter",
        fix="export a segmenter that was trained on these masks, or another method",
    )


def finish(
    nodes: Nodes,
    full: str,
    above: Callable[[str], str],
    *,
    flat: bool,
    probability: str | None,
    gate: float,
) -> dict[str, str]:
    """From a map on the image's own grid to its mask.

    Parameters
    ----------
    nodes : Nodes
    full : str
        (H, W), at least 0.
    above : callable
        Map → where the mask is.
    flat : bool
        Whether a map that shows nothing gives an empty mask.
    probability : str or None
        Of a lesion, a number; None without a gate.
    gate : float
        Below this probability the mask is empty.

    Returns
    -------
    dict
        Output → its name: ``mask`` (H, W) of uint8, 0 and 1.
    """
    mask = above(full)
    if flat:
        high, low = nodes.extreme("ReduceMax", full), nodes.extreme("ReduceMin", full)
        least = nodes.add("Mul", high, nodes.constant(FLAT_TOLERANCE))
        shows = nodes.add("Greater", nodes.add("Sub", high, low), least)
        mask = nodes.add("And", mask, shows)
    if probability is not None and gate > 0:
        closed = nodes.add("Less", probability, nodes.constant(gate))
        mask = nodes.add("And", mask, nodes.add("Not", closed))
    return {"mask": nodes.cast(mask, "UINT8"), "map": full}


def set_outputs(graph: Any, outputs: Mapping[str, tuple[str, str, Sequence[Any]]]) -> None:
    """The outputs of a graph, anew.

    Parameters
    ----------
    graph : onnx.GraphProto
        Changed in place.
    outputs : mapping
        Name → (the value's name, ONNX's name of its type, its shape).
    """
    from onnx import TensorProto, helper

    del graph.output[:]
    for name, (value, kind, shape) in outputs.items():
        if value != name:
            graph.node.append(helper.make_node("Identity", [value], [name]))
        graph.output.append(
            helper.make_tensor_value_info(name, getattr(TensorProto, kind), list(shape))
        )
