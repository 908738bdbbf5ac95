"""Looking into the files of many rows at once: in threads, or of a long manifest in processes.

Decoding small images is mostly Python, which threads cannot share; processes can, but take a
second to start.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
import warnings
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TypeVar

from weakseg.config import DataConfig
from weakseg.data.cases import Labels
from weakseg.data.check_files import Seen, look_at_files
from weakseg.data.check_identity import identity_problem
from weakseg.data.check_slices import look_at_slices
from weakseg.data.check_volumes import look_at_volumes
from weakseg.data.formats.reading import DECODERS
from weakseg.data.manifest import Problem, Row, Table
from weakseg.disk import WINDOWS
from weakseg.errors import UserError, first_line, lacks_memory, note_file
from weakseg.interruption import deaf_to_interrupts
from weakseg.runs import cores

T = TypeVar("T")
R = TypeVar("R")

VOLUME_THREADS = 2  # each holds a volume in memory
AT_ONCE = 16
"""Rows of one task: handing a task over takes as long as hashing a small file."""

MANY = 5000
"""Rows from which on processes pay."""
MANY_AT_ONCE = 250

KEEPER = "ExecutorManagerThread"
"""joblib's thread that starts and ends its processes."""

ATTENDED = 1.0
"""Seconds after which a process asks whether the one that started it still lives."""


def look_at_rows(table: Table, data: DataConfig, labels: Labels | None) -> Iterator[list[Seen]]:
    """What the files of a manifest hold, row by row.

    Parameters
    ----------
    table : Table
    data : DataConfig
    labels : Labels or None
        None where the labels' meaning cannot be told.

    Yields
    ------
    list of Seen
        Of some rows that follow each other, in their order.
    """
    images = {table.real(c) for r in table.rows for c in r.modalities}
    clashes = [any(table.real(c) in images for c in table.masks(r)) for r in table.rows]
    look = partial(_look, table.path, data, labels, not table.has_patients)
    work = list(zip(table.rows, clashes, strict=True))
    if table.sliced:
        yield from _by_volume(table, data, labels, work)
    elif table.formats.further:
        yield from in_threads(look, chunks(work, 1), VOLUME_THREADS)
    elif len(work) < MANY or cores() == 1:
        yield from in_threads(look, chunks(work, AT_ONCE))
    else:
        yield from in_processes(look, chunks(work, MANY_AT_ONCE))


def _by_volume(
    table: Table, data: DataConfig, labels: Labels | None, work: Sequence[tuple[Row, bool]]
) -> Iterator[list[Seen]]:
    """What slices hold, in the order of their rows; a volume is read once for all of its own."""
    places: dict[str, list[int]] = {}
    for k, (row, _) in enumerate(work):
        places.setdefault(row.image, []).append(k)
    groups = [[work[k] for k in of_volume] for of_volume in places.values()]
    look = partial(_look_at_volume_of, table.path, data, labels)
    volumes: dict[int, Seen] = {}
    done = 0
    looked = in_threads(look, groups, VOLUME_THREADS)
    for of_volume, seen in zip(places.values(), looked, strict=True):
        volumes.update(zip(of_volume, seen, strict=True))
        ready = []
        while done in volumes:
            ready.append(volumes.pop(done))
            done += 1
        yield ready


def _look_at_volume_of(
    path: Path, data: DataConfig, labels: Labels | None, work: Sequence[tuple[Row, bool]]
) -> list[Seen]:
    table = Table(path, tuple(row for row, _ in work))
    try:
        if not work[0][0].image:
            return [Seen(())] * len(work)
        return look_at_slices(work, table, data, labels)
    except Exception as e:  # as of whole files
        if lacks_memory(e):
            note_file(e, work[0][0].image)
            raise
        return [_unreadable(work[0][0], e), *[Seen(())] * (len(work) - 1)]


