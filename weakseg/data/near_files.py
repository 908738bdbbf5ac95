"""What a path may have meant that leads to no file: names that are near, beside the missing one."""

from __future__ import annotations

import contextlib
import os
import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from weakseg.data.labels import is_no_value
from weakseg.data.table import Table
from weakseg.errors import nearest

MOST_COMPARED = 1000
"""Names of a folder with which a misspelt one is compared letter by letter."""
MOST_FOLDERS = 50
"""Folders beside a manifest that are searched."""


def missing_fix(what: str, cell: str, table: Table) -> str:
    """The way out for a cell that names no file.

    Parameters
    ----------
    what : str
        The column, such as ``image`` or ``mask``.
    cell : str
    table : Table
        Its folder is where files are looked for.
    """
    if is_no_value(cell):
        return f"leave the cell blank if there is no {what}, or name its file"
    path = table.resolve(cell)
    target = _dangling(path)
    if target:
        return f"it is a link to {target}, which is not there: mend the link, or name the file"
    near = near_cell(cell, table)
    where = f"it is looked for in {path.parent}"
    if near:
        return f"{near}; {where}"
    if not _is_folder(path.parent):
        where += ", and there is no such folder"
    return f"check its name; {where}"


def near_cell(cell: str, table: Table) -> str | None:
    """What to write in place of a cell, and why; None where nothing is near."""
    for tried, why in _other_ways(cell):
        if _is_file(table.resolve(tried)):
            return f"write {tried!r}: {why}"
    folder = table.resolve("x").parent
    for base in ("", "../"):
        for tail in _tails(cell):
            if _is_file(table.resolve(base + tail)):
                why = "paths are relative to the manifest's folder, with / between folders"
                return f"write {base + tail!r}: {why}"
            similar = _similar(table.resolve(base + "x").parent, tail)
            if similar:
                names, why = similar
                shown = " or ".join(repr(base + n) for n in names)
                return f"write {shown}: {why}"
    return _in_another_folder(cell, folder)


def _dangling(path: Path) -> str | None:
    if not os.path.islink(path):  # noqa: PTH114
        return None
    return os.readlink(path)  # noqa: PTH115


def _other_ways(cell: str) -> Iterator[tuple[str, str]]:
    """Other ways to write the same path, and what they mend."""
    if "\\" in cell:
        yield cell.replace("\\", "/"), "write / instead of \\ between folders"
    bare = cell.strip("'\"`<> ")
    if bare != cell:
        yield bare, "without the signs around it"
    if cell.startswith("file:"):
        yield re.sub(r"^file:/*(?=/)", "", cell), "a path, not an address"
    if cell.startswith("~"):
        yield os.path.expanduser(cell), "~ stands for your folder in shells only"  # noqa: PTH111


def _tails(cell: str) -> Iterator[str]:
    """A path, then it without its first folder, without its first two, and so on."""
    parts = [p for p in re.split(r"[\\/]+", cell.strip("'\"")) if p not in ("", ".")]
    while parts and (parts[0] == ".." or parts[0].endswith(":")):
        parts = parts[1:]
    for k in range(len(parts)):
        yield "/".join(parts[k:])


def _similar(folder: Path, tail: str) -> tuple[list[str], str] | None:
    """Files whose path below a folder differs from a given one in its writing, and how."""
    *folders, name = tail.split("/")
    prefix = ""
    for part in folders:
        there = [part]
        if not _is_folder(folder / part):
            there = [
                n for n in _listing(folder).whole.get(_folded(part), []) if _is_folder(folder / n)
            ]
        if len(there) != 1:
            return None
        prefix, folder = f"{prefix}{there[0]}/", folder / there[0]
    for other, why in _ways(name, _listing(folder)):
        files = [n for n in other if _is_file(folder / n)]
        if files:
            return [prefix + n for n in files[:3]], why or _how_they_differ(prefix + files[0], tail)
    return None


def _ways(name: str, near: _Listing) -> Iterator[tuple[list[str], str]]:
    """Names that a name may have meant, the likeliest first, and why."""
    yield near.whole.get(_folded(name), []), ""
    yield near.stems.get(_folded(name), []), "its ending belongs to a file's name"
    if _stem(name) != name:
        ending = "a file of that name has another ending"
        yield near.stems.get(_folded(_stem(name)), []), ending
    yield _misspelt(name, near.whole), "a file of a similar name is there"


def _how_they_differ(found: str, wanted: str) -> str:
    def form(text: str) -> str:
        return unicodedata.normalize("NFC", text)

    if form(found) == form(wanted):
        return "its accents are stored in another form; copy the name from the folder"
    return "capital and small letters count in names of files"


def _misspelt(name: str, names: dict[str, list[str]]) -> list[str]:
    """The most similar name with the same numbers: other numbers are other images."""
    if len(names) > MOST_COMPARED:
        return []
    numbers = re.findall(r"\d+", name)
    close = nearest(_folded(name), (n for n in names if re.findall(r"\d+", n) == numbers))
    return names[close] if close else []


def _in_another_folder(cell: str, folder: Path) -> str | None:
    name = re.split(r"[\\/]", cell)[-1]
    inside = _listing(folder).folders[:MOST_FOLDERS]
    others = [f"{n}/{name}" for n in inside if _is_file(folder / n / name)]
    if not name or not others or len(others) > 3:
        return None
    return f"did you mean {' or '.join(map(repr, others))}?"


def _folded(name: str) -> str:
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())


def _stem(name: str) -> str:
    return re.sub(r"(\.nii)?\.\w+$", "", name, flags=re.IGNORECASE) or name


def _listing(folder: Path) -> _Listing:
    """As `_listing_at`, looked up once for as long as the folder does not change."""
    try:
        changed = folder.stat().st_mtime_ns
    except (OSError, ValueError):
        changed = -1
    return _listing_at(str(folder), changed)


def names_in(folder: Path) -> list[str]:
    """What is in a folder, in order; nothing where it cannot be read."""
    return sorted(name for names in _listing(folder).whole.values() for name in names)


def forget_folders() -> None:
    """Give up what is kept of folders: of fifteen thousand files 6 MB."""
    _listing_at.cache_clear()


# Questions to pathlib fail where a name is too long.
def _is_file(path: Path) -> bool:
    return os.path.isfile(path)  # noqa: PTH113


def _is_folder(path: Path) -> bool:
    return os.path.isdir(path)  # noqa: PTH112


@dataclass(frozen=True)
class _Listing:
    """Names in a folder by their plain writing, and by that without the ending; its folders."""

    whole: dict[str, list[str]]
    stems: dict[str, list[str]]
    folders: list[str]


@lru_cache(maxsize=64)
def _listing_at(folder: str, changed: int) -> _Listing:
    listing = _Listing({}, {}, [])
    try:
        entries = sorted(os.scandir(folder), key=lambda e: e.name)
    except (OSError, ValueError):
        entries = []
    for entry in entries:
        listing.whole.setdefault(_folded(entry.name), []).append(entry.name)
        listing.stems.setdefault(_folded(_stem(entry.name)), []).append(entry.name)
        with contextlib.suppress(OSError):
            if entry.is_dir():
                listing.folders.append(entry.name)
    return listing
