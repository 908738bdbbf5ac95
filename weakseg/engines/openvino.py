"""OpenVINO, on processors."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np

from weakseg.engines.base import BF16, FP32, Engine, Session

PRECISIONS = {FP32: "f32", BF16: "bf16"}

_ONE = threading.Lock()


def core() -> Any:
    """OpenVINO's ``Core``, a single one that lives as long as the process.

    On processors with AMX each gives the thread a stack for signals and takes it away when it is
    freed. Of several the last puts back that of one that is gone, and the next signal, a Ctrl-C as
    well, is a crash (seen with OpenVINO 2026.4.1).
    """
    with _ONE:
        return _core()


@cache
def _core() -> Any:
    import openvino

    return openvino.Core()


def read(model: bytes) -> Any:
    """An ONNX model as OpenVINO's own."""
    return core().read_model(model)


def load(model: bytes, threads: int, precision: str) -> Session:
    """A request of OpenVINO; see `weakseg.engines.base.Engine`."""
    # Of itself it would take bf16 wherever the processor has it.
    how = {
        "INFERENCE_NUM_THREADS": threads,
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_PRECISION_HINT": PRECISIONS[precision],
    }
    request = core().compile_model(read(model), "CPU", how).create_infer_request()

    def run(arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
        given = {i: np.ascontiguousarray(a) for i, a in enumerate(arrays)}
        outputs = request.infer(given, share_inputs=True)
        return [np.array(outputs[i]) for i in range(len(outputs))]

    return run


OPENVINO = Engine("openvino", "openvino", "pip install 'weakseg[openvino]'", (FP32, BF16), load)
