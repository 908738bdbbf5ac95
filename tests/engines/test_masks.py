"""Rules as ONNX operations against the rules themselves, on maps of any size."""

import numpy as np
import pytest
from onnx import TensorProto, helper

from weakseg.data.geometry import letterbox
from weakseg.engines.registry import ENGINES
from weakseg.errors import UserError
from weakseg.exporting.masks import Nodes, as_stored, finish, on_image, require_rule, set_outputs
from weakseg.heatmaps import store
from weakseg.heatmaps.store import Heatmap
from weakseg.masks.rules import FittedRule, segment
from weakseg.masks.rules.global_thresholds import (
    AreaPriorRule,
    FixedRule,
    OtsuRule,
    QuantileRule,
    TrainQuantileRule,
)

SIZE = 48
RULES = [
    FittedRule(FixedRule(at=0.4), 0.4, "image", "nothing", 0),
    FittedRule(TrainQuantileRule(), 0.7, "raw", "training images", 0),
    FittedRule(OtsuRule(), None, "image", "nothing", 0),
    FittedRule(QuantileRule(q=0.83), None, "raw", "nothing", 0),
]


def model(rule: FittedRule, grid: tuple[int, int], gate: float = 0.0) -> bytes:
    inputs = [
        helper.make_tensor_value_info("heat", TensorProto.FLOAT, [1, *grid]),
        helper.make_tensor_value_info("box", TensorProto.INT64, [6]),
    ]
    if gate:
        inputs.append(helper.make_tensor_value_info("p", TensorProto.FLOAT, []))
    graph = helper.make_graph([], "g", inputs, [])
    nodes = Nodes(graph)
    above = require_rule(rule, "x")
    full = on_image(nodes, nodes.add("Relu", as_stored(nodes, "heat")), "box", SIZE)
    made = finish(
        nodes,
        full,
        lambda h: above(nodes, h, rule),
        flat=True,
        probability="p" if gate else None,
        gate=gate,
    )
    kinds = {"mask": "UINT8", "map": "FLOAT"}
    set_outputs(graph, {n: (made[n], kinds[n], ("h", "w")) for n in made})
    whole = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    return whole.SerializeToString()


def found(session, heat: np.ndarray, shape: tuple[int, int], *p: float):
    b = letterbox(shape, SIZE)
    box = np.array([b.top, b.left, b.height, b.width, *shape])
    said = [np.array(v, np.float32) for v in p]
    mask, full = session([heat[None].astype(np.float32), box, *said])
    return mask.astype(bool), full


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("rule", RULES, ids=lambda r: r.name)
def test_masks_are_those_of_the_rule(rule, engine):
    session = ENGINES[engine].load(model(rule, (6, 7)), 1, "fp32")
    rng = np.random.default_rng(4)
    for shape in ((48, 48), (31, 77), (130, 20), (5, 5)):
        raw = rng.normal(0.3, 1, (6, 7)).astype(np.float32)
        heat = store.as_stored(Heatmap(raw, shape, SIZE, "l", "m", "t", 1.0))
        expected = segment(rule, heat.full())
        mask, full = found(session, raw, shape)
        np.testing.assert_allclose(full, heat.full(), atol=1e-5)
        assert expected.any()
        assert not expected.all()
        # A pixel at the very threshold may fall to either side.
        assert (mask != expected).mean() <= (0.001 if expected.size > 25 else 0.04)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("rule", RULES, ids=lambda r: r.name)
@pytest.mark.parametrize("value", [0.0, -1.0, 0.5, 1e-30])
def test_a_map_that_shows_nothing_is_no_error_of_an_engine(rule, engine, value):
    session = ENGINES[engine].load(model(rule, (6, 7)), 1, "fp32")
    mask, full = found(session, np.full((6, 7), value), (31, 77))
    assert not mask.any()
    assert np.isfinite(full).all()


def test_flat_maps_and_closed_gates_give_empty_masks():
    rule = RULES[0]
    session = ENGINES["onnxruntime"].load(model(rule, (3, 3), gate=0.5), 1, "fp32")
    hot = np.arange(9.0).reshape(3, 3)
    assert found(session, hot, (20, 30), 0.5)[0].any()
    assert not found(session, hot, (20, 30), 0.49)[0].any()
    for flat in (np.zeros((3, 3)), np.ones((3, 3)), -hot):
        assert not found(session, flat, (20, 30), 1.0)[0].any()


def test_a_rule_that_looks_at_the_image_is_refused():
    rule = FittedRule(AreaPriorRule(), None, "raw", "an area", 0)
    with pytest.raises(UserError, match="area-prior looks at the image"):
        require_rule(rule, "gradcam-area-prior")
