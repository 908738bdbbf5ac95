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
    """
    import pytorch_grad_cam

    # Built without layers, so that the library sets no hook.
    cam = getattr(pytorch_grad_cam, kind)(_Scores(model, images.device), [])
    a = activations.detach().float().cpu().numpy()
    g = gradients.detach().float().cpu().numpy()
    if kind not in ("ScoreCAM", "AblationCAM"):
        return cam.get_cam_image(images, layer, [], a, g, False)
    if kind == "AblationCAM":
        cam.ablation_layer = _ablation(channel)
    # Whose progress bars, one for every image, are nobody's business.
    with torch.no_grad(), contextlib.redirect_stderr(io.StringIO()):
        return cam.get_cam_image(images, layer, list(explained), a, g, False)


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
