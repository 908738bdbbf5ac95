"""The files below a folder, in folders that are links as well, each folder once."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterator
from pathlib import Path


def files_below(folder: Path, *, but: Path | None = None) -> Iterator[Path]:
    """Whatever lies below a folder and is no folder itself.

    Links to folders are followed, once all else is listed: a folder that is reached in two ways is
    listed by its own path, and a link to a folder above it leads to no endless loop.

    Parameters
    ----------
    folder : Path
    but : Path, optional
        A folder below that is passed over, whatever leads to it; not where it is the same.

    Yields
    ------
    Path
        Begins with ``folder``; in no order.
    """
    seen = set() if but is None else {os.path.realpath(but)} - {os.path.realpath(folder)}
    ahead = deque([os.fspath(folder)])
    while ahead:
        for at, folders, names in os.walk(ahead.popleft()):
            real = os.path.realpath(at)
            if real in seen:
                folders.clear()
                continue
            seen.add(real)
            inner = [os.path.join(at, name) for name in sorted(folders)]  # noqa: PTH118
            ahead.extend(path for path in inner if os.path.islink(path))  # noqa: PTH114
            yield from (Path(at, name) for name in names)
