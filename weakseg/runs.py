"""The run folder: atomic writes, a lock, and a record of what was made from what.

What makes a stage up to date, and how it is recorded, is said in `weakseg.stages.base`. The three
stand together, as none of them is safe without the others.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import json
import os
import platform
import re
import shutil
import subprocess
import tempfile
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

from weakseg import __version__
from weakseg.contents import Record
from weakseg.disk import as_path, flush_file, flush_folder, replace_file, write_failure
from weakseg.errors import RunError
from weakseg.stored import AGAIN, read_json

RECORD = "run.json"
LIBRARIES = ("torch", "torchvision", "grad-cam", "scikit-image", "numpy", "pandas", "lightning")


MOST_BESIDE = 50
"""How many runs beside one are looked at for how long things take here."""

PART = ".part-"
"""What is being written begins so."""

_PARTS = itertools.count()


@contextlib.contextmanager
def atomic_path(path: Path, *, size: int | None = None, flushed: bool = True) -> Iterator[Path]:
    """A temporary path beside ``path`` that takes its place only when the block ends well.

    Parameters
    ----------
    path : Path
    size : int, optional
        Bytes of the file, where they are known: a full disk is then told how much is missing.
    flushed : bool
        Whether the file outlasts a power cut from then on. Not where thousands are written in a
        stage: that takes some 10 ms each, and they are all flushed at once before the stage is
        recorded, see `weakseg.stages.base`.

    Raises
    ------
    DiskError
        If the disk is full, broken, or may not be written; what was there before stays.
    """
    part = path.with_name(f"{PART}{os.getpid()}-{next(_PARTS)}{path.suffix}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield part
        if flushed:
            flush_file(part)
        replace_file(part, path)
        if flushed:
            flush_folder(path.parent)
    except BaseException as e:
        failure = write_failure(path, part, e, size)
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)
        if failure is not None:
            raise failure from e
        raise


def write_bytes(path: Path, data: bytes, *, flushed: bool = True) -> None:
    """Write a file whole or not at all; see `atomic_path`."""
    with atomic_path(path, size=len(data), flushed=flushed) as part:
        part.write_bytes(data)


def write_text(path: Path, text: str) -> None:
    """Write a text file whole or not at all."""
    write_bytes(path, text.encode("utf-8"))


def write_json(path: Path, value: Any) -> None:
    """Write JSON whole or not at all; NaN becomes null, so that every reader can parse it.

    Each row of a table, a mapping of names to single values in a list, stands on a line.
    """
    write_text(path, _in_lines(_finite(value)) + "\n")


def _in_lines(value: Any, indent: str = "") -> str:
    inner = f"{indent}  "
    if isinstance(value, dict) and value:
        lines = [f"{inner}{_in_line(k)}: {_in_lines(v, inner)}" for k, v in value.items()]
        return "{\n" + ",\n".join(lines) + f"\n{indent}}}"
    if isinstance(value, list) and value:
        lines = [inner + (_in_line(v) if _is_row(v) else _in_lines(v, inner)) for v in value]
        return "[\n" + ",\n".join(lines) + f"\n{indent}]"
    return _in_line(value)


def _in_line(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def _is_row(value: Any) -> bool:
    return isinstance(value, dict) and not any(isinstance(v, dict | list) for v in value.values())


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(k): _finite(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(v) for v in value]
    if hasattr(value, "item") and not isinstance(value, str):
        value = value.item()
    if isinstance(value, float) and (value != value or value in (float("inf"), float("-inf"))):
        return None
    return value


def inside(folder: Path, *names: str) -> Path:
    """Join names below a folder, and refuse to leave it.

    Only the names are looked at: that a folder of a run is a link to another disk is its owner's
    affair.
    """
    path = folder.joinpath(*names)
    root = os.path.abspath(folder).rstrip(os.sep) + os.sep  # noqa: PTH100
    if not (os.path.abspath(path) + os.sep).startswith(root):  # noqa: PTH100
        raise RunError("A name would be written outside of its folder.", where=str(path))
    return path


def folder_name(text: str) -> str:
    """A name such as ``timm:resnet18`` as a folder's."""
    return re.sub(r"[^A-Za-z0-9._-]", "-", text)


def file_hash(path: Path) -> str:
    """A short hash of a file's content.

    Raises
    ------
    RunError
        If it is missing or cannot be read.
    """
    try:
        return content_hash(path.read_bytes())
    except OSError as e:
        cause = e.strerror or str(e)
        raise RunError("A file cannot be read.", where=str(path), found=cause, fix=AGAIN) from None


def content_hash(content: bytes) -> str:
    """The `file_hash` of a file that holds this."""
    return hashlib.blake2b(content, digest_size=10).hexdigest()


def remove_tree(path: Path) -> None:
    """Delete a folder of ours, if it is there."""
    if path.exists():
        shutil.rmtree(path)


def remove_leftovers(folder: Path, *, but: Collection[Path] = ()) -> None:
    """Delete what a command was writing when it was killed; only who holds the folder may.

    Whatever lies below a folder of ``but`` is held, or written, by others.
    """
    for parent, folders, files in os.walk(folder):
        folders[:] = [n for n in folders if Path(parent) / n not in but]
        for name in files:
            if name.startswith(PART):
                (Path(parent) / name).unlink(missing_ok=True)
        for name in [n for n in folders if n.startswith(PART)]:
            remove_tree(Path(parent) / name)
            folders.remove(name)


