"""Maps whose formula is pytorch-grad-cam's own code: of eigenvectors, and of perturbed images."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from weakseg.models.outputs import class_scores

Score = Callable[[Tensor], Tensor]
"""From the class scores (K,) of an image to the number that is explained."""


def library_map(
    kind: str,
    model: nn.Module,
    images: Tensor,
    layer: nn.Module,
    channel: int,
    explained: Sequence[Score],
    activations: Tensor,
    gradients: Tensor,
) -> np.ndarray:
    """The map of a class of pytorch-grad-cam.

    Parameters
    ----------
    kind : str
        Name of the class.
    model, images, layer
        As it takes them.
    channel : int
        The axis of channels in what the layer gives.
    explained : sequence of callable
        What is explained, one an image.
    activations, gradients : (B, C, *grid) Tensor

    Returns
    -------
    (B, *grid) ndarray

    Notes
    -----
    Two departures. An eigenvector has no sign, and the one that the linear algebra happens to give
    can change with the mirror image: here the largest magnitude of a map is positive (Chung and
    Ying, equation 13). Ablation-CAM weighs a channel by the share of the score that is lost without
    it, which turns the map around where the score is negative and makes it large where that is
    near 0: here it is what the score loses.

    References
    ----------
    C.-T. Chung, J. J.-C. Ying, "Seg-Eigen-CAM", Appl. Sci. 15(13), 7562, 2025.
    """
    import pytorch_grad_cam

    # Built without layers, so that the library sets no hook.
    cam = getattr(pytorch_grad_cam, kind)(_Scores(model, images.device), [])
    a = activations.detach().float().cpu().numpy()
    g = gradients.detach().float().cpu().numpy()
    if kind not in ("ScoreCAM", "AblationCAM"):
        heat = cam.get_cam_image(images, layer, [], a, g, False)
        return _upright(heat) if kind in ("EigenCAM", "EigenGradCAM") else heat
    asked, units = list(explained), np.ones(1)
    # Whose progress bars, one for every image, are nobody's business.
    with torch.no_grad(), contextlib.redirect_stderr(io.StringIO()):
        if kind == "AblationCAM":
            cam.ablation_layer = _ablation(channel)
            asked, units = _above_zero(explained, class_scores(model(images)))
        heat = cam.get_cam_image(images, layer, asked, a, g, False)
    return heat * units.reshape(-1, *[1] * (heat.ndim - 1))


def _upright(maps: np.ndarray) -> np.ndarray:
    """Maps (B, *grid) whose largest magnitudes are positive."""
    space = tuple(range(1, maps.ndim))
    down = -maps.min(space, keepdims=True) > maps.max(space, keepdims=True)
    return np.where(down, -maps, maps)


def _above_zero(explained: Sequence[Score], scores: Tensor) -> tuple[list[Score], np.ndarray]:
    """What is explained, shifted so that each image's own score is positive, and those scores.

    They are the magnitudes of the scores themselves, so that nothing of a fall is rounded away.
    """
    own = [float(score(of)) for score, of in zip(explained, scores, strict=True)]
    units = [abs(value) or 1.0 for value in own]
    shifts = [unit - value for unit, value in zip(units, own, strict=True)]

    def shifted(score: Score, by: float) -> Score:
        return lambda of: score(of).double() + by

    return [shifted(s, by) for s, by in zip(explained, shifts, strict=True)], np.asarray(units)


class _Scores(nn.Module):
    """A network whose output is its class scores and nothing else."""

    def __init__(self, net: nn.Module, device: torch.device) -> None:
        super().__init__()
        # The library asks the first parameter for the device, and a network may have none.
        self.here = nn.Parameter(torch.empty(0, device=device), requires_grad=False)
        self.net = net

    def forward(self, images: Tensor) -> Tensor:
        """(B, C, H, W) to (B, K)."""
        return class_scores(self.net(images))


def _ablation(channel: int) -> Any:
    """The library's layer that blots out channels, of tensors with any axis of channels."""
    from pytorch_grad_cam.ablation_layer import AblationLayer

    class Ablation(AblationLayer):
        def set_next_batch(
            self, input_batch_index: int, activations: Tensor, num_channels_to_ablate: int
        ) -> None:
            one = activations[input_batch_index][None]
            self.whole = one.repeat(num_channels_to_ablate, *[1] * (one.ndim - 1))

        def __call__(self, x: Tensor) -> Tensor:
            self.activations = self.whole.movedim(channel, 1)
            super().__call__(x)  # blots out in this view of the whole
            return self.whole

    return Ablation()
