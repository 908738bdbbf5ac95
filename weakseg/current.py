"""Whether what a stage has written is still what it wrote, of what it was made."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from weakseg.errors import RunError
from weakseg.outputs import find_damage, in_words
from weakseg.progress import say
from weakseg.runs import Run


@dataclass(frozen=True)
class Stale:
    """Why a stage is not up to date.

    Attributes
    ----------
    why : str
    damaged : bool
        Whether something happened to results that were whole once; else settings or data are
        others, or nothing was made yet.
    """

    why: str
    damaged: bool = False


def why_stale(
    run: Run,
    name: str,
    key: str,
    *,
    covers: Callable[[Mapping[str, Any]], bool] = lambda entry: True,
    refresh: bool = False,
) -> Stale | None:
    """Why a stage must be made again; None if it is up to date.

    Parameters
    ----------
    run : Run
    name, key, covers
        See `Stage`.
    refresh : bool
        See `weakseg.outputs.find_damage`.
    """
    stages = run.record.get("stages", {})
    entry = stages.get(name)
    if entry is None:
        return Stale("it is not made yet")
    if entry.get("key") != key or not covers(entry):
        return Stale("it was made with other settings or data")
    source = changed_input(run, entry)
    if source is not None:
        return Stale(f"{source} has other results than it was made of", damaged=True)
    damages = find_damage(run.folder, name, entry, refresh=refresh)
    return Stale(in_words(damages), damaged=True) if damages else None


def changed_input(run: Run, entry: Mapping[str, Any]) -> str | None:
    """The first stage whose results are others than a stage was made of, by its entry; or None."""
    stages = run.record.get("stages", {})
    read = entry.get("inputs", {}).items()
    return next((source for source, made in read if _outputs_hash(stages, source) != made), None)


def _outputs_hash(stages: Mapping[str, Any], name: str) -> str | None:
    """The hash over a stage's outputs; None where it is not made."""
    return stages.get(name, {}).get("outputs", {}).get("hash")


def is_current(run: Run, name: str, key: str) -> bool:
    """Whether a stage is up to date; of one that is damaged it is said which file is."""
    stale = why_stale(run, name, key)
    if stale is not None and stale.damaged:
        say(f"{name}: {stale.why}")
    return stale is None


def require_whole(run: Run, stage: str, path: Path) -> None:
    """Refuse a file that is not what its stage wrote; one that is not there is left to its reader.

    Raises
    ------
    RunError
    """
    entry = run.record.get("stages", {}).get(stage)
    damages = [] if entry is None else find_damage(run.folder, stage, entry, only=[path])
    if path.exists() and damages:
        raise RunError(
            "A file of the run folder is not what its stage wrote.",
            where=str(path),
            found=in_words(damages),
            fix="run `weakseg compare CONFIG` again; it makes anew what is damaged",
        )
