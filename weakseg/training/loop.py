"""The one training loop: Lightning Fabric, checkpoints, resume.

Every epoch begins from a seed of its own, so that a training that was killed goes on from its last
checkpoint and ends with the same weights as one that was not.

One room for the loop and what it is given: device, precision, processes, what a step may fail of.
"""

from __future__ import annotations

import math
import shutil
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from weakseg.disk import require_room
from weakseg.errors import ConfigError, RunError, UserError
from weakseg.launch import Launch, launched, local_rank
from weakseg.layout import METRICS, RESUME
from weakseg.memory import keep_for_training, keep_freed_memory
from weakseg.progress import progress, say
from weakseg.runs import write_text
from weakseg.training.checkpoints import Memory, Saver, Training, least_bytes
from weakseg.training.depthwise import depthwise_in_full
from weakseg.training.optimizers import (
    WeightAverage,
    add_penalty_gradients,
    learning_rate,
    make_optimizer,
)
from weakseg.training.selection import best_epoch
from weakseg.training.together import (
    Share,
    drawing_apart,
    norms_over_all,
    said_by_first,
    share_of_launch,
)


@dataclass(frozen=True)
class FitSettings:
    """How long and how fast.

    Attributes
    ----------
    select : str or None
        The validation figure whose highest value marks the best epoch, see
        `weakseg.training.selection.best_epoch`; None where the last one is taken, and validation
        is for looking only.
    schedule : str
        See `weakseg.training.optimizers.learning_rate`.
    l1, l2 : float
        Penalties, see `weakseg.training.optimizers.add_penalty_gradients`.
    average : {"none", "ema", "swa"}
        Which weights are validated and saved, see `weakseg.training.optimizers.WeightAverage`.
    ema_decay, swa_start : float
    compile : bool
        Whether the network is compiled for its training; what is saved is the same.
    turns : tuple of int
        Epochs of parts of the network that are trained one after the other; the schedule of the
        learning rate begins anew with each. Empty: all is trained at once.
    """

    epochs: int
    optimizer: str
    lr: float
    weight_decay: float
    warmup: float
    seed: int
    select: str | None
    schedule: str = "cosine"
    l1: float = 0.0
    l2: float = 0.0
    average: str = "none"
    ema_decay: float = 0.99
    swa_start: float = 0.75
    compile: bool = False
    turns: tuple[int, ...] = ()


class Task(Protocol):
    """What the loop trains on: batches and their loss, and figures of the validation split.

    Of several processes each makes the rows of a batch that are its own, with the truth of all
    rows, see `weakseg.training.together.Share`.
    """

    steps: int

    def batches(self, epoch: int) -> Iterator[Any]:
        """The training batches of an epoch, `steps` of them, in a seeded random order."""

    def loss(self, model: nn.Module, batch: Any) -> Tensor:
        """The loss of a batch, a scalar."""

    def validate(self, model: nn.Module) -> dict[str, float]:
        """Figures of the validation split, by name.

        Raises
        ------
        FloatingPointError
            If the network says anything but finite numbers.
        """


def pick_device(device: str) -> str:
    """The device to use for ``auto``, or the one named if it is there.

    Of GPUs without a number it is the first; of processes that a launcher has started beside each
    other on a machine, and that do not share a training, each takes the next one.

    Raises
    ------
    ConfigError
        If the machine does not have it.
    """
    if device == "auto":
        return _next_gpu() if torch.cuda.is_available() else "cpu"
    kind, _, index = device.partition(":")
    if kind == "cuda" and not (
        torch.cuda.is_available() and int(index or 0) < torch.cuda.device_count()
    ):
        raise ConfigError(
            f"The device {device} is not there.",
            where="device",
            found=f"{torch.cuda.device_count()} CUDA devices",
            fix="use device: auto, or --device cpu",
        )
    if kind == "mps" and not torch.backends.mps.is_available():
        raise ConfigError(
            "The device mps is not there.", where="device", fix="use device: auto, or --device cpu"
        )
    return _next_gpu() if device == "cuda" else device


def _next_gpu() -> str:
    """The GPU of one of several processes of a machine."""
    number = local_rank() % torch.cuda.device_count() if launched().world == 1 else 0
    return f"cuda:{number}" if number else "cuda"


def make_fabric(device: str, precision: str, *, together: bool = False) -> Any:
    """A Lightning Fabric on one device, its precision picked for ``auto``.

    With ``together`` it is that of all processes which a launcher has started, see
    `weakseg.training.together.joined`.
    """
    import logging

    from lightning.fabric import Fabric

    for part in ("fabric", "pytorch"):  # the run's record tells precision and device
        logging.getLogger(f"lightning.{part}").setLevel(logging.WARNING)
    device = pick_device(device)
    kind, _, index = device.partition(":")
    if kind == "cpu":
        keep_for_training()
    launch = launched()
    if together and launch.world > 1:
        return _fabric_of_several(kind, index, _precision(kind, precision), launch)
    devices: Any = [int(index)] if index else 1
    return Fabric(accelerator=kind, devices=devices, precision=_precision(kind, precision))


