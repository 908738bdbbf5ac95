"""Which of several processes this one is, where a launcher (torchrun) started them together."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass


@dataclass(frozen=True)
class Launch:
    """One of several processes that share a piece of work.

    Attributes
    ----------
    rank, world : int
        Which one it is, from 0, and of how many; the first alone writes and speaks.
    local_world : int
        How many of them are on this machine.
    """

    rank: int = 0
    world: int = 1
    local_world: int = 1

    @property
    def first(self) -> bool:
        """Whether it is the one that writes and speaks."""
        return self.rank == 0


def launched() -> Launch:
    """What torchrun says of this process; alone where nobody launched it."""
    told = os.environ
    if "TORCHELASTIC_RUN_ID" not in told:
        return Launch()
    try:
        return Launch(
            int(told["RANK"]), int(told["WORLD_SIZE"]), int(told.get("LOCAL_WORLD_SIZE", "1"))
        )
    except (KeyError, ValueError):
        return Launch()


def local_rank() -> int:
    """Which of the processes of this machine it is, from 0, as torchrun or srun says."""
    told = [os.environ.get(name, "") for name in ("LOCAL_RANK", "SLURM_LOCALID")]
    return next((int(t) for t in told if t.isdecimal()), 0)


def local_world() -> int:
    """How many processes torchrun or srun has started on this machine, as far as it says."""
    told = os.environ.get("LOCAL_WORLD_SIZE") or os.environ.get("SLURM_STEP_TASKS_PER_NODE", "")
    # Of several machines srun says 2(x3),1: three with two and one with one.
    return max((int(n) for n in re.findall(r"\b\d+", told)), default=1) or 1
