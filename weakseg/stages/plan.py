"""What a command that performs several stages is going to do, and how long each took last time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from weakseg.progress import clock, say
from weakseg.runs import Run


@dataclass(frozen=True)
class Step:
    """Stages that are performed by one function.

    Attributes
    ----------
    what : str
        For people.
    stages : tuple of str
        Their names in the record, or with a slash at the end how their names begin.
    run : callable
        Performs them; what is up to date is not made again.
    """

    what: str
    stages: tuple[str, ...]
    run: Callable[[], Any]


def last_seconds(run: Run, step: Step) -> float | None:
    """How long the stages of a step took when they were last made; None if they never were."""
    took = run.record.get("took", {})
    known = [seconds for name, seconds in took.items() if _is_of(step, name)]
    return sum(known) if known else None


def _is_of(step: Step, stage: str) -> bool:
    return any(stage == of or (of[-1] == "/" and stage.startswith(of)) for of in step.stages)


def show_plan(run: Run, steps: Sequence[Step]) -> None:
    """Print what is going to be done, before anything is."""
    took = [last_seconds(run, step) for step in steps]
    say(f"plan: {len(steps)} steps; what is up to date stays as it is")
    for k, (step, seconds) in enumerate(zip(steps, took, strict=True), 1):
        last = "not made yet" if seconds is None else f"{clock(seconds)} when it was last made"
        say(f"  {k} {step.what} ({last})")


def follow(run: Run, steps: Sequence[Step]) -> Any:
    """Print the plan, then do it; what the last step gives."""
    show_plan(run, steps)
    result = None
    for k, step in enumerate(steps, 1):
        say(f"step {k} of {len(steps)}: {step.what}")
        result = step.run()
    return result
