"""Optimisers, learning-rate schedules and weight averages by name."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

HALVINGS = (17 / 35, 22 / 35, 27 / 35, 30 / 35, 33 / 35)
"""Shares of the training after which ``halving`` halves the rate: DeepMedic's epochs of 35."""

POLY_WAIT, POLY_POWER = 1 / 3, 0.9
"""``poly``: constant for a third, then (1 - x) ** 0.9, as in the released DeepMedic."""


class NesterovRMSprop(torch.optim.Optimizer):
    """RMSProp with Nesterov momentum, as DeepMedic trains.

    a ← ρ a + (1 - ρ) g²,  s = lr g / √(a + ε),  v ← μ v - s,  w ← w + μ v - s.

    ε stands under the root and momentum is Nesterov's: `torch.optim.RMSprop` has neither.

    Parameters
    ----------
    params : iterable
        Parameters or groups of them.
    lr : float, optional
    rho : float, optional
        Of the running mean of squared gradients.
    eps : float, optional
    momentum : float, optional

    References
    ----------
    Kamnitsas et al. 2017 and the software released with it.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-3,
        rho: float = 0.9,
        eps: float = 1e-4,
        momentum: float = 0.6,
    ) -> None:
        super().__init__(params, {"lr": lr, "rho": rho, "eps": eps, "momentum": momentum})

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        """One update of every parameter that has a gradient."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            parameters = [p for p in group["params"] if p.grad is not None]
            if not parameters:
                continue
            grads = [p.grad for p in parameters]
            for p in parameters:
                if not self.state[p]:
                    self.state[p]["square"] = torch.zeros_like(p)
                    self.state[p]["velocity"] = torch.zeros_like(p)
            squares = [self.state[p]["square"] for p in parameters]
            velocities = [self.state[p]["velocity"] for p in parameters]
            torch._foreach_mul_(squares, group["rho"])
            torch._foreach_addcmul_(squares, grads, grads, 1 - group["rho"])
            steps = torch._foreach_add(squares, group["eps"])
            torch._foreach_sqrt_(steps)
            steps = torch._foreach_div(grads, steps)
            torch._foreach_mul_(steps, group["lr"])
            torch._foreach_mul_(velocities, group["momentum"])
            torch._foreach_sub_(velocities, steps)
            torch._foreach_add_(parameters, velocities, alpha=group["momentum"])
            torch._foreach_sub_(parameters, steps)
        return loss


def make_optimizer(
    model: nn.Module, name: str, lr: float, weight_decay: float
) -> torch.optim.Optimizer:
    """The optimiser of a name; biases and normalisation are not decayed."""
    decayed = [p for p in model.parameters() if p.requires_grad and p.ndim > 1]
    free = [p for p in model.parameters() if p.requires_grad and p.ndim <= 1]
    if name == "rmsprop":
        return NesterovRMSprop([*decayed, *free], lr=lr)
    groups = [
        {"params": decayed, "weight_decay": weight_decay},
        {"params": free, "weight_decay": 0.0},
    ]
    if name == "sgd":
        return torch.optim.SGD(groups, lr=lr, momentum=0.9, nesterov=True)
    return torch.optim.AdamW(groups, lr=lr)


@torch.no_grad()
def add_penalty_gradients(model: nn.Module, l1: float, l2: float) -> None:
    """Add the gradients of l1 · Σ|w| + l2 · Σw² over convolution and linear weights."""
    if not (l1 or l2):
        return
    kinds = nn.Conv2d | nn.Conv3d | nn.ConvTranspose2d | nn.ConvTranspose3d | nn.Linear
    for module in model.modules():
        if isinstance(module, kinds):
            w = module.weight
            if w.grad is not None:
                w.grad.add_(w.sign(), alpha=l1).add_(w, alpha=2 * l2)


def learning_rate(step: int, total: int, warmup: float, schedule: str = "cosine") -> float:
    """The factor of the highest rate at a step.

    Parameters
    ----------
    step, total : int
        From 0; steps in all.
    warmup : float
        Share of the steps of the linear rise before a cosine.
    schedule : {"cosine", "poly", "halving", "constant"}

    Returns
    -------
    float
        ``cosine``: linear from 0, then half a cosine to 0. ``poly``, ``halving``: see `POLY_WAIT`
        and `HALVINGS`.
    """
    done = step / max(total, 1)
    if schedule == "constant":
        return 1.0
    if schedule == "halving":
        return 0.5 ** sum(done >= share for share in HALVINGS)
    if schedule == "poly":
        return (1 - max(0.0, done - POLY_WAIT) / (1 - POLY_WAIT)) ** POLY_POWER
    rise = max(1, round(warmup * total))
    if step < rise:
        return (step + 1) / rise
    return 0.5 * (1 + math.cos(math.pi * (step - rise) / max(1, total - rise)))


class WeightAverage:
    """An average of a network's weights and running statistics over the steps.

    Parameters
    ----------
    model : nn.Module
    kind : {"ema", "swa"}
        ema: exponential, after every step, its decay rising from 0 so that the beginning, which
        is far from the end, is soon forgotten. swa: the plain mean from step ``begins`` on.
    decay : float
        Of ema.
    begins : int
        First step of swa, counted from 0.

    References
    ----------
    Izmailov et al., "Averaging weights leads to wider optima and better generalization", UAI 2018.
    """

    def __init__(self, model: nn.Module, kind: str, decay: float, begins: int) -> None:
        self.kind, self.decay, self.begins, self.steps = kind, decay, begins, 0
        self.averaged = AveragedModel(model, use_buffers=True)

    @property
    def model(self) -> nn.Module:
        """The network with averaged weights; before swa begins, with the latest."""
        module: nn.Module = self.averaged.module
        return module

    def update(self, model: nn.Module) -> None:
        """Take the weights after a step in."""
        if self.kind == "swa":
            if self.steps <= self.begins:
                self.averaged.n_averaged.zero_()  # copies, instead of averaging
        else:
            decay = min(self.decay, (1 + self.steps) / (10 + self.steps))
            self.averaged.multi_avg_fn = get_ema_multi_avg_fn(decay)
        self.averaged.update_parameters(model)
        self.steps += 1

    def state_dict(self) -> dict[str, Any]:
        """For a checkpoint."""
        return {"steps": self.steps, "averaged": self.averaged.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """From a checkpoint."""
        self.steps = int(state["steps"])
        averaged: dict[str, Tensor] = state["averaged"]
        self.averaged.load_state_dict(averaged)
