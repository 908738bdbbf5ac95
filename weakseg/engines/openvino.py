"""OpenVINO, on processors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from weakseg.engines.base import BF16, FP32, Engine, Session

PRECISIONS = {FP32: "f32", BF16: "bf16"}


def read(model: bytes) -> Any:
    """An ONNX model as OpenVINO's own."""
    import openvino

    return openvino.Core().read_model(model)


def load(model: bytes, threads: int, precision: str) -> Session:
    """A request of OpenVINO; see `weakseg.engines.base.Engine`."""
    import openvino

    # Of itself it would take bf16 wherever the processor has it.
    how = {
        "INFERENCE_NUM_THREADS": threads,
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_PRECISION_HINT": PRECISIONS[precision],
    }
    request = openvino.Core().compile_model(read(model), "CPU", how).create_infer_request()

    def run(arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
        given = {i: np.ascontiguousarray(a) for i, a in enumerate(arrays)}
        outputs = request.infer(given, share_inputs=True)
        return [np.array(outputs[i]) for i in range(len(outputs))]

    return run


OPENVINO = Engine("openvino", "openvino", "pip install 'weakseg[openvino]'", (FP32, BF16), load)
