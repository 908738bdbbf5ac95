"""Ctrl-C and being told to end: the command stops where nothing is half written, and says so."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Iterator
from types import FrameType
from typing import NoReturn

from weakseg.launch import launched

AT_ONCE = 3
"""The signal that no longer waits until temporary files are gone."""

GOES_ON = (
    "what was finished is kept in the run folder, and nothing is half written; repeat the command "
    "to go on, trainings from their last checkpoint"
)
SAFE = {
    "validate": "nothing was written",
    "models": "nothing was written",
    "compare-runs": "files that were written are whole, the runs are untouched",
    "sweep": "runs that are done stay done, jobs of this machine were ended; repeat the command to "
    "go on",
    "report": "every page and table in the folder is whole, the runs are untouched; repeat the "
    "command",
    "predict": "masks that were written are whole, predictions.csv is not there yet; repeat the "
    "command",
    "config": "nothing was written",
    "init": "files that were written are whole; repeat the command, with --force where they lie in "
    "its folder",
    "import": "files that were written are whole; repeat the command, with --force where they lie "
    "in its folder",
    "export": "the run is untouched, and an export is whole once model.json is there; repeat the "
    "command",
    "explain-segmenter": "what was made before is kept in the run folder; repeat the command",
    "adapt": "files that were written are whole; repeat the command, with --generator where "
    "generator.safetensors is there",
}
"""Command → what is safe, and how to go on; of all others `GOES_ON` holds."""


class InterruptedCommand(BaseException):
    """A signal to end. No KeyboardInterrupt: typer ends the program at those without a word."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.exit_code = 128 + number


@contextlib.contextmanager
def signals_raise() -> Iterator[None]:
    """Within the block SIGINT and SIGTERM raise `InterruptedCommand`, once.

    A second one while temporary files are taken away is heard and waits; the third ends at once.
    """
    heard = 0

    def raise_once(number: int, _frame: FrameType | None) -> None:
        nonlocal heard
        heard += 1
        if heard == 1:
            raise InterruptedCommand(number)
        if heard < AT_ONCE:
            os.write(2, b"stopping; once more ends at once\n")
        else:
            os._exit(128 + number)

    before = {n: signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)}
    # None is another language's; what is ignored (nohup, a job in the background) stays so.
    before = {n: h for n, h in before.items() if h not in (None, signal.SIG_IGN)}
    if threading.current_thread() is not threading.main_thread():
        before = {}  # signals are the main thread's
    for number in before:
        signal.signal(number, raise_once)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def deaf_to_interrupts() -> Iterator[None]:
    """Processes that are started within the block never hear SIGINT; this one hears it after.

    The one that started them ends them, and tells; of theirs a traceback each would come. Windows
    has nothing of the kind.
    """
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    with _held_interrupts():
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            yield
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextlib.contextmanager
def _held_interrupts() -> Iterator[None]:
    """What is done at SIGINT waits until the block ends.

    A mask is of one thread. Any other that there is, of a library for mathematics or a progress
    bar, hears the signal, at which Python calls its handler in the main thread all the same.
    """
    handler = signal.getsignal(signal.SIGINT)
    main = threading.current_thread() is threading.main_thread()
    if not main or handler in (None, signal.SIG_IGN):
        yield
        return
    heard: list[int] = []
    signal.signal(signal.SIGINT, lambda number, _frame: heard.append(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, handler)
        if heard:
            signal.raise_signal(signal.SIGINT)


def end_interrupted(command: str | None, exit_code: int) -> NoReturn:
    """Say what is safe and how to go on, and end."""
    if launched().first:
        print(f"\ninterrupted: {SAFE.get(command or '', GOES_ON)}", file=sys.stderr)
    sys.exit(exit_code)
