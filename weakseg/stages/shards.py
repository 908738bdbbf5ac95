"""Heatmaps in parts: each shard lies in a folder of its own, with a record, until it is joined."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from weakseg.config import fingerprint
from weakseg.errors import RunError, WeaksegError
from weakseg.layout import heatmap_file, shard_folder, shards_folder
from weakseg.outputs import find_damage, in_words
from weakseg.progress import say
from weakseg.runs import Run, is_locked
from weakseg.shards import Shard

BY, CHOSEN = "by", "chosen_by_labels"
"""Of a shard's entry: its engine, and a fingerprint of what validation labels chose for it."""

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
        problem, entry = _whole(path, stage, shard_key(key, shard), chosen)
        if problem is None:
            taken = by_number.setdefault(shard.of, Taken())
            taken.parts.append(shard.part)
            taken.entries.append(entry)
            heats = path / folder.relative_to(run)
            taken.where |= {case: heatmap_file(heats, case) for case in shard.own(wanted)}
        elif problem:
            say(f"{stage}: shard {shard} is left out: {problem}")
    if not by_number:
        return Taken()
    of, taken = max(by_number.items(), key=lambda item: len(item[1].where))
    lost = [f"{p}/{of}" for p in range(1, of + 1) if p not in taken.parts]
    if left := len(wanted) - len(taken.where):
        say(f"{stage}: shard {', '.join(lost)} is not there; {left} heatmaps are made here")
    return taken


def _whole(path: Path, stage: str, key: str, chosen: str) -> tuple[str | None, dict[str, Any]]:
    """Why a shard is of no use (blank: it is of something else), or None and its entry."""
    try:
        entry = Run(path).record.get("stages", {}).get(stage)
        if entry is None or entry.get("key") != key or entry.get(CHOSEN) != chosen:
            return "", {}
        damages = find_damage(path, stage, entry)
    except WeaksegError as e:
        return e.what, {}
    return (in_words(damages), {}) if damages else (None, entry)


def own_folder(run: Path, shard: Shard) -> Path:
    """Where a shard lies in a run."""
    return shard_folder(run, shard.part, shard.of)
