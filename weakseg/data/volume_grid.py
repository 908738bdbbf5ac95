"""Between a whole volume and the slices that a classifier of volumes sees.

Rows and columns lie in a square as those of an image do (`weakseg.data.geometry`). Slices stand in
their order from the first place on; of more than there are places, depth is shrunk by area.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from weakseg.data.geometry import Letterbox, letterbox, to_network, to_original
from weakseg.data.slices import ScaledVolume


@dataclass(frozen=True)
class VolumeBox:
    """Where a volume lies in what the network sees.

    Attributes
    ----------
    original : tuple of int
        (X, Y, Z) of the file.
    size : int
        Side of a slice that the network sees.
    depth : int
        How many slices it sees.
    """

    original: tuple[int, int, int]
    size: int
    depth: int

    @property
    def plane(self) -> Letterbox:
        """Where a slice lies in its square: its rows are the second axis, its columns the first."""
        return letterbox((self.original[1], self.original[0]), self.size)

    @property
    def shown(self) -> int:
        """How many of the slices that the network sees show the volume; the rest is empty."""
        return min(self.original[2], self.depth)


def volume_to_network(volume: ScaledVolume, box: VolumeBox) -> NDArray[np.float32]:
    """A volume as a classifier of volumes sees it, (D, S, S) in [0, 1], slice by slice."""
    plane, count = box.plane, box.original[2]
    shares = area_weights(count, box.shown)
    out = np.zeros((box.depth, box.size, box.size), dtype=np.float32)
    for z in range(count):
        seen = to_network(volume.plane(z), plane)
        for k in np.flatnonzero(shares[:, z]):
            out[k] += shares[k, z] * seen
    return np.clip(out, 0, 1)


def heat_planes(raw: ArrayLike, box: VolumeBox) -> Iterator[NDArray[np.float32]]:
    """A map of what the network sees, laid over the volume slice by slice.

    Linear along each axis with half-pixel centres, as `weakseg.data.geometry.to_original`.

    Parameters
    ----------
    raw : (d, h, w) array_like
        Covers what the network sees; of any resolution.
    box : VolumeBox

    Yields
    ------
    (Y, X) ndarray of float32
        One a slice of the volume, in order.

    Raises
    ------
    ValueError
        If ``raw`` is of other dimensions, or empty.
    """
    values = np.asarray(raw, dtype=np.float32)
    if values.ndim != 3 or not values.size:
        raise ValueError(f"a map has the shape (d, h, w), not {values.shape}")
    to_depth = linear_weights(len(values), box.depth)[: box.shown]
    weights = linear_weights(box.shown, box.original[2]) @ to_depth
    plane = box.plane
    for of_slice in weights:
        near = np.flatnonzero(of_slice)
        yield to_original(np.tensordot(of_slice[near], values[near], axes=1), plane)


def area_weights(given: int, wanted: int) -> NDArray[np.float32]:
    """Weights (wanted, given) of means over equal stretches; each row sums to 1.

    Examples
    --------
    >>> area_weights(3, 2).round(3).tolist()
    [[0.667, 0.333, 0.0], [0.0, 0.333, 0.667]]
    """
    step = given / wanted
    begins, at = np.arange(wanted)[:, None] * step, np.arange(given)[None]
    overlap = np.minimum(begins + step, at + 1) - np.maximum(begins, at)
    shares: NDArray[np.float32] = (np.clip(overlap, 0, None) / step).astype(np.float32)
    shares[shares < 1e-6] = 0
    return shares


def linear_weights(given: int, wanted: int) -> NDArray[np.float32]:
    """Weights (wanted, given) of linear interpolation with half-sample centres.

    Samples beyond an end count as that end, as in torch's ``align_corners=False``.
    """
    at = np.clip((np.arange(wanted) + 0.5) * given / wanted - 0.5, 0, given - 1)
    low = np.floor(at).astype(int)
    high = np.minimum(low + 1, given - 1)
    weights = np.zeros((wanted, given), dtype=np.float32)
    np.add.at(weights, (np.arange(wanted), low), 1 - (at - low))
    np.add.at(weights, (np.arange(wanted), high), at - low)
    return weights
