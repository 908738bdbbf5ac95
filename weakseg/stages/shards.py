"""Heatmaps in parts: each shard lies in a folder of its own, with a record, until it is joined."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from weakseg.config import fingerprint
from weakseg.errors import RunError, WeaksegError
from weakseg.layout import heatmap_file, shard_folder, shards_folder
from weakseg.outputs import find_damage, in_words
from weakseg.progress import say
from weakseg.runs import Run, is_locked, remove_tree
from weakseg.shards import Shard

BY, CHOSEN = "by", "chosen_by_labels"
"""Of a shard's entry: its engine, and a fingerprint of what validation labels chose for it."""

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
    parts : list of int
        Which shards these are.
    """

    where: dict[str, Path] = field(default_factory=dict)
    entries: list[dict[str, Any]] = field(default_factory=list)
    parts: list[int] = field(default_factory=list)


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

    Where there are shards of several numbers of parts, those that have most heatmaps are taken.

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
    by_number: dict[int, Taken] = {}
    for shard, path in shards_there(run):
        own, heats = shard.own(wanted), path / folder.relative_to(run)
        files = {case: heatmap_file(heats, case) for case in own}
        problem, entry = _whole(path, stage, shard_key(key, shard), chosen)
        if not problem and not _are(files, entry["images"]):
            problem = "it is of other images"
        if problem:
            say(f"{stage}: shard {shard} is left out: {problem}")
            continue
        taken = by_number.setdefault(shard.of, Taken())
        taken.parts.append(shard.part)
        taken.entries.append(entry)
        taken.where |= files
    if not by_number:
        return Taken()
    of, taken = max(by_number.items(), key=lambda item: len(item[1].where))
    for other, left in by_number.items():
        if other != of:
            which = ", ".join(f"{p}/{other}" for p in left.parts)
            say(f"{stage}: shard {which} is left out: those of {of} have more heatmaps")
    lost = [f"{p}/{of}" for p in range(1, of + 1) if p not in taken.parts]
    if left_over := len(wanted) - len(taken.where):
        say(f"{stage}: shard {', '.join(lost)} is not there; {left_over} heatmaps are made here")
    return taken


def _are(files: Mapping[str, Path], images: object) -> bool:
    """Whether a shard of so many images has these files, and no others."""
    return images == len(files) and all(p.exists() for p in files.values())


def _whole(path: Path, stage: str, key: str, chosen: str) -> tuple[str, dict[str, Any]]:
    """Why a shard is of no use, blank if it is, and its entry."""
    try:
        entry = Run(path).record.get("stages", {}).get(stage)
        if entry is None:
            return "it was not finished", {}
        if entry.get("key") != key:
            return _OTHER, {}
        if entry.get(CHOSEN) != chosen:
            return "validation labels choose otherwise now", {}
        damages = find_damage(path, stage, entry)
    except WeaksegError as e:
        return e.what, {}
    return (in_words(damages), {}) if damages else ("", entry)


def forget_shards(run: Path, keys: Mapping[str, str]) -> None:
    """Delete the shards of heatmaps that are there now; those of others stay, and are named.

    Parameters
    ----------
    run : Path
    keys : mapping
        Stage → its key, of all heatmaps.
    """
    for shard, path in shards_there(run):
        try:
            entries = Run(path).record.get("stages", {})
        except WeaksegError as e:
            say(f"shard {shard} stays in {path}: {e.what}")
            continue
        known = {stage: shard_key(key, shard) for stage, key in keys.items()}
        if all(known.get(stage) == entry.get("key") for stage, entry in entries.items()):
            remove_tree(path)
        else:
            say(f"shard {shard} stays in {path}: {_OTHER}")
    if not any(shards_there(run)):
        remove_tree(shards_folder(run))


def own_folder(run: Path, shard: Shard) -> Path:
    """Where a shard lies in a run."""
    return shard_folder(run, shard.part, shard.of)
