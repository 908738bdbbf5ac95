"""Where a segmentation network finds a segmentation: class activation maps of its expanding path.

What is explained is one number: the lesion's score summed over the places that the network marks,
as in Seg-Grad-CAM. Classifiers are explained at one layer, a segmenter by a weighted sum over all
layers behind its bottleneck.

References
----------
Vinogradova, Dibrov, Myers, "Towards interpretable semantic segmentation via gradient-weighted class
activation mapping", AAAI 2020 (Seg-Grad-CAM). SPIE Medical Imaging 2022, 12.2612288, after its
abstract, for attributions summed over every post-bottleneck layer and for the Kernel-Weighted
Contribution; how layers and kernels are weighed is ours.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from weakseg.errors import RunError
from weakseg.heatmaps.formulas import FORMULAS
from weakseg.heatmaps.fuse import on_grid, over_maximum
from weakseg.models.modes import evaluating

SEG_GRADCAM, KWC = "seg-gradcam", "kwc"
SUMMED = ("gradcam", "gradcam++", "layercam")
ATTRIBUTIONS = (SEG_GRADCAM, *SUMMED, KWC)
"""Grad-CAM of the bottleneck alone; three formulas summed over all layers behind it; and all their
kernels weighed one by one."""

LESION = 1
"""Number of the lesion among a segmenter's classes."""

KERNELS = 32
"""Whose maps are laid over the image at once."""

_ACTIVATIONS = (nn.ReLU, nn.ReLU6, nn.PReLU, nn.LeakyReLU, nn.ELU, nn.SiLU, nn.Hardswish)
_CONVOLUTIONS = (nn.Conv2d, nn.Conv3d, nn.ConvTranspose2d, nn.ConvTranspose3d)

Ask = Callable[[], Tensor]
"""Runs the network on what is explained and gives its logits (1, K, *size)."""


class Call(NamedTuple):
    """One use of a module, which may be used several times.

    Attributes
    ----------
    name : str
        Of the module in its network.
    number : int
        From 0.
    grid : tuple of int
        Of the map that it gives.
    """

    name: str
    number: int
    grid: tuple[int, ...]


class Layers(NamedTuple):
    """The layers of a segmenter that are looked at, in the order in which they run.

    Attributes
    ----------
    bottleneck : Call
        The last of the coarsest maps.
    behind : tuple of Call
        The activations after it; of a network that has none there (FCN) the scores that it sums,
        and of one that scores the bottleneck itself that.
    """

    bottleneck: Call
    behind: tuple[Call, ...]


@dataclass(frozen=True)
class Window:
    """What a network sees of an image.

    Attributes
    ----------
    sides : tuple of int
        Of its input.
    margin : int
        How much of the input lies before the image on each axis; 0 of networks whose scores have
        the size of their input.
    size : tuple of int
        Of the image.
    strides : tuple of int, optional
        Which its layers may have, 1 first.
    """

    sides: tuple[int, ...]
    margin: int
    size: tuple[int, ...]
    strides: tuple[int, ...] = (1, 2, 4, 8, 16, 32, 64)

    def over_image(self, maps: Tensor) -> Tensor:
        """Maps (B, *grid) of a layer, laid over the image, (B, *size).

        Of padded networks a layer's grid begins where the image does; of others it lies in the
        middle of the window.
        """
        grid = maps.shape[1:]
        pairs = list(zip(self.sides, grid, strict=True))
        if not self.margin:
            near = [min(self.strides, key=lambda s: abs(math.log(w / n / s))) for w, n in pairs]
            reach = [max(w, n * s) for (w, n), s in zip(pairs, near, strict=True)]
            laid = on_grid(maps, reach)
            return laid[(slice(None), *(slice(0, n) for n in self.size))]
        # What a layer lacks of the window it has lost on both sides.
        below = [max(s for s in self.strides if s <= max(w / n, 1)) for w, n in pairs]
        laid = on_grid(maps, [n * s for n, s in zip(grid, below, strict=True)])
        pads: list[int] = []
        axes = zip(laid.shape[1:], self.sides, self.size, strict=True)
        for have, want, size in reversed(list(axes)):
            before = (want - have) // 2 - self.margin
            pads += [before, size - have - before]  # negative: cut off
        return F.pad(laid, pads)


def layers_of(model: nn.Module, ask: Ask) -> Layers:
    """Which layers of a segmenter are looked at, found by running it.

    Parameters
    ----------
    model : nn.Module
    ask : callable

    Raises
    ------
    RunError
        If the network has no layer that gives a map.
    """
    with torch.no_grad(), evaluating(model):
        found: list[tuple[Call, int, bool]] = []

        def note(call: Call, module: nn.Module, output: Tensor) -> None:
            found.append((call, output.shape[1], isinstance(module, _ACTIVATIONS)))

        logits = _run(model, ask, note)
    classes = logits.shape[1]
    features = [(i, math.prod(c.grid)) for i, (c, n, _) in enumerate(found) if n > classes]
    if not features:
        raise RunError(
            "The network has no layer that gives a map of features.",
            found=type(model).__name__,
            fix="explain another segmenter",
        )
    coarsest = min(places for _, places in features)
    last = max(i for i, places in features if places == coarsest)
    bottleneck, behind = found[last][0], found[last + 1 :]
    activated = tuple(call for call, _, is_activation in behind if is_activation)
    scores = tuple(call for call, *_ in behind)
    return Layers(bottleneck, activated or (scores if len(scores) > 1 else (bottleneck,)))


