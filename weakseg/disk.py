"""What a disk refuses, in words; and what is written so that it outlasts a power cut."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import shutil
import time
from collections.abc import Callable, Iterable
from pathlib import Path

from weakseg.errors import DataError, UserError, WeaksegError, first_line

FULL = {errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC), errno.EFBIG}
OF_THE_DISK = FULL | {errno.EIO, errno.EROFS, errno.EMFILE, errno.ENFILE, errno.ESTALE}
"""Errors of the system that no program is to blame for."""

_WAYS = {
    errno.EROFS: "name a folder on a disk that may be written, with --run-dir or --out",
    errno.EACCES: "name a folder that you may write to, with --run-dir or --out",
    errno.EPERM: "name a folder that you may write to, with --run-dir or --out",
    errno.ENAMETOOLONG: "use a folder with a shorter path, or shorter file names",
    errno.EISDIR: "move the folder of that name away",
    errno.EEXIST: "move the file away that stands where a folder belongs",
    errno.ENOTDIR: "move the file away that stands where a folder belongs",
    errno.EMFILE: "raise the limit of open files (ulimit -n)",
}
WINDOWS = os.name == "nt"
LONGEST_PATH = 259
"""Characters of a path that every Windows takes; longer ones only where they are switched on."""
_TOO_LONG = 206  # ERROR_FILENAME_EXCED_RANGE of Windows, which errno knows as EINVAL or ENOENT
_NO_SUCH = {2, 3, 123}  # no such file, no such path, no name: what it says instead, above
REPLACE_TRIES, REPLACE_WAIT = 20, 0.1
"""How often, and after how many seconds, Windows is asked again to replace a file."""
_FREE = "free space on the disk or raise the quota"
_AGAIN = "then repeat the command: nothing that was finished is lost"
UNITS = ("bytes", "KB", "MB", "GB", "TB")


_DEVICES = re.compile(
    r"(?:con|prn|aux|nul|conin\$|conout\$|com[0-9]|lpt[0-9])(?:\..*)?", re.IGNORECASE
)


def is_reserved(name: str) -> bool:
    """Whether Windows cannot have a file of that name: it is a device's, or ends with a dot."""
    return name.endswith((".", " ")) or _DEVICES.fullmatch(name) is not None


class DiskError(UserError):
    """A disk that is full, broken, or may not be written."""


def as_path(value: object, what: str = "a file") -> Path:
    """A path of text or of a path.

    Raises
    ------
    DataError
        For anything else, and for empty text.
    """
    if isinstance(value, str | os.PathLike) and os.fspath(value):
        return Path(os.fsdecode(value))
    raise DataError(
        f"{what.capitalize()} was expected.",
        where="path",
        found="empty text" if isinstance(value, str) else type(value).__name__,
        expected=f"the path of {what}, as text or pathlib.Path",
    )


def require_utf8_names(paths: Iterable[Path], shown: Callable[[Path], str] = str) -> None:
    """Refuse files whose names no table can hold, before any work is done on them.

    Parameters
    ----------
    paths : iterable of Path
    shown : callable, optional
        A path as it may be shown.

    Raises
    ------
    DataError
        For the first whose path, folders included, is not UTF-8, as after unpacking an old zip.
        Bytes that are not are told by their numbers.
    """
    for path in paths:
        try:
            str(path).encode("utf-8")
        except UnicodeEncodeError as e:
            raise DataError(
                "A file's name cannot be written into a table.",
                where=os.fsencode(shown(path)).decode("utf-8", "backslashreplace"),
                found="a name that is not UTF-8",
                fix="rename the file, or the folder of that name",
            ) from e


def in_words(size: float) -> str:
    """A number of bytes, such as ``12.3 MB``."""
    unit = 0
    while size >= 1000 and unit < len(UNITS) - 1:
        size, unit = size / 1000, unit + 1
    return f"{size:.{1 if unit else 0}f} {UNITS[unit]}"


def disk_error(e: BaseException) -> OSError | None:
    """The error of the system behind an exception, if there is one.

    Libraries wrap it, and some keep but its text.
    """
    seen: BaseException | None = e
    while seen is not None:
        if isinstance(seen, OSError):
            return seen
        if isinstance(seen, RuntimeError) or type(seen).__name__ == "SafetensorError":
            numbers = (n for n in (*FULL, errno.EIO, errno.EROFS) if os.strerror(n) in str(seen))
            number = next(numbers, None)
            if number is not None:
                return OSError(number, os.strerror(number))
        seen = seen.__cause__ or seen.__context__
    return None


def write_failure(path: Path, part: Path, e: BaseException, size: int | None) -> DiskError | None:
    """What to tell where a file could not be written; None for what is no fault of a disk.

    Parameters
    ----------
    path : Path
        The file.
    part : Path
        The temporary file that it was written to, still there.
    e : BaseException
    size : int, optional
        Bytes of the whole file, where that is known.
    """
    cause = disk_error(e) if isinstance(e, Exception) and not isinstance(e, WeaksegError) else None
    if cause is None:
        return None
    if (trap := path_trap(path, cause)) is not None:
        what, seen, out = trap
        return DiskError(what, where=str(path), found=seen, fix=f"{out}; {_AGAIN}")
    if not _is_of(cause, path, part):
        return None
    reason = cause.strerror or first_line(cause)
    details = [reason]
    # An encoder that writes to a file itself keeps no number of what went wrong.
    full = cause.errno in FULL or cause.errno is None
    if full:
        details += _room(part, size)
    way = _WAYS.get(cause.errno or 0, _FREE if full else "look at the disk")
    if WINDOWS and isinstance(cause, PermissionError):
        way = "close it in other programs (Excel holds what it shows), or name another folder"
    return DiskError(
        "A file cannot be written.",
        where=str(path),
        found="; ".join(details),
        fix=f"{way}; {_AGAIN}",
    )


