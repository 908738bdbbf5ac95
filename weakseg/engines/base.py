"""The contract of an engine: something that runs an ONNX graph on this machine's processor."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec

import numpy as np

from weakseg.errors import ConfigError

TORCH, AUTO = "torch", "auto"
"""The network as it is; and whatever is quickest on this machine."""

FP32, BF16 = "fp32", "bf16"
"""Precisions that an engine may compute in; what goes in and comes out is float32."""

EXPORTERS = ("onnx", "onnxscript")
"""Packages that make the graph of a network."""

Session = Callable[[Sequence[np.ndarray]], list[np.ndarray]]
"""Inputs of a graph → its outputs, in order; arrays of the caller's own."""


@dataclass(frozen=True)
class Engine:
    """An engine, whether it is installed or not.

    Attributes
    ----------
    name : str
        As the setting ``engine`` names it.
    module : str
        The package that it is, as it is imported.
    install : str
        The command that brings it, and what makes graphs for it.
    precisions : tuple of str
        Of `FP32` and `BF16` those that it computes in on processors.
    load : callable
        (serialised ONNX model, threads, precision) → a `Session`.
    """

    name: str
    module: str
    install: str
    precisions: tuple[str, ...]
    load: Callable[[bytes, int, str], Session]

    def missing(self, *, graphs: bool = True) -> list[str]:
        """Packages that are not installed; with ``graphs`` also of those that make graphs."""
        needed = (self.module, *(EXPORTERS if graphs else ()))
        return [name for name in needed if find_spec(name) is None]

    def require(self, *, where: str = "engine", graphs: bool = True) -> None:
        """Refuse to go on without it.

        Raises
        ------
        ConfigError
            With the command that installs it.
        """
        if lacks := self.missing(graphs=graphs):
            raise ConfigError(
                f"The engine {self.name} is not installed.",
                where=where,
                found=f"no package {', '.join(lacks)}",
                fix=f"{self.install}, or set engine: torch",
            )

    def require_precision(self, precision: str) -> None:
        """Refuse a precision that it does not compute in.

        Raises
        ------
        ConfigError
        """
        if precision not in self.precisions:
            raise ConfigError(
                f"The engine {self.name} does not compute in {precision} on processors.",
                where="engine",
                expected=" or ".join(self.precisions),
                fix="set the precision to 32-true, or engine: openvino, which knows bf16",
            )


def precision_of(named: str) -> str:
    """The precision of an engine for one of Lightning Fabric's.

    Raises
    ------
    ConfigError
        For half precision, which no engine here computes in.
    """
    if named in ("32-true", "auto"):
        return FP32
    if named.startswith("bf16"):
        return BF16
    raise ConfigError(
        f"No engine computes in {named}.",
        where="precision",
        expected="32-true or bf16-mixed",
        fix="set another precision, or engine: torch",
    )
