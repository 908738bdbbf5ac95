"""Class activation maps at about the price of a forward pass, without pytorch-grad-cam's traps.

The library's own call min–max-normalises every image, lets a short target list give zero maps,
back-propagates through the whole network, works in numpy, and leaves gradients, hooks and the
training mode changed. Here raw signed scores come back, one target is explained for every image,
the graph begins at the layer, several layers share one pass, and the network is left as it was
found. The formulas of `weakseg.heatmaps.formulas` run in torch on the device; those of the other
methods are pytorch-grad-cam's own (``get_cam_image``).
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from weakseg.errors import ConfigError, did_you_mean
from weakseg.heatmaps.arguments import (
    read_images,
    read_layers,
    read_model,
    read_target,
    refuse_bad_scores,
    refuse_not_finite,
)
from weakseg.heatmaps.formulas import FORMULAS, space_axes, weighted
from weakseg.heatmaps.library import library_map
from weakseg.models.layers import known_maps
from weakseg.models.maps import maps_of
from weakseg.models.modes import evaluating
from weakseg.models.outputs import class_scores
from weakseg.models.space import Space

METHODS: dict[str, str] = {
    "gradcam": "GradCAM",
    "gradcam++": "GradCAMPlusPlus",
    "hirescam": "HiResCAM",
    "xgradcam": "XGradCAM",
    "layercam": "LayerCAM",
    "gradcam-elementwise": "GradCAMElementWise",
    "eigengradcam": "EigenGradCAM",
    "eigencam": "EigenCAM",
    "shapleycam": "ShapleyCAM",
    "scorecam": "ScoreCAM",
    "ablationcam": "AblationCAM",
}
"""Methods by name, and the class of pytorch-grad-cam that defines the formula.

