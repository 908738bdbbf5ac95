"""The engines by name."""

from __future__ import annotations

from weakseg.engines.base import AUTO, TORCH, Engine, precision_of
from weakseg.engines.onnxruntime import ONNXRUNTIME
from weakseg.engines.openvino import OPENVINO
from weakseg.errors import ConfigError, did_you_mean

ENGINES: dict[str, Engine] = {e.name: e for e in (ONNXRUNTIME, OPENVINO)}
"""Engines beside torch."""

CHOICES = (TORCH, *ENGINES, AUTO)
"""What the setting ``engine`` may be."""


def find_engine(name: str, *, where: str = "engine") -> Engine:
    """An engine that is installed.

    Raises
    ------
    ConfigError
        For an unknown name, or an engine that is not installed.
    """
    if name not in ENGINES:
        raise ConfigError(
            f"There is no engine {name!r}.", where=where, fix=did_you_mean(str(name), CHOICES)
        )
    ENGINES[name].require(where=where)
    return ENGINES[name]


def check_engine(engine: str, device: str, precision: str) -> None:
    """Refuse an engine that cannot do what is asked for.

    Parameters
    ----------
    engine : str
        One of `CHOICES`.
    device : str
        As torch names it.
    precision : str
        Of the experiment, see `weakseg.engines.base.precision_of`.

    Raises
    ------
    ConfigError
        If it is not installed, or takes another device or precision.
    """
    if engine in (TORCH, AUTO):
        return
    chosen = find_engine(engine)
    if device.partition(":")[0] != "cpu":
        raise ConfigError(
            f"The engine {engine} runs on processors only.",
            where="engine",
            found=f"device {device}",
            fix="set device: cpu, or engine: torch",
        )
    chosen.require_precision(precision_of(precision))
