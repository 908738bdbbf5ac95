"""ONNX Runtime, on processors."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from weakseg.engines.base import FP32, Engine, Session

ERRORS_ONLY = 3
"""ONNX Runtime's level of what it says."""


def load(model: bytes, threads: int, precision: str) -> Session:
    """A session of ONNX Runtime; see `weakseg.engines.base.Engine`."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = ERRORS_ONLY
    # Threads that spin while they wait would take the core of the next decoder.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    names = [i.name for i in session.get_inputs()]

    def run(arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
        given = [np.ascontiguousarray(a) for a in arrays]
        return list(session.run(None, dict(zip(names, given, strict=True))))

    return run


ONNXRUNTIME = Engine(
    "onnxruntime", "onnxruntime", "pip install 'weakseg[onnxruntime]'", (FP32,), load
)
