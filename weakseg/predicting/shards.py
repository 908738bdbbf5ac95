"""What parts of a prediction have said, kept beside its masks until they are joined."""

from __future__ import annotations

import contextlib
import json
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from weakseg.config import fingerprint
from weakseg.errors import UserError, WeaksegError
from weakseg.exporting.description import ABOUT
from weakseg.exporting.exported import is_exported
from weakseg.methods.base import Method
from weakseg.progress import say
from weakseg.runs import RECORD, file_hash, inside, write_text
from weakseg.shards import Shard
from weakseg.stored import read_json

Rows = list[dict[str, Any]]
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
    """

    row: dict[str, Any]
    lesions: Rows = field(default_factory=list)
    slices: Rows = field(default_factory=list)


class PartContent(BaseModel):
    """A shard's file."""

    model_config = ConfigDict(strict=True)

    key: str
    told: dict[str, dict[str, Any]]


def asked_for(run: Path, method: Method, names: list[str], options: list[bool]) -> str:
    """Fingerprint of a prediction: parts of another one are not joined."""
    made_by = file_hash(run / (ABOUT if is_exported(run) else RECORD))
    return fingerprint("predict", made_by, method.name, list(method.seeds), names, options)


def refuse_neighbours(method: Method) -> None:
    """Refuse shards of what looks at the neighbours of an image, which may be in another.

    Raises
    ------
    UserError
    """
    if method.looks_beside:
        raise UserError(
            "What this method says of an image depends on the images beside it.",
            where=f"--shard, method {method.name}",
            fix="predict without --shard, or give each command whole series by itself",
        )


def write_part(out: Path, shard: Shard, key: str, told: dict[str, Told]) -> Path:
    """Keep what a shard has said; its file."""
    path = inside(out, "shards", f"{shard.part}-of-{shard.of}.json")
    content = {"key": key, "told": {name: vars(t) for name, t in told.items()}}
    # Numbers of numpy are written as they are: NaN is none that JSON knows, but Python's reader.
    write_text(path, json.dumps(content, default=lambda v: v.item(), ensure_ascii=False) + "\n")
    return path


def read_parts(out: Path, key: str, names: list[str]) -> dict[str, Told]:
    """What the shards of a prediction have said, by input; what lacks is told.

    Parameters
    ----------
    out : Path
    key : str
        See `asked_for`.
    names : list of str
        All inputs, in the order in which they were dealt out.
    """
    by_number: dict[int, dict[int, dict[str, Told]]] = {}
    for path in sorted((out / "shards").glob("*.json")):
        form = _NAME.fullmatch(path.name)
        if form is None:
            continue
        try:
            content = read_json(path, model=PartContent)
        except WeaksegError as e:
            say(f"shard {form[1]}/{form[2]} is left out: {e.what}")
            continue
        if content["key"] == key:
            told = {n: Told(**t) for n, t in content["told"].items()}
            by_number.setdefault(int(form[2]), {})[int(form[1])] = told
    if not by_number:
        return {}
    of, parts = max(by_number.items(), key=lambda item: sum(map(len, item[1].values())))
    lost = [f"{p}/{of}" for p in range(1, of + 1) if p not in parts]
    if lost:
        say(f"shard {', '.join(lost)} is not there; its images are predicted here")
    joined = {name: t for told in parts.values() for name, t in told.items() if name in names}
    gone = [n for n, t in joined.items() if not inside(out, str(t.row["mask"])).exists()]
    if gone:
        say(f"{len(gone)} masks of shards are missing, and are made again")
    return {n: t for n, t in joined.items() if n not in gone}


def forget_parts(out: Path) -> None:
    """Delete what was joined, and nothing of others."""
    for path in (out / "shards").glob("*.json"):
        if _NAME.fullmatch(path.name):
            path.unlink()
    with contextlib.suppress(OSError):  # not there, or not empty
        (out / "shards").rmdir()
