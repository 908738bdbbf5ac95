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
_QUEUES = (
    ("SLURM_ARRAY_TASK_ID", "SLURM_ARRAY_TASK_COUNT", "SLURM_ARRAY_TASK_MIN"),
    ("SLURM_PROCID", "SLURM_NTASKS", ""),
)
"""Variables of queues: which one, of how many, and what they count from."""


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
    for which, count, least in _QUEUES:
        told = [os.environ.get(which, ""), os.environ.get(count, "")]
        if all(t.isdecimal() for t in told):
            first = int(os.environ.get(least, "0") or 0) if least else 0
            part, of = int(told[0]) - first + 1, int(told[1])
            if 1 <= part <= of:
                return Shard(part, of)
    raise ConfigError(
        "No launcher says which shard this is.",
        where="--shard rank",
        expected="torchrun with several processes, an array of Slurm that counts by 1, or srun",
        fix="name the shard, such as --shard 2/8",
    )
