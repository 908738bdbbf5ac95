"""How long it takes to see that a stage with many masks is up to date.

Run `python benchmarks/outputs.py` from the root of the checkout. Files as large as small masks are
written once, and listed as at the end of a stage; then the list is held against them as every
command does: as they are, after all were touched (each is read once), and as they are again.
"""

from __future__ import annotations

import argparse
import os
import resource
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from machine import describe_machine, print_machine

from weakseg.outputs import find_damage, list_outputs

BYTES = 600
"""Of a file: about a PNG of a mask of 256 × 256."""


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--counts", type=int, nargs="+", default=[10_000, 100_000])
    options = parser.parse_args()
    print_machine(describe_machine([]))
    print(
        "| files | list at the end of the stage, s | up to date?, s | all touched, s | again, s |"
    )
    print("|---|---|---|---|---|")
    for count in options.counts:
        with tempfile.TemporaryDirectory() as folder:
            print(f"| {count} | " + " | ".join(f"{s:.2f}" for s in measure(Path(folder), count)))
    print(
        f"\nmemory at its peak: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MiB"
    )


def measure(run: Path, count: int) -> list[float]:
    """Seconds of the four columns."""
    masks = run / "masks"
    masks.mkdir()
    paths = [masks / f"{i:06d}.png" for i in range(count)]
    for path in paths:
        path.write_bytes(os.urandom(BYTES))
    entry = {}

    def note() -> None:
        entry["outputs"] = list_outputs(run, "segment", [masks])

    def look() -> None:
        assert not find_damage(run, "segment", entry, refresh=True)

    took = [seconds(note), seconds(look)]
    for path in paths:
        path.touch()
    return [*took, seconds(look), seconds(look)]


def seconds(work: Callable[[], None]) -> float:
    """Seconds of the processor that a piece of work takes, whatever else the machine does."""
    began = time.process_time()
    work()
    return time.process_time() - began


if __name__ == "__main__":
    main()
