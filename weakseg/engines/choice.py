"""The quickest of several ways to the same numbers, by a short measurement on this machine."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

from weakseg.engines.base import TORCH, precision_of
from weakseg.engines.registry import ENGINES
from weakseg.errors import UserError

Run = Callable[[], object]

ROUNDS = 3
"""Timed runs of each; one before them warms up."""


def quickest(runs: Mapping[str, Run], rounds: int = ROUNDS) -> dict[str, float]:
    """Seconds of the quickest run of each, in turns, the quickest of them first.

    Of several programs on one machine each loses to the others by chance, so that the shortest
    time of a few says most. They take turns, so that a busy moment disturbs all alike.

    Parameters
    ----------
    runs : mapping of str to callable
    rounds : int, optional
    """
    best = dict.fromkeys(runs, float("inf"))
    for turn in range(rounds + 1):
        for name, run in runs.items():
            start = time.perf_counter()
            run()
            taken = time.perf_counter() - start
            if turn:
                best[name] = min(best[name], taken)
    return dict(sorted(best.items(), key=lambda item: item[1]))


def pick_quickest(
    torch_run: Run, make: Callable[[str, str], Run], precision: str, images: int
) -> tuple[str, dict[str, Any]]:
    """The quickest engine of those that are installed and can do the work.

    Parameters
    ----------
    torch_run : callable
        The work by torch.
    make : callable
        (engine, its precision) → the same work by that engine.
    precision : str
        Of the experiment, see `weakseg.engines.base.precision_of`.
    images : int
        That a run of the work takes.

    Returns
    -------
    engine : str
    record : dict
        ``engine``, and ``engines``: images a second by name, or why an engine was left out.
    """
    runs: dict[str, Run] = {TORCH: torch_run}
    left_out: dict[str, Any] = {}
    for name, engine in ENGINES.items():
        if engine.missing():
            left_out[name] = "not installed"
            continue
        try:
            wanted = precision_of(precision)
            engine.require_precision(wanted)
            run = make(name, wanted)
            run()
        except UserError as e:
            left_out[name] = e.what
            continue
        runs[name] = run
    if len(runs) == 1:
        return TORCH, {"engine": TORCH, "engines": left_out}
    seconds = quickest(runs)
    speeds = {name: round(images / t, 1) for name, t in seconds.items()}
    chosen = next(iter(seconds))
    return chosen, {"engine": chosen, "engines": speeds | left_out}


def spoken(record: Mapping[str, Any]) -> str | None:
    """What was measured and chosen, in a line; None where nothing was."""
    if "engines" not in record:
        return None
    words = [
        f"{name} {value:.1f} images/s" if isinstance(value, float) else f"{name}: {value}"
        for name, value in record["engines"].items()
    ]
    return f"engine {record['engine']} ({', '.join(words)})"