def _look(
    path: Path,
    data: DataConfig,
    labels: Labels | None,
    thumbnails: bool,
    work: Sequence[tuple[Row, bool]],
) -> list[Seen]:
    table = Table(path, tuple(row for row, _ in work))
    return [_look_at(row, table, data, labels, clash, thumbnails) for row, clash in work]


def _look_at(
    row: Row, table: Table, data: DataConfig, labels: Labels | None, clash: bool, thumbnails: bool
) -> Seen:
    try:
        if problem := identity_problem(row, table):
            return Seen((problem,))
        return LOOKS[row.formats.noun](row, table, data, labels, clash, thumbnails)
    except Exception as e:  # whatever breaks a reader must not hide the other rows
        if lacks_memory(e):
            note_file(e, row.image)
            raise
        return _unreadable(row, e)


def _unreadable(row: Row, e: Exception) -> Seen:
    cause = f"{type(e).__name__}: {first_line(e)}"
    return Seen(
        (
            Problem(
                "row-unreadable",
                row.line,
                row.image,
                f"looking into the files of this row failed ({cause})",
                "write its files anew, or delete the row; weakseg should have said what is "
                "wrong, so please report it with the file",
            ),
        )
    )


LOOKS: dict[str, Callable[..., Seen]] = {"image": look_at_files, "volume": look_at_volumes}
"""What a file holds → what looks into the files of a row."""


def chunks(items: Sequence[T], size: int) -> list[Sequence[T]]:
    """The items, some at a time."""
    return [items[k : k + size] for k in range(0, len(items), size)]


def in_threads(work: Callable[[T], R], items: Iterable[T], threads: int = DECODERS) -> Iterator[R]:
    """Results in the order of the items."""
    with ThreadPoolExecutor(threads) as pool:
        yield from pool.map(work, items)


def in_processes(work: Callable[[T], R], items: Iterable[T]) -> Iterator[R]:
    """Results in the order of the items, by a process a core."""
    from multiprocessing import resource_tracker

    from joblib import Parallel, delayed
    from joblib.externals.loky.process_executor import TerminatedWorkerError

    resource_tracker.ensure_running()  # to start it later would undo the next block's work
    # Unlike those of the standard library, these need no guard in the user's own script.
    with Parallel(
        n_jobs=-1,
        backend="loky",
        batch_size=1,
        return_as="generator",
        initializer=_end_with,
        initargs=(os.getpid(),),
    ) as pool:
        results: Generator[R, None, None] | None = None
        try:
            with deaf_to_interrupts():  # Ctrl-C reaches a terminal's every process
                results = pool(delayed(work)(item) for item in items)
            for result in results:  # noqa: UP028 - they shall not be closed with this one
                yield result
        except TerminatedWorkerError as e:
            raise UserError(
                "A process that looked into files was ended from outside.",
                found=first_line(e),
                fix="mostly the system lacked memory: close other programs and try again; if it "
                "comes again with memory free, a file breaks its reader: find it with halves of "
                "the manifest, and report it",
            ) from None
        finally:
            with _giving_up():
                if results is not None:
                    results.close()


@contextlib.contextmanager
def _giving_up() -> Iterator[None]:
    """Say nothing of tasks that are given up on purpose, nor of what joblib stumbles over then.

    Where they have hardly begun, the thread that keeps its processes has ended these and forgotten
    the tasks, and asks for one of them once more: a KeyError.
    """
    told = threading.excepthook

    def tell(args: threading.ExceptHookArgs) -> None:
        keeper = args.thread is not None and args.thread.name == KEEPER
        if not (keeper and args.exc_type is KeyError):
            told(args)

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "[0-9]+ tasks ")
        threading.excepthook = tell
        try:
            yield
        finally:
            threading.excepthook = told


def _end_with(parent: int) -> None:
    """Have this process end soon after its parent, even one that was killed.

    It would wait minutes for more work. On Windows nobody is told that a parent has ended.
    """

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(ATTENDED)
        os._exit(1)

    if not WINDOWS:
        threading.Thread(target=watch, daemon=True).start()
