"""Heatmaps and masks in parts: each shard has a folder of its own until all of it is joined."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from weakseg.config import fingerprint
from weakseg.disk import link
from weakseg.errors import RunError, WeaksegError
from weakseg.layout import (
    heatmap_file,
    masks_folder,
    method_folder,
    shard_folder,
    shards_folder,
)
from weakseg.outputs import find_damage, in_words
from weakseg.progress import say
from weakseg.runs import Run, is_locked, remove_tree
from weakseg.shards import Shard
from weakseg.stages.base import take_out

Item = TypeVar("Item")

BY, CHOSEN = "by", "chosen_by_labels"
"""Of a shard's entry: its engine, and a fingerprint of what validation labels chose for it."""

NOTHING = "up to date, there is nothing to do in shards"

_OTHER = "it is of other settings, data or networks"
_NAME = re.compile(r"([1-9]\d*)-of-([1-9]\d*)")


@dataclass
class Taken:
    """Heatmaps that shards have made.

    Attributes
    ----------
    where : dict
        Case → its file.
    entries : list of dict
        What the shards' records say of them.
    """

    where: dict[str, Path] = field(default_factory=dict)
    entries: list[dict[str, Any]] = field(default_factory=list)


@dataclass(frozen=True)
class Part:
    """A shard that is whole.

    Attributes
    ----------
    shard : Shard
    folder : Path
    entry : dict
        What its record says of the stage.
    """

    shard: Shard
    folder: Path
    entry: dict[str, Any]


def shard_key(key: str, shard: Shard) -> str:
    """Fingerprint of a shard of a stage."""
    return fingerprint("shard", key, str(shard))


def shards_there(run: Path) -> Iterator[tuple[Shard, Path]]:
    """The shards that have a folder in a run."""
    for path in sorted(shards_folder(run).glob("*")):
        if form := _NAME.fullmatch(path.name):
            yield Shard(int(form[1]), int(form[2])), path


def refuse_running(run: Path) -> None:
    """Refuse to go on while a shard is made.

    Raises
    ------
    RunError
    """
    running = [str(s) for s, path in shards_there(run) if is_locked(path)]
    if running:
        raise RunError(
            "Shards of the run are being made.",
            where=str(run),
            found=f"shard {', '.join(running)}",
            fix="wait until they end",
        )


def taken_from_shards(
    run: Path, stage: str, key: str, folder: Path, wanted: Sequence[str], chosen: str
) -> Taken:
    """The heatmaps of a stage that shards have made, as far as they are whole; what lacks is said.

    Parameters
    ----------
    run : Path
    stage, key : str
        Of all heatmaps.
    folder : Path
        Where they would lie in the run; in a shard's folder they lie at the same place.
    wanted : sequence of str
        Cases, in the order in which they were dealt out.
    chosen : str
        What `CHOSEN` must be.
    """

    def files(part: Part) -> dict[str, Path]:
        heats = part.folder / folder.relative_to(run)
        return {case: heatmap_file(heats, case) for case in part.shard.own(wanted)}

    def problem(part: Part) -> str:
        if part.entry.get(CHOSEN) != chosen:
            return "validation labels choose otherwise now"
        return "" if _are(files(part), part.entry["images"]) else "it is of other images"

    parts = whole_parts(run, stage, key, wanted, "heatmaps are made here", problem)
    where = {case: path for part in parts for case, path in files(part).items()}
    return Taken(where, [p.entry for p in parts])


def dealt_out(
    run: Path, stage: str, key: str, wanted: Sequence[Item], left: str
) -> list[tuple[list[Item], Part | None]]:
    """All that a stage makes, in order: what each shard was to make, and the shard where it has.

    Parameters
    ----------
    run : Path
    stage, key : str
        Of the whole.
    wanted : sequence
        What was dealt out.
    left : str
        Said of how many are left over, behind their number.
    """

    def problem(part: Part) -> str:
        same = part.entry.get("images") == len(part.shard.own(wanted))
        return "" if same else "it is of other images"

    parts = {p.shard: p for p in whole_parts(run, stage, key, wanted, left, problem)}
    of = next(iter(parts)).of if parts else 1
    shards = [Shard(k, of) for k in range(1, of + 1)]
    return [(shard.own(wanted), parts.get(shard)) for shard in shards]


