"""Which of some names is meant by what somebody has typed, or dragged into a terminal."""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterator
from pathlib import Path
from urllib.parse import unquote, urlsplit

_QUOTES = "'\""


def meant(answer: str, names: Collection[str], below: Path | None = None) -> str | None:
    """The name that an answer means; None where it means none.

    Parameters
    ----------
    answer : str
        As it was typed.
    names : collection of str
    below : Path, optional
        The folder of which the names are files, with / between folders.

    Returns
    -------
    str or None
        The name as it is typed; else as terminals and Windows write it: in quotes, with a blank
        behind, with a backslash before blanks or between folders, from ``~``, the folder that
        somebody is in or the root on, as an address ``file:``; else the only one that differs in
        small and capital letters.
    """
    said = [text for text in _spellings(answer, below) if text]
    for text in said:
        if text in names:
            return text
    folded = {text.casefold() for text in said}
    alike = [name for name in names if name.casefold() in folded]
    return alike[0] if len(alike) == 1 else None


def _spellings(answer: str, below: Path | None) -> Iterator[str]:
    bare = answer.strip()
    bare = bare.removeprefix("& ").strip()  # PowerShell puts it before what is dragged into it
    quoted = len(bare) > 1 and bare[0] == bare[-1] and bare[0] in _QUOTES
    inner = bare[1:-1] if quoted else bare
    texts = [answer, bare, inner, re.sub(r"\\(.)", r"\1", inner), inner.replace("\\", "/")]
    if inner.startswith("file:"):
        texts.append(unquote(urlsplit(inner).path))
    yield from texts
    if below is not None:
        for text in texts:
            yield from _from_there(text, below)


def _from_there(text: str, below: Path) -> Iterator[str]:
    """A path as one of a folder, from which or to which it may lead."""
    try:
        path = Path(text).expanduser()
        if not path.is_absolute():
            yield Path(os.path.normpath(path)).as_posix()
        ends = ((path.absolute(), below.absolute()), (path.resolve(), below.resolve()))
        for whole, folder in ends:
            inside = Path(os.path.normpath(whole))
            if inside.is_relative_to(folder):
                yield inside.relative_to(folder).as_posix()
    except (OSError, RuntimeError, ValueError):  # no path, or of nobody who is known here
        return
