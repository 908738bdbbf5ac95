"""FullGrad: what the image and the biases of all layers add to a class score, place by place."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from weakseg.heatmaps.cam import target_score
from weakseg.models.modes import evaluating
from weakseg.models.whole_image import resized

BIASED = (nn.Conv2d, nn.BatchNorm2d, nn.Conv3d, nn.BatchNorm3d)

SMALL = 1e-7
"""Added to the maximum that a channel is divided by; pytorch-grad-cam's."""


def fullgrad_maps(
    model: nn.Module,
    images: Tensor,
    target: tuple[int, ...],
    *,
    score: str = "logit",
    zero: Tensor | float = 0.0,
) -> tuple[Tensor, Tensor]:
    """How much every place of an image and of the layers' biases moves a class score.

    Parameters
    ----------
    model, images, target, score, zero
        See `contributions`.

    Returns
    -------
    maps : (B[, D], H, W) Tensor of float32
        On the images' grid, never negative: FullGrad looks at magnitudes, so that heat says that a
        place matters and not which way. Each adds up to the magnitudes of the contributions to its
        image's score, by which images of one network stay comparable.
    logits : (B, K) Tensor of float32

    Notes
    -----
    The shape of a map is pytorch-grad-cam's: the magnitude of every channel of every layer is
    scaled to 0..1, enlarged bilinearly, and added. What the library does last, to scale each
    image's sum to 0..1 as well, is left out.

    References
    ----------
    Srinivas and Fleuret, "Full-gradient representation for neural network visualization",
    NeurIPS 2019.
    """
    parts, logits = contributions(model, images, target, score=score, zero=zero)
    size, places = tuple(images.shape[2:]), tuple(range(2, images.ndim))
    shape = torch.zeros(len(images), 1, *size, device=logits.device)
    total = torch.zeros(len(images), 1, *[1] * len(size), device=logits.device)
    for part in parts:
        heat = part.abs()
        total += heat.sum((1, *places), keepdim=True)
        heat = heat - heat.amin(places, keepdim=True)
        heat = heat / (heat.amax(places, keepdim=True) + SMALL)
        # Added before they are enlarged, which is the same and hundreds of times cheaper.
        heat = heat.sum(1, keepdim=True)
        shape += resized(heat, size)
    whole = shape.sum(places, keepdim=True)
    maps = shape * (total / torch.where(whole > 0, whole, 1.0))
    return maps[:, 0], logits


def contributions(
    model: nn.Module,
    images: Tensor,
    target: tuple[int, ...],
    *,
    score: str = "logit",
    zero: Tensor | float = 0.0,
) -> tuple[list[Tensor], Tensor]:
    """A class score taken apart into what the image and the layers' biases add to it.

    Parameters
    ----------
    model : nn.Module
        Gives logits (B, K); evaluated in evaluation mode, with the gradients, hooks and modes left
        as they were. Its parameters may be frozen, and the call may stand under ``no_grad``.
    images : (B, C[, D], H, W) Tensor
    target, score
        See `weakseg.heatmaps.cam.target_score`.
    zero : Tensor or float, optional
        The image that the network's first layer sees as 0: for a network that normalises its
        images itself, their mean, (1, C, 1, 1) of volumes as well.

    Returns
    -------
    parts : list of (B, c[, d], h, w) Tensor of float32
        First the gradient times the image, then the gradient times the bias of every convolution
        and batch norm (of `BIASED`), at each place, signed, in the order in which they run.
        Together with the biases of linear layers, which have no place, they add up to the score
        where the network is piecewise linear (ReLU, maximum and average pooling).
    logits : (B, K) Tensor of float32
    """
    seen: list[tuple[Tensor, Tensor]] = []

    def note(module: nn.Module, _inputs: Any, output: Tensor) -> Tensor | None:
        bias = effective_bias(module)
        if bias is None:
            return None
        seen.append((output, bias))
        # A copy goes on, for an in-place ReLU behind the layer would change what was noted.
        return output.clone()

    layers = [m for m in model.modules() if isinstance(m, BIASED)]
    handles: list[Any] = []
    with torch.inference_mode(False), torch.enable_grad(), evaluating(model):
        try:
            handles += [layer.register_forward_hook(note) for layer in layers]
            x = images.detach().clone().requires_grad_(True)
            logits = model(x)
            total = target_score(logits.float(), target, score).sum()
        finally:
            for handle in handles:
                handle.remove()
        noted = [x, *(output for output, _ in seen)]
        first, *gradients = torch.autograd.grad(total, noted, allow_unused=True)
    if first is None:  # of a network that looks at nothing
        first = torch.zeros_like(x)
    if isinstance(zero, Tensor) and zero.ndim == 4:  # of volumes one axis more
        zero = zero.view(*zero.shape[:2], *[1] * (x.ndim - 4), *zero.shape[2:])
    parts = [((x.detach() - zero) * first).float()]
    for (_, bias), gradient in zip(seen, gradients, strict=True):
        if gradient is not None:
            parts.append(gradient.float() * bias.view(-1, *[1] * (gradient.ndim - 2)))
    return parts, logits.detach().float()


def effective_bias(layer: nn.Module) -> Tensor | None:
    """What a layer adds to its output whatever its input is; None if nothing.

    Parameters
    ----------
    layer : nn.Module
        One of `BIASED`.
        Batch normalisation is taken as in evaluation: its means are a part of its bias. Without
        running statistics only its own bias counts.

    Returns
    -------
    (c,) Tensor of float32 or None
    """
    bias: Any = layer.bias
    if isinstance(layer, nn.BatchNorm2d | nn.BatchNorm3d) and layer.running_mean is not None:
        mean, var = layer.running_mean.float(), layer.running_var.float()  # type: ignore[union-attr]
        shift = -mean / (var + layer.eps).sqrt()
        bias = shift if layer.weight is None else shift * layer.weight + layer.bias
    return None if bias is None else bias.detach().float()
