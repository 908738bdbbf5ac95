"""What of a header tells who a patient is, and paths without it.

A path may hold a name, a date or an identifier of the very patient whose image it leads to, as
archives name files and folders so. What is shown or kept of a path is without them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from weakseg.data.formats.dicom.header import text
from weakseg.errors import DataError

if TYPE_CHECKING:
    from pydicom import Dataset

WITHHELD = "withheld"
"""Stands in a path for a part that tells who a patient is."""

_NAMES = ("PatientName",)
_IDENTIFIERS = (
    *("PatientID", "AccessionNumber", "StudyID", "PatientBirthDate", "StudyDate"),
    *("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "FrameOfReferenceUID"),
)
_SHORTEST = 4
"""Letters and digits of an identifier that is looked for: shorter ones are in every path."""
_UID = re.compile(r"(?<!\d)[0-2](?:\.\d+){4,}")


def identifiers(data: Dataset) -> frozenset[str]:
    """What of a header tells who, in small letters without signs: names, numbers, dates, UIDs."""
    found = {plain(text(data, k)) for k in _IDENTIFIERS}
    for k in _NAMES:
        found |= {plain(part) for part in re.split(r"[\^=\s]+", text(data, k))}
    return frozenset(w for w in found if len(w) >= _SHORTEST)


def plain(word: str) -> str:
    """A word without signs and case: ``Doe^Jane`` and ``doe_jane`` are the same."""
    return re.sub(r"[\W_]+", "", word).casefold()


def telling_parts(path: Path, known: frozenset[str]) -> list[int]:
    """Indices of a path's parts that hold a UID, or one of some identifiers."""
    return [
        k
        for k, part in enumerate(path.parts)
        if _UID.search(part) or any(w in plain(part) for w in known)
    ]


def tells(text_: str, known: frozenset[str]) -> bool:
    """Whether a text holds a UID, or one of some identifiers."""
    return bool(_UID.search(text_)) or any(w in plain(text_) for w in known)


def shown_path(path: Path, data: Dataset | None = None) -> str:
    """A path for a message: parts that tell who, by their look or by the header, are withheld."""
    known = frozenset() if data is None else identifiers(data)
    parts = list(path.parts)
    for k in telling_parts(path, known):
        parts[k] = f"({WITHHELD})"
    return str(Path(*parts)) if parts else str(path)


@contextmanager
def told_of(where: str, damaged: Callable[[Path, Exception], DataError]) -> Iterator[None]:
    """What goes wrong is told of a file under the name that may be shown."""
    try:
        yield
    except (DataError, ImportError, MemoryError):
        raise
    except Exception as e:
        raise damaged(Path(where), e) from None
