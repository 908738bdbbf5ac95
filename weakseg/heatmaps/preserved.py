"""How good an attribution of a segmentation is: what is left of image and mask where it is kept.

References
----------
SPIE Medical Imaging 2022, 12.2612288, after its abstract: the input is masked by the attribution
and segmented again. What is preserved at an equal share of the image, and the controls, are ours.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from weakseg.scores import dice

RANDOM, MASK = "random", "mask"
CONTROLS = (RANDOM, MASK)
"""A smooth random map, and the network's own mask, which for an equal share grows on all sides."""

QUARTER = 0.25
"""Share of the body that every attribution keeps when they are compared at equal areas."""

_CELLS = 8
"""Cells on each axis of a random map, about as smooth as maps of deep layers."""

Segment = Callable[[Tensor], Tensor]
"""Image (1, C, *size) → what the network marks, (*size) of bool."""


@dataclass(frozen=True)
class Preserved:
    """What an attribution keeps.

    Attributes
    ----------
    image : float
        Mean of the attribution over the body, in [0, 1]: the less, the more it has left out.
    prediction : float
        Dice between the mask of the image times the attribution, and that of the whole image.
    quarter : float
        The same where the highest quarter of the body is kept and all else is 0.
    """

    image: float
    prediction: float
    quarter: float


def preserved(
    segment: Segment,
    image: Tensor,
    mask: Tensor,
    attributions: Mapping[str, Tensor],
    body: Tensor,
    seed: int,
) -> dict[str, Preserved]:
    """Image Preserved and Prediction Preserved of attributions, and of `CONTROLS`.

    Parameters
    ----------
    segment : callable
    image : (1, C, *size) Tensor
        As the network takes it; what is not kept becomes 0.
    mask : (*size) Tensor of bool
        Of the whole image.
    attributions : mapping of str to (*size) Tensor
        In [0, 1].
    body : (*size) Tensor of bool
        Where the image is; of an image without any everywhere.
    seed : int
        Of the random map.
    """
    inside = body if bool(body.any()) else torch.ones_like(body)
    kept = {**attributions, RANDOM: _random(mask, seed), MASK: mask.float()}
    found = {}
    for name, soft in kept.items():
        order = -_distance(mask) if name == MASK else soft
        found[name] = Preserved(
            float(soft[inside].mean()),
            _agreement(segment(image * soft), mask),
            _agreement(segment(image * _highest(order, inside, QUARTER)), mask),
        )
    return found


def _agreement(now: Tensor, before: Tensor) -> float:
    return dice(now.cpu().numpy(), before.cpu().numpy())


def _highest(order: Tensor, inside: Tensor, share: float) -> Tensor:
    """1 at the highest places inside, as many as the share says; of equal ones the first."""
    values = torch.where(inside, order.double(), -torch.inf).flatten()
    count = max(1, round(share * int(inside.sum())))
    chosen = torch.zeros_like(values)
    chosen[torch.sort(values, descending=True, stable=True).indices[:count]] = 1
    return chosen.reshape(order.shape).to(torch.float32)


def _distance(mask: Tensor) -> Tensor:
    """How far every place is from the mask, in pixels."""
    from scipy import ndimage

    far = ndimage.distance_transform_edt(~mask.cpu().numpy())
    return torch.from_numpy(np.asarray(far)).to(mask.device)


def _random(mask: Tensor, seed: int) -> Tensor:
    """A smooth random map over its maximum."""
    cells = np.random.default_rng(seed).random((1, 1, *[_CELLS] * mask.ndim), dtype=np.float32)
    mode = "bilinear" if mask.ndim == 2 else "trilinear"
    laid = F.interpolate(torch.from_numpy(cells), size=tuple(mask.shape), mode=mode)[0, 0]
    return (laid / laid.max()).to(mask.device)