def _precision(kind: str, precision: str) -> Any:
    """The precision that ``auto`` is on a kind of device; another as it is."""
    if precision != "auto":
        return precision
    return "bf16-mixed" if kind == "cuda" and torch.cuda.is_bf16_supported() else "32-true"


def in_precision(device: str, precision: str) -> AbstractContextManager[Any]:
    """What a network that is trained already is asked in: as by `make_fabric`'s ``autocast``.

    Without Lightning, whose import takes seconds and 0.2 GB.

    Parameters
    ----------
    device : str
        Where the network is.
    precision : {"auto", "32-true", "bf16-mixed"}
    """
    kind = device.partition(":")[0]
    if kind == "cpu":
        keep_freed_memory()
    if _precision(kind, precision) == "32-true":
        return nullcontext()
    return torch.autocast(kind, dtype=torch.bfloat16)


def _fabric_of_several(kind: str, index: str, precision: str, launch: Launch) -> Any:
    """A Fabric of the processes that a launcher started, each with a device of its own."""
    from lightning.fabric import Fabric
    from lightning.fabric.strategies import DDPStrategy

    if index or kind == "mps":
        raise ConfigError(
            "Several processes cannot share one device.",
            where="device",
            found=f"{kind}:{index}" if index else kind,
            fix="set device: cuda (each process takes one) or cpu",
        )
    fabric = Fabric(
        accelerator=kind,
        devices=launch.local_world,
        num_nodes=max(1, launch.world // launch.local_world),
        # Buffers are alike anyway, see `norms_over_all`; some networks have parts without a loss.
        strategy=DDPStrategy(find_unused_parameters=True, broadcast_buffers=False),
        precision=precision,
    )
    fabric.launch()
    return fabric


def seed_epoch(seed: int, epoch: int) -> torch.Generator:
    """Seed torch for one epoch, and return a generator for the order of its cases."""
    mixed = (seed * 1_000_003 + epoch * 7919 + 17) % 2**63
    torch.manual_seed(mixed)
    return torch.Generator().manual_seed(mixed)


def fit(
    model: nn.Module,
    task: Task,
    settings: FitSettings,
    folder: Path,
    fabric: Any,
    *,
    key: str,
    metadata: dict[str, str],
    what: str,
    after_epoch: Callable[[int], None] | None = None,
    memory: Memory | None = None,
) -> list[dict[str, float]]:
    """Train a network, and keep its best and its last weights.

    Parameters
    ----------
    model : nn.Module
        Trained in place; it ends with the weights of the last epoch.
    task : Task
    settings : FitSettings
    folder : Path
        Gets ``best.safetensors``, ``last.safetensors``, ``metrics.csv`` and ``resume.pt``, which
        the caller deletes once everything that it makes of the network is written too.
    fabric : lightning.fabric.Fabric
    key : str
        Fingerprint of everything that the training depends on: a checkpoint of another key is
        not resumed.
    metadata : dict of str
        Written into the weights' headers.
    what : str
        For the progress line.
    after_epoch : callable, optional
        Called with the number of epochs that are done.
    memory : Memory, optional
        What the task changes as it goes, for the checkpoint.

    Returns
    -------
    list of dict
        One entry an epoch: epoch, lr, train_loss and the validation figures.

    Raises
    ------
    UserError
        If the loss, the weights or what the network says of the validation split are no finite
        numbers.
    """
    folder.mkdir(parents=True, exist_ok=True)
    # Before the optimiser: what it remembers of a checkpoint goes to where the parameters are.
    model.to(fabric.device)
    optimizer = make_optimizer(model, settings.optimizer, settings.lr, settings.weight_decay)
    total = settings.epochs * task.steps
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: _rate(step, settings, task.steps)
    )
    average = None
    if settings.average != "none":
        begins = int(settings.swa_start * total)
        average = WeightAverage(model, settings.average, settings.ema_decay, begins)
    training = Training(model, optimizer, schedule, average, memory=memory)
    training.resume(folder / RESUME, key)
    history = training.history
    if not history:
        require_room(folder, least_bytes(model), what)
    else:
        say(f"{what}: going on after epoch {len(history)} of {settings.epochs}")
    # Only when all have read it does the first go on to write.
    begun = said_by_first(len(history))
    if begun != len(history):
        raise RunError(
            "The processes do not see the same checkpoint.",
            where=str(folder),
            found=f"{len(history)} epochs here, and {begun} in the first process",
            fix="give all machines the same run folder",
        )
    share = share_of_launch()
    trained = compiled(model, fabric.device.type, what) if settings.compile else model
    with warnings.catch_warnings():
        # The option's new name is not known to all versions of torch that we take.
        warnings.filterwarnings("ignore", message=".*broadcast_buffers.*")
        wrapped, optimizer = fabric.setup(trained, optimizer)
    saver = Saver(folder, key, metadata, len(history)) if share.rank == 0 else None
    with (
        norms_over_all(model, share),
        depthwise_in_full(model),
        progress(what, settings.epochs * task.steps, len(history) * task.steps) as advance,
    ):
        for epoch in range(len(history), settings.epochs):
            seed_epoch(settings.seed, epoch)
            after_step = _after_step(model, average)
            loss = _train_epoch(
                wrapped,
                task,
                epoch,
                optimizer,
                schedule,
                fabric,
                advance,
                what,
                settings,
                after_step,
                share,
            )
            kept = training.kept
            kept.eval()
            # The losses were seen before their steps: what the last step did they cannot tell.
            if not all(bool(t.isfinite().all()) for t in kept.state_dict().values()):
                raise _diverged("The weights became infinite or nan", epoch, what)
            figures: dict[str, float] = {}
            if share.rank == 0:
                try:
                    with torch.no_grad(), fabric.autocast():
                        figures = task.validate(kept)
                except FloatingPointError as e:
                    raise _diverged(str(e), epoch, what) from None
            figures = said_by_first(figures)
            rate = float(schedule.get_last_lr()[0])
            history.append({"epoch": epoch + 1.0, "lr": rate, "train_loss": loss, **figures})
            if saver is not None:
                write_text(folder / METRICS, metrics_csv(history))
                best = best_epoch(history, settings.select).epoch == len(history)
                saver.after_epoch(training, best=best, last=epoch + 1 == settings.epochs)
            advance(0, epoch_note(epoch + 1, {"loss": loss, **figures}))
            if after_epoch:
                after_epoch(epoch + 1)
    said_by_first(None)  # by now all that is read next is written
    return history


