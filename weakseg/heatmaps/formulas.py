"""Class activation maps of activations and gradients, in torch, where they are.

All axes behind the channel are space: of images there are two, of volumes three.

The formulas of pytorch-grad-cam, which works in numpy: here nothing leaves the device, and a map
costs little beside the network that it is made of.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

SMALL = 1e-6
"""Keeps Grad-CAM++ from dividing by 0, as in pytorch-grad-cam; XGrad-CAM takes a tenth of it."""


def weighted(weights: Tensor, activations: Tensor) -> Tensor:
    """Activations summed with a weight a channel: (B, C) and (B, C, *places) to (B, *places)."""
    B, C, *places = activations.shape
    # Of channels-last activations this is a view; a row times a matrix is ten times as fast as the
    # matrix times a column.
    pixels = activations.movedim(1, -1).reshape(B, -1, C)
    return (weights[:, None] @ pixels.transpose(1, 2)).reshape(B, *places)


def space_axes(tensor: Tensor) -> tuple[int, ...]:
    """The axes of space of (B, C, *places)."""
    return tuple(range(2, tensor.ndim))


def gradcam(a: Tensor, g: Tensor) -> Tensor:
    """Grad-CAM (Selvaraju et al., ICCV 2017): channels weighted by their mean gradient."""
    return weighted(g.mean(space_axes(g)), a)


def gradcam_plus_plus(a: Tensor, g: Tensor) -> Tensor:
    """Grad-CAM++ (Chattopadhay et al., WACV 2018)."""
    squared = g.square()
    total = a.sum(space_axes(a), keepdim=True)
    share = squared / (2 * squared + total * squared * g + SMALL)
    return weighted((share * g.clamp_min(0)).sum(space_axes(g)), a)


def hirescam(a: Tensor, g: Tensor) -> Tensor:
    """HiResCAM (Draelos, Carin, arXiv 2011.08891): gradient times activation at every place."""
    return (g * a).sum(1)


def layercam(a: Tensor, g: Tensor) -> Tensor:
    """LayerCAM (Jiang et al., IEEE TIP 2021): HiResCAM of positive gradients."""
    return (g.clamp_min(0) * a).sum(1)


def elementwise(a: Tensor, g: Tensor) -> Tensor:
    """HiResCAM of what speaks for the target alone (pytorch-grad-cam's element-wise Grad-CAM)."""
    return (g * a).clamp_min(0).sum(1)


def xgradcam(a: Tensor, g: Tensor) -> Tensor:
    """XGrad-CAM (Fu et al., BMVC 2020): gradients weighted by the activations' shares."""
    total = a.sum(space_axes(a))
    return weighted((g * a).sum(space_axes(g)) / (total + SMALL / 10), a)


FORMULAS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "gradcam": gradcam,
    "gradcam++": gradcam_plus_plus,
    "hirescam": hirescam,
    "xgradcam": xgradcam,
    "layercam": layercam,
    "gradcam-elementwise": elementwise,
}
"""Method → its map (B, *places) of activations and gradients (B, C, *places), float32."""