``eigencam`` looks at no class. ``scorecam`` and ``ablationcam`` run the network once for every
channel of the layer: hundreds of times the price of the others.
"""

PERTURBING = frozenset({"scorecam", "ablationcam"})
FULLGRAD, OCCLUSION, RELEVANCE = "fullgrad", "occlusion", "relevance"
LAYERLESS = (FULLGRAD, OCCLUSION, RELEVANCE)
"""Not of a layer: see the modules of `weakseg.heatmaps` that bear their names."""

SCORES = ("logit", "log-odds")


def check_method(name: str, *, where: str = "heatmap.method") -> None:
    """Refuse an unknown method.

    Raises
    ------
    ConfigError
        With the nearest name.
    """
    if not isinstance(name, str) or name not in (*METHODS, *LAYERLESS):
        raise ConfigError(
            f"There is no heatmap method {name!r}.",
            where=where,
            fix=did_you_mean(str(name), [*METHODS, *LAYERLESS]),
        )


def target_score(logits: Tensor, target: tuple[int, ...], score: str = "logit") -> Tensor:
    """What is differentiated, one number an image.

    Parameters
    ----------
    logits : Tensor
        (B, K).
    target : tuple of int
        The class numbers that are explained together: log-sum-exp of their logits, which for a
        single class is its logit, as in the Grad-CAM paper.
    score : {"logit", "log-odds"}
        ``log-odds`` subtracts the log-sum-exp of all other classes.

    Returns
    -------
    Tensor
        (B,).

    Raises
    ------
    ConfigError
        For class numbers that are not there, or another ``score``.
    """
    classes = logits.shape[1]
    if not target or any(not 0 <= k < classes for k in target) or len(set(target)) != len(target):
        raise ConfigError(
            f"The target must name different classes of 0..{classes - 1}.",
            where="target",
            found=str(target),
            fix="the network gives one score an image: its number is 0" if classes == 1 else None,
        )
    if score not in SCORES:
        raise ConfigError(
            f"There is no score {score!r}.", where="score", fix=did_you_mean(str(score), SCORES)
        )
    chosen = logits[:, list(target)].logsumexp(1)
    rest = [k for k in range(classes) if k not in target]
    if score == "logit" or not rest:
        return chosen
    return chosen - logits[:, rest].logsumexp(1)


def no_volumes(method: str) -> ConfigError:
    """What is wrong with a method that takes images alone, where there are volumes."""
    able = [m for m in METHODS if m not in PERTURBING]
    return ConfigError(
        f"The heatmap method {method!r} does not take volumes.",
        where="heatmap.method",
        fix=f"choose one of {', '.join(able)}; or a classifier mil:NAME, which sees slices",
    )


def raw_cam(
    model: nn.Module,
    layer: nn.Module | str,
    images: Tensor | np.ndarray,
    target: int | Sequence[int],
    *,
    method: str = "gradcam",
    score: str = "logit",
) -> tuple[np.ndarray, np.ndarray]:
    """Raw class activation maps of a batch at one layer, as arrays; see `cams`.

    Parameters
    ----------
    model, layer, images, target, method, score
        See `cams`; ``layer`` is one.

    Returns
    -------
    maps : (B, h, w) ndarray of float32
    logits : (B, K) ndarray of float32

    Raises
    ------
    ConfigError
        As `cams`.
    DataError
        If a value of an image, or a class score, is no finite number.
    """
    net = read_model(model)
    batch = read_images(net, images)
    refuse_not_finite(batch)
    (maps,), logits = cams(net, [layer], batch, target, method=method, score=score)
    refuse_bad_scores(logits)
    return maps.cpu().numpy(), logits.cpu().numpy()


def cams(
    model: nn.Module,
    layers: Sequence[nn.Module | str],
    images: Tensor | np.ndarray,
    target: int | Sequence[int],
    *,
    method: str = "gradcam",
    score: str = "logit",
) -> tuple[list[Tensor], Tensor]:
    """Raw class activation maps of a batch at several layers, by one pass.

    Parameters
    ----------
    model : nn.Module
        Gives logits (B, K), as they are or as ``logits`` of something. Its parameters may be
        frozen, and the call may stand under ``no_grad``; gradients, hooks and modes are left as
        they were.
    layers : sequence of nn.Module or str
        Parts of ``model``, or their names, whose output is a map: (B, C, h, w), (B, h, w, C) or
        (B, tokens, C). Which it is is seen from what the network does with an image. ``auto`` is
        the last map before pooling.
    images : (B, C, H, W) or (B, C, D, H, W) Tensor or ndarray
        Floats as the model takes them, on any device; see
        `weakseg.heatmaps.arguments.read_images` for what else is understood. Of volumes, layers
        give (B, C, d, h, w); methods that cover places of the image (`PERTURBING`) do not take
        them.
    target : int or sequence of int
        Class numbers explained together, the same for every image.
    method : str
        One of `METHODS`.
    score : {"logit", "log-odds"}
        See `target_score`.

    Returns
    -------
    maps : list of (B, h, w) or (B, d, h, w) Tensor of float32
        One a layer, where the model is, before the ReLU that ends Grad-CAM: negative values
        speak against the target. Not normalised: comparable between the images of one network.
    logits : (B, K) Tensor of float32

    Raises
    ------
    ConfigError
        If a layer's output is no map, or does not lead to the logits; if a class number is not
        there; for an argument that is not understood.
    DataError
        If the images are none.

    References
    ----------
    Selvaraju et al., "Grad-CAM", ICCV 2017. Gildenblat et al., pytorch-grad-cam.
    """
    check_method(method)
    if method in LAYERLESS:
        raise ConfigError(
            f"The heatmap method {method!r} is of no layer.",
            where="heatmap.method",
            fix=f"use weakseg.heatmaps.{method}.{method}_maps",
        )
    net, classes = read_model(model), read_target(target)
    batch = read_images(net, images)
    if method in PERTURBING and batch.ndim == 5:  # the library fills flat images
        raise no_volumes(method)
    named = read_layers(net, layers, batch.shape[1:])
    by_running = known_maps(net)
    spaces = maps_of(net, named, batch.shape[1:], known=by_running)
    twice = method == "shapleycam"
    activations, gradients, logits = _gradients(net, named, batch, classes, score, twice)
    if any(h.shape[1:] != s.shape for h, s in zip(activations, spaces.values(), strict=True)):
        # The network was changed since it was looked at.
        spaces = maps_of(net, named, batch.shape[1:], known=by_running, afresh=True)
    explained = [_Score(classes, score)] * len(batch)
    with torch.inference_mode(False), evaluating(net):
        maps = [
            _map(net, method, batch, layer, space, explained, a, g)
            for layer, space, a, g in zip(
                named.values(), spaces.values(), activations, gradients, strict=True
            )
        ]
    return maps, logits


def _gradients(
    net: nn.Module,
    layers: dict[str, nn.Module],
    images: Tensor,
    target: tuple[int, ...],
    score: str,
    twice: bool,
) -> tuple[list[Tensor], list[Tensor], Tensor]:
    """What layers gave, the score's gradient there (with ``twice`` as a graph), and the logits."""
    captured: dict[str, Tensor] = {}

    def capture(name: str) -> Any:
        def hook(_module: nn.Module, _inputs: Any, output: Tensor) -> Tensor:
            # The graph begins at the first layer: the gradient stops there, and frozen parameters
            # do not matter. A copy goes on, for an in-place ReLU behind the layer would otherwise
            # change what was captured.
            torch.set_grad_enabled(True)
            tracked = output.requires_grad and bool(captured)
            tensor = output.clone() if tracked else output.detach().clone().requires_grad_(True)
            captured[name] = tensor
            return tensor.clone()

        return hook

    handles = []
    with torch.inference_mode(False), evaluating(net):
        try:
            handles += [m.register_forward_hook(capture(name)) for name, m in layers.items()]
            # Fast attention has no second derivative.
            attention = sdpa_kernel(SDPBackend.MATH) if twice else contextlib.nullcontext()
            # Without a graph until the first layer is reached, see `capture`.
            with torch.no_grad(), attention:
                logits = class_scores(net(images.clone() if images.is_inference() else images))
                torch.set_grad_enabled(True)
                total = target_score(logits.float(), target, score).sum()
                activations = [captured[name] for name in layers]
                gradients = torch.autograd.grad(total, activations, create_graph=twice)
        finally:
            for handle in handles:
                handle.remove()
    return activations, list(gradients), logits.detach().float()