def attributions(
    model: nn.Module,
    ask: Ask,
    mask: Tensor,
    window: Window,
    layers: Layers | None = None,
) -> dict[str, Tensor]:
    """What of an image a segmentation stands on, by every method of `ATTRIBUTIONS`.

    Parameters
    ----------
    model : nn.Module
        Left as it was found.
    ask : callable
        Runs it on one image.
    mask : (*size) Tensor of bool
        What it marks there.
    window : Window
    layers : Layers, optional
        See `layers_of`.

    Returns
    -------
    dict of (*size) Tensor of float32
        Each over its maximum, in [0, 1]; 0 throughout where nothing speaks for the segmentation.

    Notes
    -----
    A layer counts by how much of the score it gives, to first order: the sum of the positive
    gradients times activations over all channels and places. A kernel counts by its dependent
    contribution, what the score would lose without it beside all others to first order (not
    negative), times its independent one, the share of its positive activation that lies within the
    segmentation.
    """
    chosen = layers if layers is not None else layers_of(model, ask)
    wanted = list(dict.fromkeys([chosen.bottleneck, *chosen.behind]))
    activations, gradients = _gradients(model, ask, mask, wanted)
    with torch.no_grad():
        at = {
            c: (a.float(), g.float())
            for c, a, g in zip(wanted, activations, gradients, strict=True)
        }
        behind = [at[c] for c in chosen.behind]
        made = {SEG_GRADCAM: window.over_image(FORMULAS["gradcam"](*at[chosen.bottleneck]))}
        shares = torch.stack([(a * g).clamp_min(0).sum() for a, g in behind])
        shares = shares / shares.sum() if float(shares.sum()) > 0 else torch.ones_like(shares)
        for name in SUMMED:
            maps = [window.over_image(over_maximum(FORMULAS[name](a, g))[0]) for a, g in behind]
            made[name] = torch.stack([s * m for s, m in zip(shares, maps, strict=True)]).sum(0)
        made[KWC] = _kernels(behind, mask, window)
        return {name: over_maximum(m)[0][0] for name, m in made.items()}


def _kernels(behind: Sequence[tuple[Tensor, Tensor]], mask: Tensor, window: Window) -> Tensor:
    """The Kernel-Weighted Contribution, (1, *size)."""
    space = tuple(range(2, mask.ndim + 2))
    dependent = [(a * g).sum(space).clamp_min(0)[0] for a, g in behind]
    total = torch.cat(dependent).sum().clamp_min(1e-12)
    out = torch.zeros(1, *mask.shape, device=mask.device)
    for (a, _), d in zip(behind, dependent, strict=True):
        positive = over_maximum(a[0])[0]
        weights = torch.zeros_like(d)
        for some in (d > 0).nonzero()[:, 0].split(KERNELS):  # on the image all take much room
            laid = window.over_image(positive[some])
            inside = laid[:, mask].sum(1) / laid.flatten(1).sum(1).clamp_min(1e-12)
            weights[some] = d[some] / total * inside
        out = out + window.over_image(torch.tensordot(weights, positive, dims=1)[None])
    return out


def _run(model: nn.Module, ask: Ask, see: Callable[[Call, nn.Module, Tensor], Any]) -> Tensor:
    """Ask, and see what every convolution and activation gives, in the order in which they run.

    What ``see`` returns, if anything, goes on in the place of the output.
    """
    used: dict[str, int] = {}
    dims: list[int] = []

    def hook(name: str) -> Any:
        def after(module: nn.Module, inputs: Any, output: Any) -> Any:
            if not isinstance(output, Tensor) or output.ndim < 4 or len(output) != 1:
                return None
            dims.append(output.ndim)
            grid = tuple(output.shape[2:])
            # The scales of squeeze-and-excitation and of coordinate attention are no maps.
            if output.ndim != dims[0] or min(grid) < 2:
                return None
            number = used.get(name, 0)
            used[name] = number + 1
            return see(Call(name, number, grid), module, output)

        return after

    handles = []
    try:
        for name, module in model.named_modules():
            if isinstance(module, (*_ACTIVATIONS, *_CONVOLUTIONS)):
                handles.append(module.register_forward_hook(hook(name)))
        return ask()
    finally:
        for handle in handles:
            handle.remove()


def _gradients(
    model: nn.Module, ask: Ask, mask: Tensor, wanted: Sequence[Call]
) -> tuple[list[Tensor], list[Tensor]]:
    """What layers gave, and the gradient there of the lesion's score summed over the mask."""
    captured: dict[Call, Tensor] = {}
    asked = frozenset(wanted)

    def capture(call: Call, _module: nn.Module, output: Tensor) -> Tensor | None:
        if call not in asked:
            return None
        # The graph begins at the first layer; a copy goes on, for what follows may work in place.
        torch.set_grad_enabled(True)
        tensor = (
            output.clone() if output.requires_grad else output.detach().clone().requires_grad_()
        )
        captured[call] = tensor
        return tensor.clone()

    with torch.inference_mode(False), evaluating(model), torch.no_grad():
        logits = _run(model, ask, capture)
        torch.set_grad_enabled(True)
        score = logits[0, LESION].float()[mask].sum()
        activations = [captured[c] for c in wanted]
        gradients = torch.autograd.grad(score, activations, allow_unused=True)
    return [a.detach() for a in activations], [
        torch.zeros_like(a) if g is None else g for a, g in zip(activations, gradients, strict=True)
    ]
