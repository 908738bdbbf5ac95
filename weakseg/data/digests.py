"""Digests of the files of a manifest: those that a run has read before are not read again.

As git's index does it, a file whose size and times are those of the run's list is taken for
unchanged. Of a set of volumes each command would else read every byte before it begins.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from weakseg.data.formats.dicom.signs import files_in
from weakseg.data.inspect_files import AT_ONCE, chunks, in_threads
from weakseg.runs import write_text

Known = dict[str, list[Any]]
"""Path of a file → its bytes, times of change of content and of entry in ns, and digest."""

MISSING = b"missing"

LENGTH = hashlib.blake2b().digest_size

SETTLED = 2 * 10**9
"""A file that was changed within so many ns of being read may change again at the same time, as
coarse as file systems tell it (FAT: two seconds): its digest is not kept."""


@dataclass(frozen=True)
class Digests:
    """What files hold.

    Attributes
    ----------
    of : mapping
        Path → digest of the file, or over those of a folder (of a series every file, whatever it
        is called); `MISSING` for what is not there.
    known : Known
        Every file that was looked at and may be taken for unchanged the next time.
    """

    of: Mapping[Path, bytes]
    known: Known


def digest_files(files: Iterable[Path], known: Known | None = None) -> Digests:
    """Digest files, but for those that are known.

    Parameters
    ----------
    files : iterable of Path
        Files and folders of files.
    known : Known, optional
        Of an earlier call.
    """
    files, settled = list(dict.fromkeys(files)), time.time_ns() - SETTLED
    look = partial(_digest_some, known=known or {})
    found: list[bytes] = []
    seen: Known = {}
    for digests, of_files in in_threads(look, chunks(files, AT_ONCE)):
        found += digests
        seen |= {f: held for f, held in of_files.items() if max(held[1:3]) < settled}
    return Digests(dict(zip(files, found, strict=True)), seen)


def read_known(path: Path) -> Known:
    """A run's list of files; empty where there is none that can be read."""
    try:
        known: Known = json.loads(path.read_text(encoding="utf-8"))
        whole = all(
            isinstance(held, list) and len(held) == 4 and len(bytes.fromhex(held[3])) == LENGTH
            for held in known.values()
        )
    except (OSError, ValueError, TypeError, AttributeError):
        return {}
    return known if whole else {}


def write_known(path: Path, known: Known) -> None:
    """Keep the list; nothing is written where it is as it was."""
    if known != read_known(path) or not path.exists():
        lines = ",\n".join(f"{json.dumps(f)}: {json.dumps(held)}" for f, held in known.items())
        write_text(path, "{\n" + lines + "\n}\n")


def _digest_some(files: Sequence[Path], known: Known) -> tuple[list[bytes], Known]:
    seen: Known = {}
    return [_digest(f, known, seen) for f in files], seen


def _digest(path: Path, known: Known, seen: Known) -> bytes:
    try:
        about = path.stat()
        if stat.S_ISDIR(about.st_mode):
            each = sorted(_digest(f, known, seen) for f in files_in(path))
            return hashlib.blake2b(b"".join(each)).digest() if each else MISSING
        if stat.S_ISREG(about.st_mode):
            return _of_file(path, about, known, seen)
    except (OSError, ValueError):
        pass
    return MISSING


def _of_file(path: Path, about: os.stat_result, known: Known, seen: Known) -> bytes:
    name, now = os.fspath(path), [about.st_size, about.st_mtime_ns, about.st_ctime_ns]
    held = known.get(name)
    if held is None or held[:3] != now:
        with path.open("rb") as f:
            held = [*now, hashlib.file_digest(f, "blake2b").hexdigest()]  # a little at a time
    seen[name] = held
    return bytes.fromhex(held[3])
