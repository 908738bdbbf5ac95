"""What parts of a prediction have said, kept beside its masks until they are joined."""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from weakseg.config import fingerprint
from weakseg.data.cases import Case
from weakseg.data.formats.dicom.signs import files_in
from weakseg.errors import RunError, WeaksegError, count
from weakseg.exporting.description import ABOUT
from weakseg.exporting.exported import is_exported
from weakseg.layout import (
    EQUIVALENCE_STAGE,
    FILTERED_STAGE,
    FIT_STAGE,
    FLOORS_STAGE,
    REPORT_STAGE,
    SCORES_STAGE,
    SWEEP_STAGE,
    config_file,
    masks_config,
)
from weakseg.methods.base import Method
from weakseg.methods.lesions import rows_version
from weakseg.progress import say
from weakseg.runs import (
    file_hash,
    inside,
    is_locked,
    locked,
    open_run,
    remove_tree,
    write_text,
)
from weakseg.shards import Shard
from weakseg.stored import read_json

Rows = list[dict[str, Any]]
PATIENCE = 1.0
"""Seconds that a shard waits for its folder: who joins holds it for an instant, to see whether it
is held."""

IDLE = (
    *(REPORT_STAGE, SCORES_STAGE, FLOORS_STAGE, SWEEP_STAGE, EQUIVALENCE_STAGE, FILTERED_STAGE),
    *("attribution", "faithfulness", "targets", FIT_STAGE),
)
"""How the names of stages begin that write nothing that masks of new images are made of."""

_NAME = re.compile(r"([1-9]\d*)-of-([1-9]\d*)\.json")


@dataclass
class Told:
    """The rows of one input.

    Attributes
    ----------
    row : dict
        Of ``predictions.csv``.
    lesions, slices : list of dict
        Of the tables of these names.
    unlike : list of str
        In what it is unlike the training images.
    files : dict
        What was written of it → its hash.
    """

    row: dict[str, Any]
    lesions: Rows = field(default_factory=list)
    slices: Rows = field(default_factory=list)
    unlike: list[str] = field(default_factory=list)
    files: dict[str, str] = field(default_factory=dict)

    def whole(self, out: Path) -> bool:
        """Whether its files are what was written: another prediction may have written others."""
        try:
            return all(file_hash(inside(out, f)) == h for f, h in self.files.items())
        except WeaksegError:
            return False


class PartContent(BaseModel):
    """A shard's file."""

    model_config = ConfigDict(strict=True)

    key: str
    told: dict[str, dict[str, Any]]


def asked_for(
    run: Path,
    method: Method,
    cases: Sequence[Case],
    named: Mapping[Path, Sequence[int]],
    options: Sequence[Any],
) -> str:
    """Fingerprint of a prediction: parts of another one are not joined.

    Parameters
    ----------
    run : Path
    method : Method
    cases : sequence of Case
        All inputs; they count by name, and by path, size and time of all their files.
    named : mapping
        Volume → the slices of it that are asked for.
    options : sequence
        What else was chosen.
    """
    files = hashlib.blake2b(digest_size=16)
    for c in cases:
        read = [c.image, None, *c.more, None, c.roi]
        files.update(repr((c.id, [f and _stamp(f) for f in read])).encode())
    slices = sorted((str(image), list(indices)) for image, indices in named.items())
    of = (method.name, list(method.seeds))
    return fingerprint(
        "predict",
        3,
        _made_of(run),
        of,
        files.hexdigest(),
        slices,
        list(options),
        *rows_version(cases),
    )


def _made_of(run: Path) -> str:
    """Fingerprint of all that a method of the run may be made of, and of what is new beside it.

    Not of its whole record: that has times, and every command on the run writes it.
    """
    if is_exported(run):
        return file_hash(run / ABOUT)
    folder, stages = open_run(run).folder, open_run(run).record.get("stages", {})
    configs = (config_file(folder), masks_config(folder))
    return fingerprint(
        {n: e.get("outputs", {}).get("hash") or e for n, e in stages.items() if _is_read(n)},
        [file_hash(p) if p.exists() else None for p in configs],
    )


def _is_read(stage: str) -> bool:
    """Whether new masks may depend on what a stage has written."""
    return stage.partition("/")[0] not in IDLE


def _stamp(path: Path) -> tuple[str, list[tuple[str, int, int]]]:
    """A file, or all of a series, as far as that is known without reading it."""
    files = files_in(path) if path.is_dir() else [path]
    seen = []
    for file in files:
        with contextlib.suppress(OSError):  # one that is gone is told where it is read
            said = file.stat()
            seen.append((file.name, said.st_size, said.st_mtime_ns))
    return str(path.resolve()), seen


