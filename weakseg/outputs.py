"""What each stage has written, file by file: damage is noticed, named, and never a result.

Every stage has a list of its outputs (``outputs/STAGE.json``): size, times and hash of each file.
As in git's index, a file whose size and times are those of the list is taken for unchanged, and
only others are read again: of 100,000 masks nothing is opened. The record of the stage holds a
hash over the list, so that a list of other outputs is no list of these.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any

from weakseg.errors import RunError
from weakseg.layout import outputs_file
from weakseg.runs import file_hash, write_text

Listed = dict[str, list[Any]]
"""Path below the run folder → bytes, times of change of content and of entry in ns, hash."""


@dataclass(frozen=True)
class Damage:
    """A file that is not what its stage wrote.

    Attributes
    ----------
    path : str
        Below the run folder.
    why : str
        In words that follow the path.
    """

    path: str
    why: str

    @property
    def missing(self) -> bool:
        """Whether there is no such file any more."""
        return self.why == _MISSING


_MISSING = "is missing"


def in_words(damages: Sequence[Damage]) -> str:
    """The first of some damages, and how many more there are."""
    first = f"{damages[0].path} {damages[0].why}"
    return first if len(damages) == 1 else f"{first}, and {len(damages) - 1} more files"


def list_outputs(run: Path, stage: str, outputs: Iterable[Path]) -> dict[str, Any]:
    """Hash what a stage has written, and keep the list.

    Parameters
    ----------
    run : Path
    stage : str
    outputs : iterable of Path
        Files and folders below the run folder; what is not there was not written.

    Returns
    -------
    dict
        For the record of the stage: how many ``files``, their ``bytes``, and a ``hash`` over
        their paths and contents, which does not depend on times.
    """
    listed = {}
    for path in sorted(_files(outputs)):
        stat = _stat(path)
        assert stat is not None
        listed[_below(run, path)] = [*stat, file_hash(Path(path))]
    _write(run, stage, listed)
    return _summary(listed)


def find_damage(
    run: Path,
    stage: str,
    entry: Mapping[str, Any],
    *,
    only: Iterable[Path] | None = None,
    refresh: bool = False,
) -> list[Damage]:
    """Which outputs of a stage are not what it wrote.

    Parameters
    ----------
    run : Path
    stage : str
    entry : mapping
        The stage in the record.
    only : iterable of Path, optional
        Look at these files alone; one that the stage did not write counts as missing.
    refresh : bool
        Keep the new times of files that have others but the same content, so that they need not be
        read a second time. For commands that hold the run folder.
    """
    listed = read_list(run, stage, entry)
    if listed is None:
        return [Damage(_below(run, outputs_file(run, stage)), "is not the list of its outputs")]
    names = listed if only is None else [_below(run, p) for p in only]
    damages, newer = [], {}
    for name in names:
        recorded = listed.get(name)
        stat = _stat(f"{run}{os.sep}{name}")
        if recorded is None or stat is None:
            damages.append(Damage(name, _MISSING))
        elif stat != recorded[:3]:
            why = _other_content(run / name, stat[0], recorded)
            if why is None:
                newer[name] = [*stat, recorded[3]]
            else:
                damages.append(Damage(name, why))
    if refresh and newer:
        _write(run, stage, listed | newer)
    return damages


def read_list(run: Path, stage: str, entry: Mapping[str, Any]) -> Listed | None:
    """The list of a stage's outputs; None where it is missing, damaged, or of other outputs."""
    try:
        listed = json.loads(outputs_file(run, stage).read_text(encoding="utf-8"))
        return listed if _summary(listed) == entry.get("outputs") else None
    except (OSError, ValueError, TypeError, AttributeError, IndexError, KeyError):
        return None


def unlist(
    run: Path, stage: str, entry: Mapping[str, Any], path: Path
) -> tuple[dict[str, Any], dict[str, Any]] | None:
    """Take a file out of the list of a stage that does not write it any more.

    Returns
    -------
    tuple of dict or None
        What the record said of the outputs, and what it is to say now; None where the file is not
        in the list, or the list is damaged.
    """
    listed = read_list(run, stage, entry)
    if listed is None or listed.pop(_below(run, path), None) is None:
        return None
    _write(run, stage, listed)
    return dict(entry["outputs"]), _summary(listed)


def last_written(run: Path, stage: str) -> list[str]:
    """The files that a stage wrote when it was last made, though the record has forgotten it.

    For a stage that takes away what it wrote before: the list stays until the next one. Empty where
    it is missing or damaged.
    """
    try:
        listed = json.loads(outputs_file(run, stage).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return []
    return list(listed) if isinstance(listed, dict) else []


def _other_content(path: Path, size: int, held: Sequence[Any]) -> str | None:
    """What is wrong with a file that has other times than when it was written; None: nothing."""
    if size != held[0]:
        return f"is {size} bytes long, {held[0]} were written"
    try:
        same = file_hash(path) == held[3]
    except RunError as e:
        return f"cannot be read ({e.found})"
    return None if same else "holds something else than was written"


def _stat(path: str) -> list[int] | None:
    try:
        stat = os.stat(path)  # noqa: PTH116
    except OSError:
        return None
    return [stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns]


def _files(outputs: Iterable[Path]) -> Iterator[str]:
    """Every file of some outputs; what begins with a dot is being written."""
    for path in outputs:
        if path.is_dir():
            yield from _files_below(str(path))
        elif path.exists():
            yield str(path)


def _files_below(folder: str) -> Iterator[str]:
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith("."):
                continue
            if entry.is_dir():
                yield from _files_below(entry.path)
            else:
                yield entry.path


def _below(run: Path, path: str | Path) -> str:
    """A path below the run folder, the same on every system."""
    return os.path.relpath(path, run).replace(os.sep, "/")


def _summary(listed: Listed) -> dict[str, Any]:
    total = blake2b(digest_size=10)
    total.update("\n".join(f"{name} {entry[3]}" for name, entry in listed.items()).encode())
    size = sum(entry[0] for entry in listed.values())
    return {"files": len(listed), "bytes": size, "hash": total.hexdigest()}


def _write(run: Path, stage: str, listed: Listed) -> None:
    lines = ",\n".join(f"{json.dumps(n)}: {json.dumps(v)}" for n, v in listed.items())
    write_text(outputs_file(run, stage), "{\n" + lines + "\n}\n")
