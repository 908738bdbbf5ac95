"""Hypercolumns: a classifier's activations at its named depths, one above the other."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from weakseg.models.classifier import Classifier
from weakseg.models.layers import spaces_of


def hypercolumns(
    model: Classifier,
    layers: Sequence[tuple[str, nn.Module]],
    image: Tensor,
    window: tuple[float, float, float, float],
    grid: tuple[int, int],
) -> Tensor:
    """What a classifier says of the places of one image at several depths.

    Parameters
    ----------
    model : Classifier
        In evaluation mode; left as it is.
    layers : sequence of (str, nn.Module)
        Of its modules, see `weakseg.models.layers.find_layers`.
    image : (C, S, S) Tensor
        In [0, 1], on any device.
    window : tuple of float
        Top, left, bottom and right of the part of the square that shows the image, as shares of
        the square.
    grid : tuple of int
        Rows and columns over the window.

    Returns
    -------
    (h, w, D) Tensor of float32
        On the CPU. Maps are read bilinearly, with half-pixel centres; D is the sum of the
        layers' channels.

    References
    ----------
    Hariharan et al., "Hypercolumns for object segmentation and fine-grained localization", CVPR
    2015.
    """
    device = model.mean.device
    spaces = spaces_of(model, dict(layers), image.shape[-1])
    outputs: dict[str, Tensor] = {}

    def keep(name: str) -> Any:
        def hook(_module: nn.Module, _inputs: Any, output: Tensor) -> None:
            # A copy, as an in-place ReLU behind the layer would change it.
            outputs[name] = spaces[name].as_map(output.detach().float().clone())

        return hook

    handles = [module.register_forward_hook(keep(name)) for name, module in layers]
    try:
        # In full precision wherever it is called, so that a new image gets what a test image got.
        with torch.no_grad(), torch.autocast(device.type, enabled=False):
            model(image[None].to(device))
            top, left, bottom, right = window
            y = _centres(top, bottom, grid[0], device)
            x = _centres(left, right, grid[1], device)
            at = torch.stack(torch.meshgrid(x, y, indexing="xy"), -1)[None]
            maps = [
                F.grid_sample(outputs[name], at, padding_mode="border", align_corners=False)[0]
                for name, _ in layers
            ]
    finally:
        for handle in handles:
            handle.remove()
    return torch.cat(maps).permute(1, 2, 0).contiguous().cpu()


def _centres(start: float, end: float, count: int, device: torch.device) -> Tensor:
    """Centres of equal parts of an interval of [0, 1], in the coordinates of ``grid_sample``."""
    share = (torch.arange(count, device=device) + 0.5) / count
    return 2 * (start + (end - start) * share) - 1
