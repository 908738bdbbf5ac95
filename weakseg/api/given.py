"""What `weakseg.WeakSegmenter.fit` was handed, beside its run; replaced once it is found good."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable
from pathlib import Path

from weakseg.api.training_set import IMAGES, MANIFEST, MASKS, Written
from weakseg.errors import RunError
from weakseg.runs import locked, make_folder

OURS = re.compile(rf"{MANIFEST}|{IMAGES}(/image-\d+\.(png|tif))?|{MASKS}(/mask-\d+\.(png|tif))?")
"""What `weakseg.api.training_set.write_set` writes, as paths below its folder."""


def given_folder(run: Path) -> Path:
    """Where the inputs of a run folder lie that somebody named: beside it."""
    return run.with_name(f"{run.name}-given")


def keep_given(
    run: Path, write: Callable[[Path], Written], check: Callable[[Written], None]
) -> Written:
    """Write inputs into `given_folder`, where those of an earlier `fit` may lie.

    Nothing of these is touched before the new ones are written whole and found good, and the run
    is free.

    Parameters
    ----------
    run : Path
        The run folder.
    write : callable
        Writes a set into a folder, see `weakseg.api.training_set.write_set`.
    check : callable
        Raises for a set that is not good. It lies in a folder for the time being.

    Returns
    -------
    Written
        In `given_folder`.

    Raises
    ------
    RunError
        If the folder holds what no `fit` has written, or the run is in use.
    WeaksegError
        As ``write`` and ``check`` do; the folder is then as it was.
    """
    folder = given_folder(run)
    _refuse_others(folder)
    make_folder(folder.parent)
    with tempfile.TemporaryDirectory(prefix=".weakseg-", dir=folder.parent) as passing:
        new, old = Path(passing) / folder.name, Path(passing) / "before"
        made = write(new)
        check(made)
        with locked(run):
            if folder.exists():
                folder.rename(old)
            try:
                new.rename(folder)
            except OSError:
                if old.exists():
                    old.rename(folder)
                raise
    return made._replace(manifest=folder / MANIFEST)


def _refuse_others(folder: Path) -> None:
    """Refuse a folder that holds what no `fit` has written: it would go."""
    if not folder.exists():
        return
    if not folder.is_dir():
        found = ["a file"]
    else:
        inside = (p.relative_to(folder).as_posix() for p in sorted(folder.rglob("*")))
        found = [name for name in inside if not OURS.fullmatch(name)]
    if found:
        raise RunError(
            "The folder for what fit is handed holds something else.",
            where=str(folder),
            found=found[0] + (f", and {len(found) - 1} more" if found[1:] else ""),
            expected=f"{MANIFEST}, {IMAGES}/ and {MASKS}/ of an earlier fit, or nothing",
            fix="name another run_dir, or move that folder",
        )
