"""Commands under a launcher, such as torchrun: which share their work, and who speaks."""

from __future__ import annotations

import os
from pathlib import Path

from weakseg.errors import UserError
from weakseg.launch import launched

TOGETHER = ("train-classifier", "train-segmenter")
"""Commands whose work several processes of a launcher share."""


def print_result(path: Path) -> None:
    """Print a path on standard output, by the first of several processes."""
    if launched().first:
        print(path)


def prepare_launch(command: str | None, sharded: bool) -> None:
    """Refuse a command that several processes would only repeat.

    Raises
    ------
    UserError
    """
    launch = launched()
    if launch.world > 1 and command is not None and command not in TOGETHER and not sharded:
        raise UserError(
            f"`{command}` does not share its work between processes.",
            where=f"torchrun, {launch.world} processes",
            fix=f"run it without torchrun; {' and '.join(TOGETHER)} can be launched so",
        )
    if launch.world > 1:
        # Torch warns of what is asked for: parts of a network may have no loss.
        os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