def path_trap(path: Path, cause: OSError) -> tuple[str, str, str] | None:
    """What to tell of a path that Windows, or a file system, cannot have.

    Parameters
    ----------
    path : Path
        The file that was wanted.
    cause : OSError
        What came of it.

    Returns
    -------
    (what, found, fix) or None
        None where nothing is wrong with the path itself.
    """
    length, number = len(str(path.absolute())), getattr(cause, "winerror", None)
    of_path = WINDOWS and (number in _NO_SUCH or cause.errno in (errno.ENOENT, errno.EINVAL))
    shorter = _WAYS[errno.ENAMETOOLONG]
    if number == _TOO_LONG or (of_path and length > LONGEST_PATH):
        detail = f"{length} characters; {LONGEST_PATH} are what every Windows takes"
        way = f"{shorter}, or have Windows take long paths (LongPathsEnabled)"
        return "A path is too long for Windows.", detail, way
    reserved = [n for n in path.parts if n not in (path.anchor, ".", "..") and is_reserved(n)]
    if of_path and reserved:
        way = "rename the file or the folder of that name"
        return "Windows cannot have a file or a folder of that name.", repr(reserved[0]), way
    if cause.errno == errno.ENAMETOOLONG:
        longest = max(len(os.fsencode(n)) for n in path.parts)
        detail = f"{cause.strerror}: {length} characters, the longest name has {longest} bytes"
        return "A path, or a name in it, is too long.", detail, shorter
    return None


def _is_of(cause: OSError, path: Path, part: Path) -> bool:
    """Whether an error is of a file's own path, and not of another file that was read for it."""
    named = [Path(os.fsdecode(n)) for n in (cause.filename, cause.filename2) if n is not None]
    return not named or any(n in (part, *path.parents) for n in named)


def _room(part: Path, size: int | None) -> list[str]:
    """How much of a file was written, how much is free without it, and what is missing."""
    written = 0
    with contextlib.suppress(OSError):
        written = part.stat().st_size
    free = free_bytes(part.parent)
    room = None if free is None else free + written
    if size is None:
        least = [f"{in_words(written)} of it were written"] if written else []
        return [*least, *([] if room is None else [f"{in_words(room)} are free without it"])]
    if room is None or room >= size:  # a quota, or a limit of one file
        return [f"it has {in_words(size)}, {in_words(written)} were written"]
    return [
        f"it has {in_words(size)}, {in_words(room)} are free: {in_words(size - room)} are missing"
    ]


def free_bytes(folder: Path) -> int | None:
    """Bytes that may still be written to the disk of a folder, or None where nobody tells."""
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    try:
        return shutil.disk_usage(folder).free
    except OSError:
        return None


def require_room(folder: Path, size: int, what: str) -> None:
    """Refuse work whose results a disk has clearly no room for.

    Raises
    ------
    DiskError
        If less than ``size`` bytes are free.
    """
    free = free_bytes(folder)
    if free is None or free >= size:
        return
    raise DiskError(
        f"The disk has too little room for {what}.",
        where=str(folder),
        found=f"{in_words(free)} are free, at least {in_words(size)} are needed: "
        f"{in_words(size - free)} are missing",
        fix=f"{_FREE}, or name a folder on another one with --run-dir",
    )


def replace_file(part: Path, path: Path) -> None:
    """Put a file in the place of another.

    On Windows a file that is open elsewhere cannot be replaced; a virus scanner opens each new one
    for a moment.
    """
    tries = REPLACE_TRIES if WINDOWS else 1
    for left in reversed(range(tries)):
        try:
            part.replace(path)
        except PermissionError:
            if not left:
                raise
            time.sleep(REPLACE_WAIT)
        else:
            return


def flush_file(path: Path) -> None:
    """Have a file's content on the disk before anything else is done."""
    with path.open("rb+") as f:
        os.fsync(f.fileno())


def flush_folder(folder: Path) -> None:
    """Have the names of a folder on the disk; Windows does so by itself."""
    if WINDOWS:
        return
    with contextlib.suppress(OSError):  # some file systems cannot, and need not
        fd = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)


def flush_disk(folder: Path) -> None:
    """Have all that was written to the disk of a folder on it: one call for thousands of files.

    A call for every mask would take longer than the masks.
    """
    if WINDOWS:
        return
    import ctypes

    try:
        fd = os.open(folder, os.O_RDONLY)
    except OSError:
        return
    try:
        library = ctypes.CDLL(None, use_errno=True)
        if not hasattr(library, "syncfs"):
            os.sync()
        elif library.syncfs(fd) != 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number), str(folder))
    finally:
        os.close(fd)


def link(path: Path, there: Path) -> None:
    """The same file at a second place; a copy where the disk has no links."""
    there.parent.mkdir(parents=True, exist_ok=True)
    try:
        there.hardlink_to(path)
    except OSError:
        shutil.copy2(path, there)


def remove_file(path: Path, *, below: Path) -> None:
    """Delete a file of ours, if it is there, and the folders that are empty without it.

    ``below`` itself stays.
    """
    path.unlink(missing_ok=True)
    folder = path.parent
    with contextlib.suppress(OSError):  # not empty
        while folder != below:
            folder.rmdir()
            folder = folder.parent
