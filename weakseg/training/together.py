"""Several processes that train one network: who does what, and what they tell each other.

The processes share every batch: each decodes and computes its rows, and the loss is taken of the
outputs of all, so that it is the loss of the whole batch whatever it is made of. Batch norms take
their statistics over all rows, too. The result is that of one process with the same batch, but for
the order in which sums are added, and for what a network draws at random (dropout).
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from dataclasses import dataclass, fields, is_dataclass, replace
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

from weakseg.errors import EXIT_INTERNAL, ConfigError
from weakseg.launch import Launch, launched

PATIENCE = timedelta(days=7)
"""How long processes wait for the first, which may check a large set or make masks."""

Said = TypeVar("Said")


@contextlib.contextmanager
def joined() -> Iterator[Launch]:
    """Within the block the processes of a launcher can speak to each other."""
    launch = launched()
    if launch.world == 1 or dist.is_initialized():
        yield launch
        return
    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
    dist.init_process_group(backend, timeout=PATIENCE)
    try:
        yield launch
    finally:
        dist.destroy_process_group()


def said_by_first(value: Said) -> Said:
    """What the first process hands over; others wait for it."""
    if not _several():
        return value
    held: list[Any] = [value]
    try:
        dist.broadcast_object_list(held, src=0, device=torch.device("cpu"))
    except RuntimeError:
        if launched().first:
            raise
        sys.exit(EXIT_INTERNAL)  # the first process has ended, and said why
    said: Said = held[0]
    return said


def wait_for_first() -> None:
    """Until the first process has come here, too."""
    said_by_first(None)


def _several() -> bool:
    return dist.is_initialized() and dist.get_world_size() > 1


@dataclass(frozen=True)
class Share:
    """The rows of each batch that a process computes.

    Attributes
    ----------
    rank, world : int
    """

    rank: int = 0
    world: int = 1

    def require_even(self, batch: int, where: str) -> None:
        """Refuse a batch of which the processes cannot have equal shares.

        Raises
        ------
        ConfigError
        """
        if batch % self.world:
            raise ConfigError(
                "A batch cannot be shared evenly by the processes.",
                where=where,
                found=f"{batch} images, and {self.world} processes",
                fix=f"set {where} to a multiple of {self.world}, or launch fewer processes",
            )

    @property
    def entry(self) -> dict[str, int]:
        """What the record says of several processes."""
        return {"processes": self.world} if self.world > 1 else {}

    def own(self, batch: int) -> slice:
        """Which rows of a batch."""
        each = batch // self.world
        return slice(self.rank * each, (self.rank + 1) * each)

    def spread(self, rows: Tensor, batch: int) -> Tensor:
        """Own rows among those of the others, which are 0.

        What is drawn at random for each row of the whole batch then meets the row that it meets
        in one process.
        """
        if self.world == 1:
            return rows
        whole = rows.new_zeros(batch, *rows.shape[1:])
        whole[self.own(batch)] = rows
        return whole

    def gathered(self, rows: Tensor) -> Tensor:
        """The rows of all processes; gradients go to the own ones."""
        if self.world == 1:
            return rows
        parts = [torch.empty_like(rows) for _ in range(self.world)]
        dist.all_gather(parts, rows.detach().contiguous())
        parts[self.rank] = rows
        return torch.cat(parts)

    def outputs(self, said: Any) -> Any:
        """`gathered` of every tensor that a network gives, whose rows are those of the batch."""
        if self.world == 1 or said is None:
            return said
        if isinstance(said, Tensor):
            return self.gathered(said)
        if is_dataclass(said) and not isinstance(said, type):
            return replace(
                said, **{f.name: self.outputs(getattr(said, f.name)) for f in fields(said)}
            )
        if isinstance(said, tuple) and hasattr(said, "_fields"):
            return type(said)(*(self.outputs(part) for part in said))
        return type(said)(self.outputs(part) for part in said)

    def wrapped(self, model: Any) -> Any:
        """The same network, giving the outputs of all processes for its own rows."""
        if self.world == 1:
            return model

        def run(*given: Any, **how: Any) -> Any:
            return self.outputs(model(*given, **how))

        return run


def share_of_launch() -> Share:
    """The share of this process, where several are joined; else the whole batch."""
    return Share(dist.get_rank(), dist.get_world_size()) if _several() else Share()


@contextlib.contextmanager
def drawing_apart(share: Share, step: int) -> Iterator[None]:
    """Within the block each process draws numbers of its own (for dropout); after it, all alike."""
    if share.world == 1:
        yield
        return
    with torch.random.fork_rng(_devices()):
        torch.manual_seed((torch.initial_seed() + 1_000_033 * step + share.rank) % 2**63)
        yield


def _devices() -> list[int]:
    return [torch.cuda.current_device()] if torch.cuda.is_available() else []


@contextlib.contextmanager
def norms_over_all(model: nn.Module, share: Share) -> Iterator[None]:
    """Within the block batch norms that are trained take the rows of all processes.

    Raises
    ------
    ConfigError
        For a network whose batch norms are of a kind of their own.
    """
    if share.world == 1:
        yield
        return
    norms = [m for m in model.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    kinds = [type(m) for m in norms]
    if strange := [k.__name__ for k in kinds if k not in _OVER_ALL]:
        raise ConfigError(
            "This network cannot be trained by several processes.",
            where="arch",
            found=f"batch norms of the kind {strange[0]}, which would see a share of each batch",
            fix="train it by one process, or choose another network",
        )
    for m, kind in zip(norms, kinds, strict=True):
        m.__class__ = _OVER_ALL[kind]
    try:
        yield
    finally:
        for m, kind in zip(norms, kinds, strict=True):
            m.__class__ = kind


class _Sum(torch.autograd.Function):
    """The sum over all processes; its gradient is the sum of theirs."""

    @staticmethod
    def forward(ctx: Any, own: Tensor) -> Tensor:
        total = own.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        total = gradients[0].clone()
        dist.all_reduce(total)
        return total


def _summed(own: Tensor) -> Tensor:
    total: Tensor = _Sum.apply(own)
    return total


def _over_all(self: Any, input: Tensor) -> Tensor:
    """Batch normalisation over the rows of all processes, as `torch.nn.BatchNorm2d` does it."""
    x = input
    if not self.training and self.running_mean is not None:
        return nn.functional.batch_norm(
            x, self.running_mean, self.running_var, self.weight, self.bias, False, 0.0, self.eps
        )
    with torch.autocast(x.device.type, enabled=False):
        values = x if x.dtype == torch.float64 else x.float()
        axes = [0, *range(2, x.ndim)]
        shape = [1, -1, *[1] * (x.ndim - 2)]
        count = values.numel() // values.shape[1] * dist.get_world_size()
        mean = _summed(values.sum(axes)) / count
        centred = values - mean.view(shape)
        variance = _summed((centred * centred).sum(axes)) / count
        out = centred * (variance + self.eps).rsqrt().view(shape)
        if self.weight is not None:
            out = out * self.weight.to(out.dtype).view(shape) + self.bias.to(out.dtype).view(shape)
    if self.training and self.running_mean is not None:
        with torch.no_grad():
            self.num_batches_tracked += 1
            seen = int(self.num_batches_tracked)
            share = 1 / seen if self.momentum is None else self.momentum
            spread = variance * count / max(count - 1, 1)
            self.running_mean.lerp_(mean.to(self.running_mean), share)
            self.running_var.lerp_(spread.to(self.running_var), share)
    return out.to(x.dtype)


class _Norm1d(nn.BatchNorm1d):
    forward = _over_all


class _Norm2d(nn.BatchNorm2d):
    forward = _over_all


class _Norm3d(nn.BatchNorm3d):
    forward = _over_all


_OVER_ALL: dict[type, type] = {
    nn.BatchNorm1d: _Norm1d,
    nn.BatchNorm2d: _Norm2d,
    nn.BatchNorm3d: _Norm3d,
}