def whole_parts(
    run: Path,
    stage: str,
    key: str,
    wanted: Sequence[Any],
    left: str,
    problem_of: Callable[[Part], str],
) -> list[Part]:
    """The shards of a stage that are whole, the first part first; what lacks is said.

    Where there are shards of several numbers of parts, those that have most are taken.

    Parameters
    ----------
    run : Path
    stage, key : str
        Of the whole.
    wanted : sequence
        What was dealt out.
    left : str
        Said of how many are left over, behind their number.
    problem_of : callable
        Why one that is whole is of no use; blank if it is.
    """
    by_number: dict[int, list[Part]] = {}
    for shard, path in shards_there(run):
        problem, entry = _whole(path, stage, shard_key(key, shard))
        if entry is None:
            continue
        part = Part(shard, path, entry)
        problem = problem or problem_of(part)
        if problem:
            say(f"{stage}: shard {shard} is left out: {problem}")
            continue
        by_number.setdefault(shard.of, []).append(part)
    if not by_number:
        return []

    def made(parts: list[Part]) -> int:
        return sum(len(p.shard.own(wanted)) for p in parts)

    of, taken = max(by_number.items(), key=lambda item: made(item[1]))
    for other, parts in by_number.items():
        if other != of:
            which = ", ".join(str(p.shard) for p in parts)
            say(f"{stage}: shard {which} is left out: those of {of} have more")
    taken.sort(key=lambda p: p.shard.part)
    there = {p.shard.part for p in taken}
    lost = [f"{p}/{of}" for p in range(1, of + 1) if p not in there]
    if left_over := len(wanted) - made(taken):
        say(f"{stage}: shard {', '.join(lost)} is not there; {left_over} {left}")
    return taken


def take_masks(part: Part, methods: Iterable[str], folder: Path) -> None:
    """Put the masks that a shard has made by some methods into a folder of masks."""
    masks = masks_folder(part.folder)
    for method in methods:
        of_seeds = method_folder(masks, method).glob("seed-*/**/*")
        for path in sorted(p for p in of_seeds if p.is_file()):
            link(path, folder / path.relative_to(masks))


def _are(files: Mapping[str, Path], images: object) -> bool:
    """Whether a shard of so many images has these files, and no others."""
    return images == len(files) and all(p.exists() for p in files.values())


def _whole(path: Path, stage: str, key: str) -> tuple[str, dict[str, Any] | None]:
    """Why a shard is of no use, blank if it is, and its entry; None where it is of other stages."""
    try:
        entries = Run(path).record.get("stages", {})
        entry = entries.get(stage)
        if entry is None:
            return "it was not finished", None if entries else {}
        if entry.get("key") != key:
            return _OTHER, {}
        damages = find_damage(path, stage, entry)
    except WeaksegError as e:
        return e.what, {}
    return (in_words(damages), {}) if damages else ("", entry)


def forget_shards(
    run: Path, keys: Mapping[str, str], *, but: Callable[[str], bool] = lambda stage: False
) -> None:
    """Delete what shards have made of what is there now; what is of others stays, and is named.

    Parameters
    ----------
    run : Path
    keys : mapping
        Stage → its key, of the whole.
    but : callable
        Stage → whether its shards stay, and are not named: they are joined later, or by others.
    """
    for shard, path in shards_there(run):
        own = Run(path)
        try:
            entries = own.record.get("stages", {})
        except WeaksegError as e:
            say(f"shard {shard} stays in {path}: {e.what}")
            continue
        known = {stage: shard_key(key, shard) for stage, key in keys.items()}
        joined = {n: e for n, e in entries.items() if known.get(n) == e.get("key")}
        if joined.keys() == entries.keys():
            remove_tree(path)
            continue
        for stage in joined:
            take_out(own, stage)
        if not all(map(but, entries.keys() - joined.keys())):
            say(f"shard {shard} stays in {path}: {_OTHER}")
    with contextlib.suppress(OSError):  # not there, or not empty
        shards_folder(run).rmdir()


def own_folder(run: Path, shard: Shard) -> Path:
    """Where a shard lies in a run."""
    return shard_folder(run, shard.part, shard.of)
