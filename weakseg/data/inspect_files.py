"""Looking into the files of many rows at once: in threads, or of a long manifest in processes.

Decoding small images is mostly Python, which threads cannot share; processes can, but take a
second to start.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TypeVar

from weakseg.config import DataConfig
from weakseg.data.cases import Labels
from weakseg.data.check_files import Seen, look_at_files
from weakseg.data.check_volumes import look_at_volumes
from weakseg.data.formats.reading import DECODERS
from weakseg.data.manifest import Problem, Row, Table
from weakseg.errors import first_line
from weakseg.runs import cores

T = TypeVar("T")
R = TypeVar("R")

VOLUME_THREADS = 2  # each holds a volume in memory
AT_ONCE = 16
"""Rows of one task: handing a task over takes as long as hashing a small file."""

MANY = 5000
"""Rows from which on processes pay."""
MANY_AT_ONCE = 250


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
    if table.formats.further:
        yield from in_threads(look, chunks(work, 1), VOLUME_THREADS)
    elif len(work) < MANY or cores() == 1:
        yield from in_threads(look, chunks(work, AT_ONCE))
    else:
        yield from in_processes(look, chunks(work, MANY_AT_ONCE))


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
        return LOOKS[row.formats.noun](row, table, data, labels, clash, thumbnails)
    except Exception as e:  # whatever breaks a reader must not hide the other rows
        found = f"{type(e).__name__}: {first_line(e)}"
        return Seen(
            (
                Problem(
                    "row-unreadable",
                    row.line,
                    row.image,
                    f"looking into the files of this row failed ({found})",
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
    from joblib import Parallel, delayed

    # Unlike those of the standard library, these need no guard in the user's own script.
    pool = Parallel(n_jobs=-1, backend="loky", batch_size=1, return_as="generator")
    yield from pool(delayed(work)(item) for item in items)
