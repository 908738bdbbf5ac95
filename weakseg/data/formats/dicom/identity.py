"""What of a header tells who a patient is, and paths without it.

A path may hold a name, a date or an identifier of the very patient whose image it leads to, as
archives name files and folders so. What is shown or kept of a path is without them.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise, permutations
from pathlib import Path
from typing import TYPE_CHECKING
from unicodedata import normalize

from weakseg.data.formats.dicom.header import read_header, text
from weakseg.data.formats.dicom.signs import begins_as_dicom, first_dicom
from weakseg.errors import DataError

if TYPE_CHECKING:
    from pydicom import Dataset

WITHHELD = "(withheld)"
"""Stands in a path for a part that tells who a patient is."""

_NUMBERS = ("PatientID", "AccessionNumber", "PatientBirthDate", "StudyDate")
_UIDS = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "FrameOfReferenceUID")
_SHORTEST, _WHOLE = 4, 6
"""Letters and digits of what is looked for: shorter words are in every path, and words shorter than
the second number count where they stand alone, or two of them together."""
_SHORTEST_OTHER = 2
"""As the first, of words in other than Latin letters: Chinese names have two or three signs."""
_UID = re.compile(r"(?<!\d)[0-2](?:\.\d+){4,}")


def identifiers(data: Dataset) -> frozenset[str]:
    """What of a header tells who, in small letters without signs: names, numbers, dates, UIDs.

    Of an object whose patient's identity has been removed, as it says itself, only the UIDs.
    """
    values = {plain(text(data, k)) for k in _UIDS}
    if text(data, "PatientIdentityRemoved").upper() != "YES":
        values |= {plain(text(data, k)) for k in _NUMBERS}
        for written in text(data, "PatientName").split("="):  # in Latin letters, and in others
            words = [w for w in map(plain, re.split(r"[\^\s]+", written)) if w]
            values |= {*words, *map("".join, permutations(words, 2))}
    return frozenset(w for w in values if len(w) >= (_SHORTEST if w.isascii() else _SHORTEST_OTHER))


def identifiers_of(path: Path) -> frozenset[str] | None:
    """`identifiers` of a DICOM file, or of the first of a folder; None of anything else."""
    file = first_dicom(path) if os.path.isdir(path) else path  # noqa: PTH112 - no error for long names
    if file is None or not begins_as_dicom(file):
        return None
    try:
        with file.open("rb") as f:
            return identifiers(read_header(f))
    except (OSError, ValueError):
        return frozenset()


def plain(word: str) -> str:
    """A word without signs and case: ``Doe^Jane`` and ``doe_jane`` are the same."""
    return re.sub(r"[\W_]+", "", normalize("NFC", word)).casefold()


def tells(part: str, known: frozenset[str]) -> bool:
    """Whether a text holds a UID, or one of some identifiers."""
    if _UID.search(part):
        return True
    words = re.split(r"[\W_]+", normalize("NFC", part).casefold())
    joined, alone = plain(part), {*words, *map("".join, pairwise(words))}
    return any(w in joined if len(w) >= _WHOLE else w in alone for w in known)


def shown_path(path: Path, data: Dataset | None = None) -> str:
    """A path for a message: parts that tell who, by their look or by the header, are withheld."""
    return _without(path, frozenset() if data is None else identifiers(data), lambda _: WITHHELD)


def public_path(
    path: Path, name: Callable[[str], str] = lambda _: WITHHELD, *, beside: Path | None = None
) -> str:
    """A path as it may be shown and kept; of DICOM files without what tells who.

    Parameters
    ----------
    path : Path
        A file, or the folder of a series.
    name : callable, optional
        What stands for a part that tells who, given the part.
    beside : Path, optional
        The image that the file belongs to: what its header tells counts as well.
    """
    files = [path] if beside is None else [path, beside]
    known = [found for f in files if (found := identifiers_of(f)) is not None]
    return _without(path, frozenset().union(*known), name) if known else str(path)


def _without(path: Path, known: frozenset[str], name: Callable[[str], str]) -> str:
    parts = [name(p) if tells(p, known) else p for p in path.parts]
    return str(Path(*parts)) if parts else str(path)


@contextmanager
def told_beside(path: Path, image: Path | None) -> Iterator[None]:
    """What goes wrong with a file of an image is told without what the image's header says.

    Parameters
    ----------
    path : Path
        For instance of a mask, which a format tells of under its own name.
    image : Path or None
        Whose it is, see `public_path`.
    """
    try:
        yield
    except DataError as e:
        shown = str(path) if image is None else public_path(path, beside=image)
        if shown == str(path):
            raise

        def without(said: str | None) -> str | None:
            return None if said is None else said.replace(str(path), shown)

        raise DataError(
            e.what.replace(str(path), shown),
            where=without(e.where),
            found=without(e.found),
            expected=without(e.expected),
            fix=without(e.fix),
        ) from None


@contextmanager
def told_of(where: str, damaged: Callable[[Path, Exception], DataError]) -> Iterator[None]:
    """What goes wrong is told of a file under the name that may be shown."""
    try:
        yield
    except (DataError, ImportError, MemoryError):
        raise
    except Exception as e:
        raise damaged(Path(where), e) from None
