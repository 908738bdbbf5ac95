"""What stages share that load networks."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel
from torch import nn

from weakseg.data.cases import Labels
from weakseg.errors import RunError, UserError, first_line, lacks_memory, note_file
from weakseg.layout import BEST
from weakseg.models.classifier import Classifier
from weakseg.models.states import load_tensors, not_finite, tell
from weakseg.progress import say
from weakseg.stored import check, damaged
from weakseg.training.weights import load_weights

Network = TypeVar("Network", bound=nn.Module)


def say_random(weights: str, random: Sequence[str]) -> None:
    """Tell what of a network starts anew, although it was given weights."""
    if weights != "none" and random:
        say(f"weights {weights}: loaded, but for {tell(random, 4)}, which start anew")


def load_network(
    path: Path, what: str, header: type[BaseModel], build: Callable[[dict[str, str]], Network]
) -> Network:
    """A network that a stage saved, in evaluation mode.

    Parameters
    ----------
    path : Path
    what : str
        "classifier" or "segmenter": the command that makes it is ``train-`` and this word.
    header : type of BaseModel
        What the weights' header must say.
    build : callable
        From the header to the network.

    Raises
    ------
    RunError
        If it is not there, is not one of ours, or holds NaN or infinity.
    """
    if not path.exists():
        raise RunError(
            f"The run has no trained {what}.",
            where=str(path),
            fix=f"run `weakseg train-{what} CONFIG` first, or `weakseg compare CONFIG`",
        )
    again = f"train the {what} again with --force"
    state, meta = load_weights(path, again)
    if (name := not_finite(state)) is not None:
        raise RunError(
            f"The weights of the trained {what} are no finite numbers.",
            where=f"{path}, tensor {name!r}",
            found="NaN or infinity",
            fix=again,
        )
    check(meta, header, path, again)
    try:
        model = build(meta)
        load_tensors(model, state)
    except (KeyError, ValueError, RuntimeError, UserError) as e:
        if lacks_memory(e):
            note_file(e, path)
            raise
        raise RunError(
            "The weights file was not written by this version of weakseg.",
            where=str(path),
            found=first_line(e),
            fix=again,
        ) from None
    model.eval()
    return model


def classifier_labels(folder: Path, model: Classifier) -> Labels:
    """A classifier's labels, the healthy ones first."""
    _, meta = load_weights(folder / BEST)
    healthy = tuple(json.loads(meta["healthy"]))
    lost = next((n for n in healthy if n not in model.spec.labels), None)
    if lost is not None:
        again = "train the classifier again with --force"
        raise damaged(folder / BEST, f"the healthy label {lost!r} of its header is none", again)
    return Labels(healthy, tuple(n for n in model.spec.labels if n not in healthy))


def refuse_one_seed(name: str, seeds: Sequence[int], seed: int | None) -> None:
    """Refuse one seed of a method that averages the networks of several."""
    if seed is not None and len(seeds) > 1:
        raise UserError(
            f"{name} averages the networks of the seeds {', '.join(map(str, seeds))}: it has no "
            "masks of one of them.",
            where=f"--seed {seed}",
            fix="leave --seed out, or name another method with --method",
        )


def other_network(best: Path) -> RunError:
    """What is wrong where a network was trained anew after its masks were made."""
    return RunError(
        "The run's masks and thresholds were made by another network than it holds now.",
        where=str(best),
        fix="run `weakseg heatmap-segment CONFIG` or `weakseg compare CONFIG` again",
    )