@contextlib.contextmanager
def held(out: Path, shard: Shard | None) -> Iterator[None]:
    """Hold a shard of a prediction; what is none holds nothing.

    Raises
    ------
    RunError
    """
    if shard is None:
        yield
        return
    folder = inside(out, "shards", f"{shard.part}-of-{shard.of}")
    fix = "wait until it ends, or name another shard"
    with locked(folder, wait=PATIENCE, what=f"Shard {shard} of the prediction", fix=fix):
        yield


def refuse_running(out: Path) -> None:
    """Refuse to join while shards of a prediction are made.

    Raises
    ------
    RunError
    """
    running = [path.name.replace("-of-", "/") for path in _holds(out) if is_locked(path)]
    if running:
        raise RunError(
            "Shards of the prediction are being made.",
            where=str(out),
            found=f"shard {', '.join(running)}",
            fix="wait until they end, or name another folder with --out",
        )


def write_part(out: Path, shard: Shard, key: str, told: dict[str, Told]) -> Path:
    """Keep what a shard has said; its file."""
    path = inside(out, "shards", f"{shard.part}-of-{shard.of}.json")
    content = {"key": key, "told": {name: vars(t) for name, t in told.items()}}
    # Numbers of numpy are written as they are: NaN is none that JSON knows, but Python's reader.
    write_text(path, json.dumps(content, default=lambda v: v.item(), ensure_ascii=False) + "\n")
    return path


def read_parts(out: Path, key: str, names: Sequence[str], noun: str) -> dict[str, Told]:
    """What the shards of a prediction have said, by input; what lacks is told.

    Parameters
    ----------
    out : Path
    key : str
        See `asked_for`.
    names : sequence of str
        All inputs, in the order in which they were dealt out.
    noun : str
        What an input is: image or volume.
    """
    by_number: dict[int, dict[int, dict[str, Told]]] = {}
    for path, shard in _parts(out):
        try:
            content = read_json(path, model=PartContent)
        except WeaksegError as e:
            say(f"shard {shard} is left out: {e.what}")
            continue
        if content["key"] != key:
            say(f"shard {shard} is left out: it is of other inputs, options, or another method")
            continue
        told = {n: Told(**t) for n, t in content["told"].items()}
        by_number.setdefault(shard.of, {})[shard.part] = told
    if not by_number:
        return {}
    of, parts = max(by_number.items(), key=lambda item: sum(map(len, item[1].values())))
    for other, left in by_number.items():
        if other != of:
            said = _listed([f"{p}/{other}" for p in left])
            say(f"{said} left out: those of {of} tell of more")
    lost = [f"{p}/{of}" for p in range(1, of + 1) if p not in parts]
    if lost:
        its = "its" if len(lost) == 1 else "their"
        say(f"{_listed(lost)} not there; {its} {noun}s are predicted here")
    known = set(names)
    joined = {name: t for told in parts.values() for name, t in told.items() if name in known}
    gone = {n for n, t in joined.items() if not t.whole(out)}
    if gone:
        some = count(len(gone), noun)
        say(f"the masks of {some} of shards are missing or others, and are made again")
    return {n: t for n, t in joined.items() if n not in gone}


def _listed(shards: Sequence[str]) -> str:
    """Some shards and the verb."""
    return f"shard {shards[0]} is" if len(shards) == 1 else f"shards {', '.join(shards)} are"


def forget_parts(out: Path, key: str) -> None:
    """Delete the parts of a prediction whose tables are written; those of others stay."""
    for path, _ in _parts(out):
        with contextlib.suppress(WeaksegError):
            if read_json(path, model=PartContent)["key"] == key:
                path.unlink()
    for path in _holds(out):
        if not is_locked(path):
            remove_tree(path)
    with contextlib.suppress(OSError):  # not there, or not empty
        (out / "shards").rmdir()


def _holds(out: Path) -> list[Path]:
    """The folders by which shards are held, or were."""
    named = (
        p for p in sorted((out / "shards").glob("*-of-*")) if _NAME.fullmatch(f"{p.name}.json")
    )
    return [p for p in named if p.is_dir()]


def _parts(out: Path) -> list[tuple[Path, Shard]]:
    """The files of shards, by name."""
    forms = ((p, _NAME.fullmatch(p.name)) for p in sorted((out / "shards").glob("*.json")))
    return [(p, Shard(int(form[1]), int(form[2]))) for p, form in forms if form is not None]
