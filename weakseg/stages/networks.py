"""What the stages that train networks share: loading them, and keeping those of before."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from torch import nn

from weakseg.errors import RunError, first_line
from weakseg.progress import say
from weakseg.runs import remove_tree
from weakseg.stages.prepare import Prepared
from weakseg.training.weights import BEST, load_weights

Network = TypeVar("Network", bound=nn.Module)


def set_aside(prepared: Prepared, stage: str, folder: Path, key: str, force: bool) -> None:
    """Move an earlier network of another configuration away: hours of work are not deleted."""
    earlier = prepared.run.record.get("stages", {}).get(stage, {}).get("key")
    prepared.run.forget(stage)
    if earlier and (force or earlier != key) and (folder / BEST).exists():
        there = (
            prepared.run.folder / "superseded" / f"{folder.parent.name}-{folder.name}-{earlier[:8]}"
        )
        remove_tree(there)
        there.parent.mkdir(parents=True, exist_ok=True)
        folder.replace(there)
        say(f"the earlier {stage} was made with other settings; it is kept in {there}")


def load_network(path: Path, what: str, build: Callable[[dict[str, str]], Network]) -> Network:
    """A network that a stage saved, in evaluation mode.

    Parameters
    ----------
    path : Path
    what : str
        "classifier" or "segmenter": the command that makes it is ``train-`` and this word.
    build : callable
        From the weights' header to the network.

    Raises
    ------
    RunError
        If it is not there, or is not one of ours.
    """
    if not path.exists():
        raise RunError(
            f"The run has no trained {what}.",
            where=str(path),
            fix=f"run `weakseg train-{what} CONFIG` first, or `weakseg compare CONFIG`",
        )
    state, meta = load_weights(path)
    try:
        model = build(meta)
        model.load_state_dict(state)
    except (KeyError, ValueError, RuntimeError) as e:
        raise RunError(
            "The weights file was not written by this version of weakseg.",
            where=str(path),
            found=first_line(e),
            fix=f"train the {what} again with --force",
        ) from None
    model.eval()
    return model
