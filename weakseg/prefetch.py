"""Work that goes on while the caller does something else: decoding before, writing behind."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")


def map_ahead(
    work: Callable[[T], R], items: Iterable[T], *, workers: int = 1, ahead: int = 2
) -> Iterator[R]:
    """Results of work in threads, in the order of the items, at most so many at a time.

    Items are taken one by one, in the caller's thread, whenever there is room: of a long or slow
    source no more than ``ahead`` are ever held.

    Parameters
    ----------
    work : callable
        Of one item. Reading, writing, resizing and compressing leave the interpreter to others.
    items : iterable
    workers : int, optional
        Threads.
    ahead : int, optional
        Items that are worked on, or done and not yet taken; at least 1.

    Yields
    ------
    object
        The result of each item.

    Raises
    ------
    Exception
        What ``work`` raised first, in the items' order; else what ``items`` itself raised. No
        further item is begun then.
    """
    pending: deque[Future[R]] = deque()
    pool = ThreadPoolExecutor(workers)
    source = iter(items)
    try:
        while True:
            try:
                item = next(source)
            except StopIteration:
                break
            except Exception:
                # Work on the items before may have failed too, and is then what went wrong first.
                for done in pending:
                    done.result()
                raise
            pending.append(pool.submit(work, item))
            if len(pending) >= max(ahead, 1):
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
