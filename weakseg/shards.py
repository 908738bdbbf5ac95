"""A part of the images for each of several commands, which may run on machines of their own."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

from weakseg.errors import ConfigError
from weakseg.launch import launched

Item = TypeVar("Item")
MOST = 10_000
RANK = "rank"
"""What says that a launcher tells which shard it is."""

_FORM = re.compile(r"([1-9]\d*)/([1-9]\d*)")


@dataclass(frozen=True)
class Shard:
    """One of several parts of about one size.

    Attributes
    ----------
    part, of : int
        Which one, from 1, and of how many.
    """

    part: int
    of: int

    def __str__(self) -> str:
        return f"{self.part}/{self.of}"

    def own(self, items: Sequence[Item]) -> list[Item]:
        """The items of the part, neighbours in their order; every item is in one part."""
        n = len(items)
        return list(items[(self.part - 1) * n // self.of : self.part * n // self.of])


def parse_shard(text: str) -> Shard:
    """A shard as it is written: ``2/8``; or ``rank``, as torchrun or Slurm says.

    Raises
    ------
    ConfigError
    """
    if text == RANK:
        return _of_launcher()
    form = _FORM.fullmatch(text.strip())
    part, of = (int(form[1]), int(form[2])) if form else (1, 0)
    if not 1 <= part <= of <= MOST:
        raise ConfigError(
            "There is no such shard.",
            where="--shard",
            found=text,
            expected="I/N with I from 1 to N, such as 2/8; or rank under torchrun or Slurm",
        )
    return Shard(part, of)


def refuse_auto(engine: str) -> None:
    """Refuse an engine that each shard would choose for itself.

    Raises
    ------
    ConfigError
    """
    if engine == "auto":
        raise ConfigError(
            "Shards would each choose an engine of their own.",
            where="engine",
            found="auto",
            fix="name one: torch, onnxruntime or openvino",
        )


def _of_launcher() -> Shard:
    launch = launched()
    if launch.world > 1:
        # From here on each works alone, and speaks for itself.
        os.environ.pop("TORCHELASTIC_RUN_ID", None)
        return Shard(launch.rank + 1, launch.world)
    if "SLURM_ARRAY_TASK_ID" in os.environ:
        return _of_array()
    rank, world = _number("SLURM_PROCID"), _number("SLURM_NTASKS")
    if rank is not None and world is not None and rank < world:
        return Shard(rank + 1, world)
    raise ConfigError(
        "No launcher says which shard this is.",
        where="--shard rank",
        expected="torchrun with several processes, an array of Slurm that counts by 1, or srun",
        fix=_FIX,
    )


def _of_array() -> Shard:
    """The shard of a task of an array of Slurm; with gaps its number does not tell which."""
    names = [f"SLURM_ARRAY_TASK_{n}" for n in ("ID", "MIN", "MAX", "COUNT")]
    task, first, last, count = (_number(n) for n in names)
    if (
        task is not None
        and first is not None
        and last is not None
        and first <= task <= last
        and last - first + 1 == count
    ):
        return Shard(task - first + 1, count)
    told = (f"{n.rpartition('_')[2]} {os.environ.get(n, 'not told')}" for n in names)
    raise ConfigError(
        "The tasks of the array do not count by 1, so that they do not say which shards they are.",
        where="--shard rank, SLURM_ARRAY_TASK_…",
        found=", ".join(told),
        expected="an array without gaps, such as --array=1-8",
        fix=_FIX,
    )


def _number(name: str) -> int | None:
    """A variable of the surroundings that is a whole number."""
    told = os.environ.get(name, "")
    return int(told) if told.isdecimal() else None


_FIX = "name the shard, such as --shard 2/8"
