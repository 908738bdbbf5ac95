"""Progress with the time left: a bar on a terminal, a line now and then in a log."""

from __future__ import annotations

import codecs
import contextlib
import sys
import time
from collections.abc import Callable, Iterator
from contextvars import ContextVar

from weakseg.launch import launched

Advance = Callable[..., None]
LOG_EVERY = 20.0
"""Seconds between two lines in a log."""
EARLY = 0.02
"""Share of the steps before which the first of them tells no time left."""


_SAID: ContextVar[set[str] | None] = ContextVar("said", default=None)
_PLAIN = {
    **dict.fromkeys("–—−‑", "-"),
    **{"→": "->", "←": "<-", "×": "x", "·": ".", "…": "...", "±": "+/-", "²": "^2", "³": "^3"},
    **{"≥": ">=", "≤": "<=", "≈": "~", "√": "sqrt", "π": "pi", "μ": "u", "\u00b5": "u"},
    **dict.fromkeys("‘’", "'"),
    **dict.fromkeys("“”„«»", '"'),
}
"""Signs that our messages use, for terminals that lack them."""


def _in_plain_letters(e: UnicodeError) -> tuple[str, int]:
    if not isinstance(e, UnicodeEncodeError):
        raise e
    cannot = e.object[e.start : e.end]
    escaped = (c.encode("ascii", "backslashreplace").decode() for c in cannot)
    return "".join(_PLAIN.get(c, x) for c, x in zip(cannot, escaped, strict=True)), e.end


def print_anywhere() -> None:
    """Let nothing that is printed fail, whatever the terminal's or the pipe's encoding.

    Signs become ASCII that looks like them, other letters their number, such as ``\\u6f22``: names
    of files stay unambiguous.
    """
    codecs.register_error("weakseg", _in_plain_letters)
    for stream in (sys.stdout, sys.stderr):
        # What stands in for a stream, as in notebooks, may lack the method; or be closed.
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            with contextlib.suppress(OSError, ValueError):
                reconfigure(errors="weakseg")


def say(message: str) -> None:
    """Tell the user on standard error, so that standard output stays for results.

    Of several processes of a launcher the first one speaks.
    """
    said = _SAID.get()
    if said is not None:
        if message in said:
            return
        said.add(message)
    if launched().first:
        print(message, file=sys.stderr, flush=True)


@contextlib.contextmanager
def each_once() -> Iterator[None]:
    """Say no message twice meanwhile: for what does a thing several times over the same files.

    That holds for the thread that asks for it: others, those that it starts among them, say theirs
    as often as without.
    """
    token = _SAID.set(set())
    try:
        yield
    finally:
        _SAID.reset(token)


@contextlib.contextmanager
def progress(what: str, total: int, done: int = 0) -> Iterator[Advance]:
    """Show how far a loop is.

    Parameters
    ----------
    what : str
        A few words.
    total : int
        Steps in all; where it is not known yet, 0, and `advance` tells it.
    done : int, optional
        Those of an earlier command, which tell nothing of how long the others take.

    Yields
    ------
    advance : callable
        ``advance(steps=1, note=None, of=None)``; ``of`` sets the number of steps in all.
    """
    if sys.stderr.isatty() and launched().first:
        with _bar(what, total, done) as advance:
            yield advance
    else:
        yield _log(what, total, done)


@contextlib.contextmanager
def _bar(what: str, total: int, done: int) -> Iterator[Advance]:
    from rich.console import Console, RenderableType
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )
    from rich.text import Text

    class Bar(Progress):
        """The note has a line of its own: beside the bar it would leave it no room."""

        def get_renderables(self) -> Iterator[RenderableType]:
            yield self.make_tasks_table(self.tasks)
            for task in self.tasks:
                if note := task.fields["note"]:
                    yield Text(note, no_wrap=True, overflow="ellipsis")

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=30),
        MofNCompleteColumn(),
        TimeRemainingColumn(elapsed_when_finished=True),
    )
    with Bar(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task(what, total=total, completed=done, note="")

        def advance(steps: int = 1, note: str | None = None, of: int | None = None) -> None:
            if of is not None:
                bar.update(task, total=of)
            if note is not None:
                bar.update(task, note=note)
            bar.update(task, advance=steps)

        yield advance


def _log(what: str, total: int, before: int) -> Advance:
    started = last = time.monotonic()
    done = before
    first: tuple[float, int] | None = None

    def advance(steps: int = 1, note: str | None = None, of: int | None = None) -> None:
        nonlocal done, first, last, total
        total = total if of is None else of
        done += steps
        now = time.monotonic()
        since, already = first or (started, before)
        first = first or (now, done)
        slow = now - started > LOG_EVERY
        if now - last < LOG_EVERY and not (done >= total and slow):
            return
        last = now
        # The first step holds the start as well, which many others make look long.
        telling = done - already >= EARLY * (total - already) or already > before
        pace = (now - since) / max(done - already, 1)
        left = f", {clock(pace * (total - done))} left" if telling else ""
        say(f"{what}: {done}/{total}{left}" + (f", {note}" if note else ""))

    return advance


def clock(seconds: float) -> str:
    """Seconds as ``m:ss`` or ``h:mm:ss``."""
    minutes, s = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{s:02d}" if hours else f"{minutes}:{s:02d}"
