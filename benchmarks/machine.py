"""What the benchmarks share: timing in turns, the machine that the times depend on, the JSON file.

A script in this folder finds it as `machine`, since Python looks beside the script first.
"""

from __future__ import annotations

import json
import os
import platform
import statistics
import time
from collections.abc import Callable, Iterable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

from weakseg.runs import cores, processor

CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}
"""Seconds that pass, and seconds of the processor that all threads of the process take."""


class Spread(NamedTuple):
    """A median and its range over the repeats."""

    median: float
    low: float
    high: float

    def __str__(self) -> str:
        digits = 1 if self.median >= 1 else 3
        return f"{self:.{digits}f}"

    def __format__(self, how: str) -> str:
        if not how:
            return str(self)
        return f"{self.median:{how}} [{self.low:{how}}–{self.high:{how}}]"


def spread(values: Iterable[float]) -> Spread:
    """Median, smallest and largest."""
    numbers = list(values)
    return Spread(statistics.median(numbers), min(numbers), max(numbers))


def seconds(run: Callable[[], object]) -> float:
    """How long one run takes."""
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def in_turns(runs: Sequence[Callable[[], object]], repeats: int) -> list[list[float]]:
    """Seconds of each run, taken in turns, so that a busy machine disturbs all alike."""
    rounds = [[seconds(run) for run in runs] for _ in range(repeats)]
    return [list(times) for times in zip(*rounds, strict=True)]


def describe_machine(packages: Sequence[str]) -> dict[str, str]:
    """What the times depend on."""
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else float("nan")
    return {
        "processor": processor(),
        "cores": str(cores()),
        "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "not set"),
        "load before": f"{load:.2f}",
        "python": platform.python_version(),
        **{name: version(name) for name in packages},
    }


def print_machine(machine: dict[str, str]) -> None:
    """One line a property."""
    for name, value in machine.items():
        print(f"{name}: {value}")


def table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A Markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(str(c) for c in line) + " |" for line in lines)


def write_json(path: Path | None, content: dict[str, Any]) -> None:
    """Keep the figures; nothing for None."""
    if path is not None:
        path.write_text(json.dumps(_plain(content), indent=2) + "\n", encoding="utf-8")


def _plain(value: Any) -> Any:
    if isinstance(value, tuple) and hasattr(value, "_asdict"):
        return {k: _plain(v) for k, v in value._asdict().items()}
    if isinstance(value, dict):
        return {k: _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    return value
