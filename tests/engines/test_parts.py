"""Parts of masks dropped by ONNX operations, beside `weakseg.masks.screen.screen_parts`."""

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from onnx import TensorProto, helper

from weakseg.engines.registry import ENGINES
from weakseg.exporting.masks import Nodes
from weakseg.exporting.parts import not_below, screened
from weakseg.masks.screen import screen_parts

CUTS = ({"min_peak": 0.75}, {"min_area": 0.1}, {"min_peak": 0.75, "min_area": 0.05})

TENTHS = np.arange(11, dtype=np.float32) / 10
SCORES = arrays(
    np.int64, array_shapes(min_dims=2, max_dims=2, max_side=9), elements=st.integers(0, 10)
)


def model(cuts):
    sides = ["height", "width"]
    graph = helper.make_graph(
        [],
        "parts",
        [helper.make_tensor_value_info("score", TensorProto.FLOAT, sides)],
        [helper.make_tensor_value_info("kept", TensorProto.UINT8, sides)],
    )
    nodes = Nodes(graph)
    mask = nodes.add("Greater", "score", nodes.constant(0.5))
    kept = nodes.cast(screened(nodes, mask, "score", **cuts), "UINT8")
    graph.node.append(helper.make_node("Identity", [kept], ["kept"]))
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    onnx.checker.check_model(made)
    return made.SerializeToString()


@pytest.fixture(scope="module")
def sessions():
    return {
        (name, i): engine.load(model(cuts), 1, "fp32")
        for name, engine in ENGINES.items()
        for i, cuts in enumerate(CUTS)
    }


def agree(sessions, score):
    for (name, i), run in sessions.items():
        (kept,) = run([score])
        wanted = screen_parts(score > np.float32(0.5), score, **CUTS[i])
        np.testing.assert_array_equal(kept.astype(bool), wanted, err_msg=f"{name} {CUTS[i]}")


@settings(max_examples=40, deadline=None)
@given(SCORES)
def test_every_engine_drops_the_parts_that_the_run_drops(sessions, tenths):
    agree(sessions, TENTHS[tenths])


def test_a_winding_part_is_one(sessions):
    spiral = np.zeros((41, 41), dtype=np.float32)
    y, x, dy, dx = 0, 0, 0, 1
    for length in [n for n in range(40, 1, -2) for _ in range(2)]:
        for _ in range(length):
            spiral[y, x] = 0.6
            y, x = y + dy, x + dx
        dy, dx = dx, -dy
    agree(sessions, spiral)
    spiral[0, 0] = 0.9  # at the far end: the whole way is kept
    agree(sessions, spiral)
    assert screen_parts(spiral > 0.5, spiral, min_peak=0.75).sum() > 700


@pytest.mark.parametrize("value", [0.1, 0.25, 1 / 3, 0.58, 0.999, 1.0])
def test_a_cut_in_single_precision_lets_through_what_the_cut_itself_does(value):
    near = [np.nextafter(np.float32(value), np.float32(to)) for to in (0, 2)]
    for x in (np.float32(value), *near):
        assert (x >= not_below(value)) == (float(x) >= value)
