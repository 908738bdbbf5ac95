"""What every benchmark says of the machine, and of figures that were measured several times."""

from __future__ import annotations

import os
import platform
import statistics
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple


class Spread(NamedTuple):
    """A median and its range over the repeats."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """Of some values."""
        return cls(statistics.median(values), min(values), max(values))

    def __format__(self, how: str) -> str:
        return f"{self.median:{how}} [{self.low:{how}}–{self.high:{how}}]"


def describe_machine(*packages: str, **more: str) -> dict[str, str]:
    """Cores, processor, load, and the versions of packages."""
    names = (
        [
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
            if line.startswith("model name")
        ]
        if Path("/proc/cpuinfo").exists()
        else []
    )
    versions = ", ".join(f"{p} {version(p)}" for p in packages)
    return {
        "cores": f"{os.cpu_count()}, {names[0] if names else platform.processor()}",
        "load before": f"{os.getloadavg()[0]:.1f}",
        "versions": f"{versions}, Python {platform.python_version()}",
        **more,
    }


def heading(machine: dict[str, str]) -> None:
    """Print what `describe_machine` found."""
    for name, value in machine.items():
        print(f"{name}: {value}")
