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
import io
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from weakseg.errors import ConfigError, did_you_mean
from weakseg.heatmaps.formulas import FORMULAS, weighted
from weakseg.models.modes import evaluating

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
FULLGRAD, OCCLUSION = "fullgrad", "occlusion"
LAYERLESS = (FULLGRAD, OCCLUSION)
"""Not of a layer: see `weakseg.heatmaps.fullgrad` and `weakseg.heatmaps.occlusion`."""


def check_method(name: str, *, where: str = "heatmap.method") -> None:
    """Refuse an unknown method.

    Raises
    ------
    ConfigError
        With the nearest name.
    """
    if name not in METHODS and name not in LAYERLESS:
        raise ConfigError(
            f"There is no heatmap method {name!r}.",
            where=where,
            fix=did_you_mean(name, [*METHODS, *LAYERLESS]),
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
    ValueError
        For class numbers that are not there.
    """
    classes = logits.shape[1]
    if not target or any(not 0 <= k < classes for k in target) or len(set(target)) != len(target):
        raise ValueError(f"target must name different classes of 0..{classes - 1}; got {target}")
    chosen = logits[:, list(target)].logsumexp(1)
    rest = [k for k in range(classes) if k not in target]
    if score == "logit" or not rest:
        return chosen
    return chosen - logits[:, rest].logsumexp(1)


def raw_cam(
    model: nn.Module,
    layer: nn.Module,
    images: Tensor,
    target: tuple[int, ...],
    *,
    method: str = "gradcam",
    score: str = "logit",
) -> tuple[np.ndarray, np.ndarray]:
    """Raw class activation maps of a batch at one layer, as arrays; see `cams`.

    Returns
    -------
    maps : (B, h, w) ndarray of float32
    logits : (B, K) ndarray of float32
    """
    (maps,), logits = cams(model, [layer], images, target, method=method, score=score)
    return maps.cpu().numpy(), logits.cpu().numpy()


def cams(
    model: nn.Module,
    layers: Sequence[nn.Module],
    images: Tensor,
    target: tuple[int, ...],
    *,
    method: str = "gradcam",
    score: str = "logit",
) -> tuple[list[Tensor], Tensor]:
    """Raw class activation maps of a batch at several layers, by one pass.

    Parameters
    ----------
    model : nn.Module
        Gives logits (B, K). Its parameters may be frozen, and the call may stand under
        ``no_grad``; gradients, hooks and modes are left as they were.
    layers : sequence of nn.Module
        Parts of ``model`` whose output is a map (B, C, h, w).
    images : Tensor
        (B, ...) as the model takes them.
    target : tuple of int
        Class numbers explained together, the same for every image.
    method : str
        One of `METHODS`.
    score : {"logit", "log-odds"}
        See `target_score`.

    Returns
    -------
    maps : list of (B, h, w) Tensor of float32
        One a layer, where the images are, before the ReLU that ends Grad-CAM: negative values
        speak against the target. Not normalised: comparable between the images of one network.
    logits : (B, K) Tensor of float32

    Raises
    ------
    ConfigError
        If a layer's output is no map, or does not lead to the logits.
    ValueError
        If a class number is not there.

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
    captured: dict[int, list[Tensor]] = {k: [] for k in range(len(layers))}

    def capture(k: int) -> Any:
        def hook(_module: nn.Module, _inputs: Any, output: Any) -> Any:
            if not isinstance(output, Tensor) or output.ndim != 4:
                shape = tuple(output.shape) if isinstance(output, Tensor) else type(output).__name__
                raise ConfigError(
                    "The heatmap layer does not give a map.",
                    where="heatmap.layer",
                    found=str(shape),
                    expected="an output of shape (batch, channels, height, width)",
                    fix="name a convolutional layer before the pooling",
                )
            # The graph begins at the first layer: the gradient stops there, and frozen parameters
            # do not matter. A copy goes on, for an in-place ReLU behind the layer would otherwise
            # change what was captured.
            torch.set_grad_enabled(True)
            known = output.requires_grad and any(captured.values())
            held = output.clone() if known else output.detach().clone().requires_grad_(True)
            captured[k].append(held)
            return held.clone()

        return hook

    handles = []
    with torch.inference_mode(False), evaluating(model):
        try:
            handles += [layer.register_forward_hook(capture(k)) for k, layer in enumerate(layers)]
            with torch.no_grad():  # until the first layer is reached, see `capture`
                logits = model(images.clone() if images.is_inference() else images)
                runs = [len(held) for held in captured.values()]
                if set(runs) != {1}:
                    raise ConfigError(
                        "A heatmap layer must run exactly once for an image.",
                        where="heatmap.layer",
                        found=f"it ran {next(n for n in runs if n != 1)} times",
                        fix="name another layer",
                    )
                torch.set_grad_enabled(True)
                total = target_score(logits.float(), target, score).sum()
                maps_of = [held for (held,) in captured.values()]
                twice = method == "shapleycam"
                gradients = torch.autograd.grad(
                    total, maps_of, allow_unused=True, create_graph=twice
                )
        finally:
            for handle in handles:
                handle.remove()
        if any(g is None for g in gradients):
            raise ConfigError(
                "The heatmap layer does not lead to the class scores.",
                where="heatmap.layer",
                fix="name a layer between the image and the classifier's head",
            )
        explained = [_Score(target, score)] * len(images)
        maps = [
            _map(model, method, images, layer, explained, held, gradient)
            for layer, held, gradient in zip(layers, maps_of, gradients, strict=True)
        ]
    return maps, logits.detach().float()


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
    explained: Sequence[_Score],
    held: Tensor,
    gradient: Tensor,
) -> Tensor:
    """The map of activations and gradients, (B, h, w) float32."""
    if method == "shapleycam":
        return _shapley(held, gradient)
    if method in FORMULAS:
        with torch.no_grad(), torch.autocast(held.device.type, enabled=False):
            return FORMULAS[method](held.detach().float(), gradient.float())
    found = _by_library(model, method, images, layer, explained, held, gradient)
    return torch.from_numpy(np.asarray(found, dtype=np.float32)).to(held.device)


def _by_library(
    model: nn.Module,
    method: str,
    images: Tensor,
    layer: nn.Module,
    explained: Sequence[_Score],
    held: Tensor,
    gradient: Tensor,
) -> np.ndarray:
    """pytorch-grad-cam's own map; built without layers, so that the library sets no hook."""
    import pytorch_grad_cam

    cam = getattr(pytorch_grad_cam, METHODS[method])(model, [])
    a = held.detach().float().cpu().numpy()
    g = gradient.detach().float().cpu().numpy()
    if method not in PERTURBING:
        return cam.get_cam_image(images, layer, [], a, g, False)
    # Whose progress bars, one for every image, are nobody's business.
    with torch.no_grad(), contextlib.redirect_stderr(io.StringIO()):
        return cam.get_cam_image(images, layer, list(explained), a, g, False)


def _shapley(held: Tensor, gradient: Tensor) -> Tensor:
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
        return weighted(weights.detach().float().mean((2, 3)), held.detach().float())