class _Score:
    """`target_score` of one image, as pytorch-grad-cam calls its targets."""

    def __init__(self, target: tuple[int, ...], score: str) -> None:
        self.target, self.score = target, score

    def __call__(self, logits: Tensor) -> Tensor:
        return target_score(logits.float()[None], self.target, self.score)[0]


def _map(
    model: nn.Module,
    method: str,
    images: Tensor,
    layer: nn.Module,
    space: Space,
    explained: Sequence[_Score],
    held: Tensor,
    gradient: Tensor,
) -> Tensor:
    """The map of activations and gradients, (B, *grid) float32."""
    if method == "shapleycam":
        return _shapley(held, gradient, space)
    a, g = space.as_map(held), space.as_map(gradient)
    if method in FORMULAS:
        with torch.no_grad(), torch.autocast(held.device.type, enabled=False):
            return FORMULAS[method](a.detach().float(), g.float())
    heat = library_map(METHODS[method], model, images, layer, space.channel, explained, a, g)
    return torch.from_numpy(np.asarray(heat, dtype=np.float32)).to(held.device)


def _shapley(held: Tensor, gradient: Tensor, space: Space) -> Tensor:
    """Grad-CAM with the gradient minus half its change along the activations.

    pytorch-grad-cam's formula; its own call frees the graph that further layers need.
    """
    weights = gradient
    if gradient.requires_grad:  # else the network is linear behind the layer
        (change,) = torch.autograd.grad(
            gradient, held, grad_outputs=held, retain_graph=True, allow_unused=True
        )
        weights = gradient if change is None else gradient - change / 2
    with torch.no_grad(), torch.autocast(held.device.type, enabled=False):
        a, w = space.as_map(held.detach()), space.as_map(weights.detach())
        return weighted(w.float().mean(space_axes(w)), a.float())