def epoch_note(epoch: int, figures: Mapping[str, float]) -> str:
    """An epoch's figures beside its bar; those that it has no cases for are left out."""
    told = ", ".join(f"{k} {v:.3f}" for k, v in figures.items() if not math.isnan(v))
    return f"epoch {epoch}: {told}"


def _rate(step: int, settings: FitSettings, steps: int) -> float:
    """The factor of the highest learning rate at a step, from 0, of the whole training."""
    turns = [epochs * steps for epochs in settings.turns or (settings.epochs,)]
    while len(turns) > 1 and step >= turns[0]:
        step -= turns.pop(0)
    return learning_rate(step, turns[0], settings.warmup, settings.schedule)


def compiled(model: nn.Module, device: str, what: str) -> nn.Module:
    """The same network, compiled when it first runs.

    Raises
    ------
    ConfigError
        Without a C++ compiler, which torch needs for CPUs.
    """
    if device == "cpu" and not any(map(shutil.which, ("c++", "g++", "clang++", "cl"))):
        raise ConfigError(
            "torch.compile needs a C++ compiler, and none is installed.",
            where=f"the setting compile of {what}",
            fix="install one (g++), or set compile: false",
        )
    done: nn.Module = torch.compile(model)  # type: ignore[assignment]
    return done


def _train_epoch(
    model: Any,
    task: Task,
    epoch: int,
    optimizer: Any,
    schedule: Any,
    fabric: Any,
    advance: Callable[..., None],
    what: str,
    settings: FitSettings,
    after_step: Callable[[], None],
    share: Share,
) -> float:
    model.train()
    shared = share.wrapped(model)
    losses: list[Tensor] = []
    for step, batch in enumerate(task.batches(epoch)):
        optimizer.zero_grad(set_to_none=True)
        with drawing_apart(share, step):
            loss = task.loss(shared, batch)
            # Of the loss of all rows each process has the gradient of its own; Fabric averages.
            fabric.backward(loss * share.world if share.world > 1 else loss)
        add_penalty_gradients(model, settings.l1, settings.l2)
        optimizer.step()
        schedule.step()
        after_step()
        losses.append(loss.detach())
        advance()
    mean = float(torch.stack(losses).mean())
    if not math.isfinite(mean):
        raise _diverged(f"The loss became {mean}", epoch, what)
    return mean


def _diverged(said: str, epoch: int, what: str) -> UserError:
    return UserError(
        f"{said} in epoch {epoch + 1}.",
        where=what,
        fix="lower the learning rate (lr), lengthen warmup, or use precision 32-true",
    )


def require_finite(probabilities: np.ndarray) -> None:
    """See `Task.validate`."""
    if not np.isfinite(probabilities).all():
        raise FloatingPointError("Probabilities of the validation split became nan")


def _after_step(model: nn.Module, average: WeightAverage | None) -> Callable[[], None]:
    def update() -> None:
        if average is not None:
            average.update(model)

    return update


def metrics_csv(history: Sequence[dict[str, float]]) -> str:
    """The history as CSV, one line an epoch."""
    names = list(history[0])
    lines = [",".join(names)]
    for h in history:
        lines.append(",".join(str(int(h[n])) if n == "epoch" else f"{h[n]:.6g}" for n in names))
    return "\n".join(lines) + "\n"
