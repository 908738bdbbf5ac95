"""What a command that performs several stages is going to do, and how long that takes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import ceil
from typing import Any, NamedTuple

from weakseg.current import why_stale
from weakseg.errors import WeaksegError, count
from weakseg.progress import clock, say
from weakseg.runs import Run, runs_beside
from weakseg.stages.base import Effort, Stage

ALIKE = 1.25
"""How far an estimate may be from the last time for that to be the better guess."""


def _clock(seconds: float) -> str:
    """Whole seconds, rounded up: less than one is not none."""
    return clock(ceil(seconds))


def _never() -> bool:
    return False


@dataclass(frozen=True)
class Piece:
    """A stage of a step, which need not be ready to be performed yet.

    Attributes
    ----------
    stage : str
        Its name in the record.
    effort : Effort, optional
        How much work it is; without, nothing is expected before it was made once.
    current : callable
        Whether it is up to date as far as can be told beforehand.
    alone : bool
        Whether it stands on nothing that earlier steps make.
    """

    stage: str
    effort: Effort | None = None
    current: Callable[[], bool] = _never
    alone: bool = False


def piece_of(run: Run, name: str, effort: Effort | None, make: Callable[[], Stage]) -> Piece:
    """The piece that a stage is, which cannot be made while what it needs is not there."""

    def current() -> bool:
        try:
            stage = make()
        except WeaksegError:
            return False
        return why_stale(run, stage.name, stage.key, covers=stage.covers) is None

    return Piece(name, effort, current)


@dataclass(frozen=True)
class Step:
    """Stages that are performed by one function.

    Attributes
    ----------
    what : str
        For people.
    pieces : sequence of Piece
    run : callable
        Performs them; what is up to date is not made again.
    """

    what: str
    pieces: Sequence[Piece]
    run: Callable[[], Any]


class Expected(NamedTuple):
    """How long a step is expected to take.

    Attributes
    ----------
    seconds : float
        Of those of its stages of which that is known.
    guessed : bool
        Whether some of it is estimated from other stages than these.
    unknown : int
        Of how many stages it is not known.
    current : bool
        Whether all is up to date.
    """

    seconds: float
    guessed: bool = False
    unknown: int = 0
    current: bool = False

    def __str__(self) -> str:
        if self.current:
            return "up to date"
        if not self.seconds:
            return "not made yet" if self.unknown else "a moment"
        if self.unknown:
            return f"more than {_clock(self.seconds)}, estimated"
        return (
            f"about {_clock(self.seconds)}, estimated"
            if self.guessed
            else f"{_clock(self.seconds)} when it was last made"
        )


class Rates:
    """Seconds a unit of work takes on this machine: of this run, of runs beside it, or measured."""

    def __init__(self, run: Run) -> None:
        self._known: dict[str, float | None] = {}
        for other in (*runs_beside(run), run):
            self._known |= other.record.get("rates", {})

    def seconds(self, effort: Effort | None) -> float | None:
        """How long some work takes; None where nobody knows."""
        if effort is None:
            return None
        if effort.kind not in self._known:
            self._known[effort.kind] = _measured(effort)
        rate = self._known[effort.kind]
        return None if rate is None else effort.units * rate


def _measured(effort: Effort) -> float | None:
    if effort.measure is None:
        return None
    say(f"measuring: {effort.kind}")
    try:
        return effort.measure()
    except (RuntimeError, ValueError, MemoryError):  # it says nothing of whether training works
        return None


def expect(run: Run, step: Step, rates: Rates, *, fresh: bool, force: bool) -> Expected:
    """How long a step is expected to take.

    Parameters
    ----------
    run : Run
    step : Step
    rates : Rates
    fresh : bool
        Whether something is made that its stages stand on, unless they stand alone.
    force : bool
        Whether everything is made again.
    """
    took = run.record.get("took", {})
    anew = [force or (fresh and not p.alone) for p in step.pieces]
    stale = [p for p, new in zip(step.pieces, anew, strict=True) if new or not p.current()]
    if not stale:
        return Expected(0.0, current=True)
    seconds, guessed, unknown = 0.0, False, 0
    for piece in stale:
        last, guess = took.get(piece.stage), rates.seconds(piece.effort)
        if last is not None and (guess is None or last / ALIKE <= guess <= last * ALIKE):
            seconds += last
        elif guess is not None:
            seconds, guessed = seconds + guess, True
        else:
            unknown += piece.effort is not None
    return Expected(seconds, guessed, unknown)


def expect_all(run: Run, steps: Sequence[Step], *, force: bool = False) -> list[Expected]:
    """How long each step is expected to take; what stands on something new is made anew."""
    rates, expected, fresh = Rates(run), list[Expected](), False
    for step in steps:
        expected.append(expect(run, step, rates, fresh=fresh, force=force))
        fresh |= not expected[-1].current
    return expected


def in_all(expected: Sequence[Expected]) -> str:
    """How long several steps take together, in words; empty where nothing is known."""
    seconds = sum(e.seconds for e in expected)
    if not seconds:
        return ""
    return f"{'more than' if any(e.unknown for e in expected) else 'about'} {_clock(seconds)}"


def show_plan(steps: Sequence[Step], expected: Sequence[Expected]) -> None:
    """Print what is going to be done, before anything is."""
    together = in_all(expected)
    long = f", {together} on this machine" if together else ""
    say(f"plan: {count(len(steps), 'step')}{long}; what is up to date stays as it is")
    for k, (step, time_of) in enumerate(zip(steps, expected, strict=True), 1):
        say(f"  {k} {step.what} ({time_of})")


def follow(run: Run, steps: Sequence[Step], *, force: bool = False, dry_run: bool = False) -> Any:
    """Print the plan, then do it; what the last step gives, or None where that is all.

    Parameters
    ----------
    run : Run
    steps : sequence of Step
    force : bool
        Whether everything is made again.
    dry_run : bool
        Whether to stop behind the plan.
    """
    expected = expect_all(run, steps, force=force)
    show_plan(steps, expected)
    if dry_run:
        return None
    result = None
    for k, step in enumerate(steps, 1):
        left = in_all(expected[k - 1 :])
        say(f"step {k} of {len(steps)}: {step.what}{f'; {left} left in all' if left else ''}")
        result = step.run()
    return result
