"""What a training leaves on disk while it runs: weights, and a checkpoint to go on from.

A checkpoint is several times as large as a network. It is therefore not written after every epoch
of a short training, but as often as its writing takes no more than a small share of the time.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from weakseg.errors import RunError, first_line, lacks_memory, note_file
from weakseg.layout import BEST, LAST, NEXT_BEST, RESUME
from weakseg.runs import atomic_path
from weakseg.stored import damaged
from weakseg.training.optimizers import WeightAverage
from weakseg.training.weights import load_weights, save_weights, second_name, tensors_of

AFRESH = "delete it to train from the beginning"

SHARE = 0.02
"""Of the time of a training, how much may go into writing."""


class Memory(Protocol):
    """What else changes while a network is trained, and is part of a checkpoint."""

    def state_dict(self) -> dict[str, Any]:
        """Numbers, text and tensors, in lists and dictionaries."""

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from there."""


@dataclass
class Training:
    """All that an epoch changes.

    Attributes
    ----------
    model : nn.Module
    optimizer, schedule : object
        Of torch.
    average : WeightAverage or None
    history : list of dict
        One entry an epoch that is done.
    memory : Memory or None
    """

    model: nn.Module
    optimizer: Any
    schedule: Any
    average: WeightAverage | None
    history: list[dict[str, float]] = field(default_factory=list)
    memory: Memory | None = None

    @property
    def kept(self) -> nn.Module:
        """The network that is validated and saved."""
        return self.model if self.average is None else self.average.model

    def save(self, path: Path, key: str) -> None:
        """Write a checkpoint, whole or not at all."""
        schedule = self.schedule.state_dict()
        state = {
            "key": key,
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "schedule": {k: v for k, v in schedule.items() if k != "lr_lambdas"},
            "average": None if self.average is None else self.average.state_dict(),
            "history": self.history,
        }
        if self.memory is not None:
            state["memory"] = self.memory.state_dict()
        # Through a file of Python's: what torch opens itself forgets why it could not be written.
        with atomic_path(path, size=_bytes(state)) as part, part.open("wb") as f:
            torch.save(state, f)

    def resume(self, path: Path, key: str) -> None:
        """Take a checkpoint in, if there is one and it is of the same key.

        Raises
        ------
        RunError
            If it is damaged.
        """
        if not path.exists():
            return
        try:
            state = torch.load(path, map_location="cpu", weights_only=True)
        except Exception as e:  # torch raises many kinds for a damaged file
            if lacks_memory(e):
                note_file(e, path)
                raise
            raise RunError(
                "The checkpoint is damaged.",
                where=str(path),
                found=first_line(e),
                fix=AFRESH,
            ) from None
        if isinstance(state, dict) and state.get("key") != key:
            return
        try:
            self._take(state)
        except (LookupError, TypeError, ValueError, AttributeError, RuntimeError) as e:
            if lacks_memory(e):
                note_file(e, path)
                raise
            raise damaged(path, first_line(e), AFRESH) from None

    def _take(self, state: Mapping[str, Any]) -> None:
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        if self.average is not None:
            self.average.load_state_dict(state["average"])
        if self.memory is not None:
            self.memory.load_state_dict(state["memory"])
        with contextlib.suppress(KeyError):
            self.schedule.load_state_dict({**self.schedule.state_dict(), **state["schedule"]})
        self.history = [{str(k): float(v) for k, v in h.items()} for h in state["history"]]


def _epoch_of(path: Path) -> int:
    """The epoch in the header of weights; those of a checkpoint cannot be done without."""
    fix = f"delete it and {RESUME} beside it to train from the beginning"
    epoch = load_weights(path, fix)[1].get("epoch", "")
    if not epoch.isdecimal():
        raise damaged(path, f"the epoch {epoch!r} in its header", fix)
    return int(epoch)


def least_bytes(model: nn.Module) -> int:
    """What a training needs on disk at least: weights twice, and a checkpoint with a momentum."""
    return 4 * _bytes(model.state_dict())


def _bytes(held: Any) -> int:
    """About how large a checkpoint is on disk: the tensors in it."""
    if isinstance(held, Tensor):
        return held.numel() * held.element_size()
    if isinstance(held, Mapping):
        return sum(_bytes(v) for v in held.values())
    return sum(_bytes(v) for v in held) if isinstance(held, list | tuple) else 0


class Saver:
    """Best weights, last weights and checkpoint of a training, in one folder.

    Best weights take their place only once the checkpoint that knows their epoch is written: a
    training that was killed at any moment goes on from its last checkpoint with the best weights
    up to there, also where a device would not repeat the epochs behind it exactly.

    Parameters
    ----------
    folder : Path
    key : str
        See `Training.save`.
    metadata : dict of str
        For the headers of the weights, which get the epoch besides.
    done : int, optional
        Epochs of the checkpoint that the training goes on from.
    """

    def __init__(self, folder: Path, key: str, metadata: Mapping[str, str], done: int = 0) -> None:
        self.folder, self.key, self.metadata = folder, key, dict(metadata)
        self._next = folder / NEXT_BEST
        if self._next.exists():  # killed while it was written, or just after
            if _epoch_of(self._next) <= done:
                self._next.replace(self.folder / BEST)
            else:
                self._next.unlink()
        self._took, self._since = 0.0, monotonic()
        self._best: tuple[int, dict[str, Tensor]] | None = None

    def after_epoch(self, training: Training, *, best: bool, last: bool) -> None:
        """Write, if it is time to.

        Parameters
        ----------
        training : Training
        best : bool
            Whether this epoch is the best so far. Until they are written its weights are held in
            memory.
        last : bool
            Whether the training ends here: then it is always time.
        """
        epoch = len(training.history)
        begin = monotonic()
        if last or self._took <= SHARE * (begin - self._since):
            self._write(training, best)
            self._since = monotonic()
            self._took = self._since - begin
        elif best:
            tensors = tensors_of(training.kept)
            self._best = epoch, {k: v.clone() for k, v in tensors.items()}

    def _write(self, training: Training, best: bool) -> None:
        save_weights(self.folder / LAST, training.kept, self._header(len(training.history)))
        if best:
            second_name(self.folder / LAST, self._next)
        elif self._best is not None:
            epoch, tensors = self._best
            save_weights(self._next, tensors, self._header(epoch))
        self._best = None
        training.save(self.folder / RESUME, self.key)
        if self._next.exists():
            self._next.replace(self.folder / BEST)

    def _header(self, epoch: int) -> dict[str, str]:
        return self.metadata | {"epoch": str(epoch)}
