"""Images that a classifier likes ever more: what else of a lesion it knows comes to the fore."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from weakseg.config import ClimbConfig
from weakseg.heatmaps.arguments import read_layers
from weakseg.heatmaps.cam import target_score
from weakseg.heatmaps.formulas import space_axes, weighted
from weakseg.heatmaps.fuse import over_maximum
from weakseg.models.layers import known_maps
from weakseg.models.maps import maps_of
from weakseg.models.modes import evaluating
from weakseg.models.outputs import class_scores

HOT = 0.5
"""Share of a map's maximum above which places are held where they are."""


def climbed(
    model: nn.Module,
    layer: nn.Module | str,
    images: Tensor,
    target: tuple[int, ...],
    score: str,
    how: ClimbConfig,
) -> Iterator[Tensor]:
    """Images that are changed step by step towards a higher score (adversarial climbing).

    Parameters
    ----------
    model : nn.Module
        Gives logits (B, K).
    layer : nn.Module or str
        The last map, in which what is hot from the beginning is held.
    images : (B, C, S, S) or (B, C, D, S, S) Tensor
        In [0, 1].
    target, score
        See `weakseg.heatmaps.cam.target_score`.
    how : ClimbConfig

    Yields
    ------
    Tensor
        As ``images``, which are not among them; ``how.steps`` times. They stay in [0, 1].

    Notes
    -----
    A step is ``rate`` times the gradient over its largest magnitude in the image, of
    s - ``hold`` · Σ |m - m₀|: s is the score, m Grad-CAM of the layer over m₀'s maximum, m₀ that of
    the image as it is, and the sum goes over the places where m₀ is above `HOT`. So what was seen
    at first is not merely seen more. The weights of Grad-CAM's channels are those of the image as
    it is: of networks that end in an average and a linear layer they are always the same.

    References
    ----------
    Lee, Kim, Yoon, "Anti-adversarially manipulated attributions for weakly and semi-supervised
    semantic segmentation", CVPR 2021.
    """
    sides = tuple(range(1, images.ndim))
    held: list[Tensor] = []
    with torch.inference_mode(False), evaluating(model):
        now = images.detach().clone()
        named = read_layers(model, [layer], now.shape[1:])
        (space,) = maps_of(model, named, now.shape[1:], known=known_maps(model)).values()
        (module,) = named.values()

        def hold(_module: nn.Module, _inputs: Any, output: Tensor) -> Tensor:
            held.append(output)
            return output.clone()  # an in-place ReLU behind it would change what is held

        handle = module.register_forward_hook(hold)
        guard: _Guard | None = None
        try:
            for _ in range(how.steps):
                with torch.enable_grad():
                    now = now.detach().requires_grad_(True)
                    logits = class_scores(model(now)).float()
                    said = target_score(logits, target, score)
                    shown = held.pop()
                    if guard is None:
                        (gradient,) = torch.autograd.grad(said.sum(), shown, retain_graph=True)
                        guard = _Guard(space.as_map(shown).float(), space.as_map(gradient).float())
                    loss = said - how.hold * guard.change(space.as_map(shown).float())
                    (uphill,) = torch.autograd.grad(loss.sum(), now)
                largest = uphill.abs().amax(sides, keepdim=True)
                step = uphill / torch.where(largest > 0, largest, 1)
                now = (now.detach() + how.rate * step).clamp(0, 1)
                yield now
        finally:
            handle.remove()


class _Guard:
    """The map of the images as they are, and how far another one is from it where it is hot."""

    def __init__(self, features: Tensor, gradient: Tensor) -> None:
        features = features.detach()
        self.weights = gradient.mean(space_axes(gradient))
        self.first, self.top = over_maximum(weighted(self.weights, features))
        self.hot = self.first > HOT

    def change(self, features: Tensor) -> Tensor:
        """(B, C, *places) to (B,)."""
        now = weighted(self.weights, features).clamp_min(0)
        now = now / torch.where(self.top > 0, self.top, 1)
        return ((now - self.first).abs() * self.hot).flatten(1).sum(1)


def sum_of_climb(maps: list[Tensor]) -> Tensor:
    """The maps of a climb as one, which keeps the maximum of the first.

    Parameters
    ----------
    maps : list of (B, *places) Tensor
        Raw scores of the image as it is and of each step.

    Returns
    -------
    (B, *places) Tensor
        Positive scores of each over its own maximum, added up and scaled.
    """
    shares = [over_maximum(m)[0] for m in maps]
    return over_maximum(torch.stack(shares).sum(0))[0] * over_maximum(maps[0])[1]
