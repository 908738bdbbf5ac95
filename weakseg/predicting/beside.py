"""What is written of images while the network looks at the next ones: a thread of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from threading import BoundedSemaphore
from typing import Any

from weakseg.data.cases import Case
from weakseg.errors import DataError

LARGE = 2**19
"""Pixels or voxels from which on a prediction is written before the next one is made: several in
memory would be many times a volume."""

WAITING = 4
"""Predictions that may be begun and not written yet: more would pile up where a disk is slow."""

Row = dict[str, Any]

Later = Callable[[], Row]
"""Waits until an image is done; gives its row of ``predictions.csv``."""

Begin = Callable[[int, Callable[[], Row]], Later]
"""(pixels of a prediction, what is left to do of it) → its row, later."""

Predict = Callable[[Sequence[Case]], Iterator[Later]]
"""Predicts some cases and begins to write them."""


@contextmanager
def writing_beside() -> Iterator[Begin]:
    """One thread that writes, in order: what it touches nobody else does meanwhile."""
    pool, room = ThreadPoolExecutor(1), BoundedSemaphore(WAITING)

    def begin(pixels: int, work: Callable[[], Row]) -> Later:
        room.acquire()
        try:
            later = pool.submit(work)
        except BaseException:
            room.release()
            raise
        later.add_done_callback(lambda _: room.release())  # also of what failed or was cancelled
        if pixels > LARGE:
            later.exception()  # waits; what it is, is told where the row is asked for
        return later.result

    try:
        yield begin
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def begun(one: Predict, cases: Sequence[Case]) -> Callable[[], list[Row]]:
    """Predict some cases; what is returned waits for their rows.

    An unreadable file is told where the rows are asked for, once all that was begun is done.
    """
    rows: list[Later] = []
    failed: DataError | None = None
    try:
        for row in one(cases):
            rows.append(row)
    except DataError as e:
        failed = e

    def wait() -> list[Row]:
        made = [row() for row in rows]
        if failed is not None:
            raise failed
        return made

    return wait