@contextlib.contextmanager
def locked(
    folder: Path,
    *,
    wait: float = 0,
    what: str = "The run folder",
    fix: str = "wait until it ends, or name another folder with --run-dir",
) -> Iterator[None]:
    """Hold a run folder, so that two commands never write into it at once.

    ``wait`` is how many seconds another command may yet hold it; ``what`` and ``fix`` are said of
    one that does.
    """
    from filelock import FileLock, Timeout

    make_folder(folder)
    lock = FileLock(folder / ".lock")
    try:
        lock.acquire(timeout=wait)
    except Timeout:
        raise RunError(
            f"{what} is in use by another weakseg command.", where=str(folder), fix=fix
        ) from None
    try:
        yield
    finally:
        lock.release()


def is_locked(folder: Path) -> bool:
    """Whether a command holds a folder just now."""
    from filelock import FileLock, Timeout

    lock = FileLock(folder / ".lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        return True
    lock.release()
    return False


def make_folder(folder: Path) -> None:
    """Create a folder that we are going to write in.

    Raises
    ------
    RunError
        If the path is a file, or may not be written.
    """
    if folder.exists() and not folder.is_dir():
        raise RunError(
            "The output folder is a file.", where=str(folder), fix="name a folder instead"
        )
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115
        probe.close()
    except OSError as e:
        raise RunError(
            "The output folder cannot be written.",
            where=str(folder),
            found=e.strerror or str(e),
            fix="name a folder that you may write to, with --run-dir or --out",
        ) from None


def environment() -> dict[str, Any]:
    """Versions and machine, for the record."""
    versions = {"weakseg": __version__, "python": platform.python_version()}
    for name in LIBRARIES:
        with contextlib.suppress(metadata.PackageNotFoundError):
            versions[name] = metadata.version(name)
    return {
        "versions": versions,
        "commit": commit(),
        "platform": platform.platform(),
        "processor": processor(),
        "cores": cores(),
    }


@cache
def commit() -> str | None:
    """The commit of the checkout that weakseg runs from; None for an installed package.

    Ends in ``+changes`` where tracked files of the package differ from it. It is asked for once:
    whatever is done to the checkout afterwards, this process runs what it has loaded.
    """
    package = Path(__file__).parent

    def git(*words: str) -> str:
        done = subprocess.run(
            ["git", *words], cwd=package, capture_output=True, text=True, timeout=10, check=True
        )
        return done.stdout.strip()

    try:
        if git("ls-files", "--error-unmatch", "runs.py") != "runs.py":
            return None
        changed = git("status", "--porcelain", "--untracked-files=no", "--", ".")
        return git("rev-parse", "HEAD") + ("+changes" if changed else "")
    except (OSError, subprocess.SubprocessError):
        return None


def processor() -> str:
    """The processor's model name, as far as the system tells it."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def cores() -> int:
    """How many processor cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


@dataclass
class Run:
    """A run folder and its record (``run.json``)."""

    folder: Path

    @property
    def record(self) -> dict[str, Any]:
        """What ``run.json`` says; empty where there is none yet.

        Raises
        ------
        RunError
            If it is damaged.
        """
        path = self.folder / RECORD
        # No stage could write it again: all of them read it first.
        fix = "delete it: what the run has made then counts as not made, and is made again"
        return read_json(path, fix, Record) if os.path.lexists(path) else {}

    def update(self, **entries: Any) -> None:
        """Set top-level entries of the record."""
        write_json(self.folder / RECORD, {**self.record, **entries})

    def forget(self, stage: str) -> None:
        """Take a stage out of the record before its outputs are touched."""
        stages = dict(self.record.get("stages", {}))
        if stages.pop(stage, None) is not None:
            self.update(stages=stages)


def runs_beside(run: Run) -> list[Run]:
    """Other runs in the same folder that were made on such a machine as this, the newest last."""
    here, beside = (processor(), cores()), []
    with contextlib.suppress(OSError):
        paths = [p for p in run.folder.parent.glob(f"*/{RECORD}") if p.parent != run.folder]
        paths.sort(key=lambda p: p.stat().st_mtime)
        for path in paths[-MOST_BESIDE:]:
            with contextlib.suppress(RunError):
                made_on = Run(path.parent).record.get("environment", {})
                if (made_on.get("processor"), made_on.get("cores")) == here:
                    beside.append(Run(path.parent))
    return beside


def open_run(folder: Path) -> Run:
    """A run folder that exists.

    Raises
    ------
    RunError
        If it is not one.
    """
    folder = as_path(folder, "a run folder")
    if not folder.is_dir():
        raise RunError(
            "There is no such run folder.",
            where=str(folder),
            fix="name the folder that `weakseg compare` or `weakseg train-classifier` printed",
        )
    if not (folder / RECORD).exists():
        raise RunError(
            "The folder is not a weakseg run.",
            where=str(folder),
            expected=f"a file {RECORD} in it",
            fix="name a folder below runs/, not one of its parts",
        )
    return Run(folder)
