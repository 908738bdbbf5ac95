"""Where the places of an image lie in a tensor: which axes are space.

A convolution gives (B, C, h, w), Swin (B, h, w, C), a transformer (B, tokens, C) with a class token
before the places or not. What a network's tensors are is seen from what it does with an image (see
`weakseg.models.probing`), not from its name.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

Array = npt.NDArray[np.float64]

FIT = 0.5
"""The share of the variance of the places' own coordinates that their order must explain, along
both axes. Maps have 0.8 and more (small ones of 2 x 2 places 0.6), other tensors hardly any."""

TOKENS_FIT = 0.8
"""The same of a row of tokens, which may be seen as many a grid."""

MOST_EXTRA = 16
"""The most tokens of a row that may be no places: class, distillation and register tokens."""


@dataclass(frozen=True)
class Space:
    """How a tensor holds a map.

    Attributes
    ----------
    shape : tuple of int
        Of the tensor, without the batch.
    channel : int
        Its axis of channels, counted with the batch.
    grid : tuple of int
        Rows and columns of the map; of a volume's depth, rows and columns.
    first : int
        Of a row of tokens: how many come before the first place.
    alive : bool
        Whether the class scores depend on its places, and not on a class token alone.
    """

    shape: tuple[int, ...]
    channel: int
    grid: tuple[int, ...]
    first: int = 0
    alive: bool = True

    @property
    def channels(self) -> int:
        """How many numbers a place has."""
        return self.shape[self.channel - 1]

    def as_map(self, tensor: Tensor) -> Tensor:
        """(B, *shape) to (B, C, *grid), without a copy."""
        channels_first = tensor if self.channel == 1 else tensor.movedim(self.channel, 1)
        if tensor.ndim >= 4:
            return channels_first
        places = self.grid[0] * self.grid[1]
        return channels_first.narrow(2, self.first, places).unflatten(2, self.grid)


def recognise(changes: Tensor, image_size: tuple[int, int]) -> Space | None:
    """Find the map in a tensor.

    Parameters
    ----------
    changes : (D, 3, ...) Tensor
        How the tensor of an image, without the batch, changed when the image was changed everywhere
        alike, more and more from the first row to the last, and more and more from the first column
        to the last; in D ways.
    image_size : tuple of int
        Height and width: a grid of tokens has their proportions, up to a row or column.

    Returns
    -------
    Space or None
        None for a tensor that holds no map of at least two places.
    """
    if changes.ndim not in (4, 5) or not changes.isfinite().all():
        return None
    layouts = [
        best for channel in (1, changes.ndim - 2) if (best := _best(changes, channel, image_size))
    ]
    fit, space = max(layouts, key=lambda f: f[0], default=(0.0, None))
    return space if fit >= (FIT if changes.ndim == 5 else TOKENS_FIT) else None


def _best(changes: Tensor, channel: int, image_size: tuple[int, int]) -> tuple[float, Space] | None:
    """The best map whose channels are of an axis, and its fit."""
    at, shape = _coordinates(changes, channel), tuple(changes.shape[2:])
    if changes.ndim == 5:
        height, width = at.shape[1:]
        # A map of one row is one of a strip; channels in the place of rows would be many.
        least = 1 if channel == 1 and height * width > 1 else 2
        fits = min(height, width) >= least
        return (_fit(at), Space(shape, channel, (height, width))) if fits else None
    rows = np.nan_to_num(at[0])[:, None]
    if _explained(rows) < FIT:  # places lie row by row
        return None
    tried = (
        (_fit(at[:, first : first + h * w].reshape(2, h, w)), Space(shape, channel, (h, w), first))
        for first, h, w in _grids(at.shape[1], *image_size)
    )
    # A part of a grid is a grid as well: the more tokens are left out, the better must be the rest.
    extra = at.shape[1]
    return max(
        tried, key=lambda t: t[0] - (extra - t[1].grid[0] * t[1].grid[1]) / 100, default=None
    )


@cache
def _grids(tokens: int, height: int, width: int) -> list[tuple[int, int, int]]:
    """Ways to see a row of tokens as a grid with some tokens before or behind it."""
    return [
        (first, h, places // h)
        for extra in range(min(MOST_EXTRA, tokens // 3) + 1)
        for places in [tokens - extra]
        for h in range(2, places // 2 + 1)
        if places % h == 0 and abs(h * width - places // h * height) < max(height, width)
        for first in {0, extra}
    ]


def _coordinates(changes: Tensor, channel: int) -> Array:
    """Where in the image each place of a tensor looks: (2, *places), row and column in 0..1.

    Of the change that the whole image brings about, the growing changes bring about as much as
    their growth is where a place looks.
    """
    everywhere, *growing = changes.double().movedim(channel + 1, -1).unbind(1)
    size = everywhere.square().sum((0, -1))
    return torch.stack([(g * everywhere).sum((0, -1)) / size for g in growing]).numpy()


def _fit(at: Array) -> float:
    """How well the coordinates (2, h, w) of places follow rows and columns; the worse of the two.

    The share of variance that a straight line along the right axis explains; 0 if it falls, or if a
    place does not depend on the image at all.
    """
    rows, columns = at
    return min(_explained(rows), _explained(columns.T)) if np.isfinite(at).all() else 0.0


def _explained(found: Array) -> float:
    if len(found) == 1:
        return 1.0
    line = np.arange(len(found)) - (len(found) - 1) / 2
    slope = float(line @ found.sum(1))
    spread = float(found.var() * found.size) * float(line @ line) * found.shape[1]
    return slope * slope / spread if slope > 0 and spread > 0 else 0.0
