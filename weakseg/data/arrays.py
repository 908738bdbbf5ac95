"""Images as the network sees them: decoded once, letterboxed, kept in memory where they fit."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from torch import Tensor

from weakseg.config import DataConfig
from weakseg.data.cases import Case
from weakseg.data.geometry import Letterbox, letterbox, to_network
from weakseg.data.images import is_grey, read_image, scale_intensity

CACHE_BYTES = 4 * 2**30
"""Images are kept in memory up to this size, and decoded anew each time beyond it."""


def detect_channels(cases: Sequence[Case], data: DataConfig) -> int:
    """1 or 3, by the configuration or, for ``auto``, by what the images hold.

    For volumes the number of modalities.
    """
    if cases and cases[0].dims == 3:
        return 1 + len(cases[0].more)
    if data.channels != "auto":
        return 1 if data.channels == "grey" else 3
    with ThreadPoolExecutor(4) as pool:
        return 1 if all(pool.map(lambda c: is_grey(read_image(c.image)), cases)) else 3


def as_channels(image: np.ndarray, channels: int) -> np.ndarray:
    """(M, N) for one channel, by the luminance of ITU-R BT.601, or (M, N, 3) for three."""
    if channels == 1 and image.ndim == 3:
        return image @ np.array([0.299, 0.587, 0.114], dtype=np.float32)
    if channels == 3 and image.ndim == 2:
        return np.repeat(image[..., None], 3, axis=2)
    return image


def network_image(
    image: np.ndarray, channels: int, size: int, intensity: str
) -> tuple[np.ndarray, Letterbox]:
    """One decoded image as the network takes it.

    Parameters
    ----------
    image : (M, N) or (M, N, 3) ndarray
        As `weakseg.data.images.read_image` gives it.
    channels : {1, 3}
    size : int
        Side of the square in pixels.
    intensity : {"auto", "dtype", "percentile"}

    Returns
    -------
    (channels, size, size) ndarray of float32
        In [0, 1].
    Letterbox
        Where the image lies in the square.
    """
    grey = as_channels(scale_intensity(image, intensity), channels)  # type: ignore[arg-type]
    box = letterbox((grey.shape[0], grey.shape[1]), size)
    square = to_network(grey.astype(np.float32, copy=False), box)
    planes = square[None] if square.ndim == 2 else np.moveaxis(square, 2, 0)
    return np.clip(planes, 0, 1), box


class ImageBatches:
    """Images of cases as tensors, by index.

    Parameters
    ----------
    cases : sequence of Case
    data : DataConfig
    channels : {1, 3}
    keep : bool
        Keep what was decoded, as half-precision, if all of it fits into `CACHE_BYTES`.
    """

    def __init__(
        self, cases: Sequence[Case], data: DataConfig, channels: int, *, keep: bool = True
    ) -> None:
        self.cases, self.data, self.channels = list(cases), data, channels
        shape = (len(self.cases), channels, data.image_size, data.image_size)
        fits = int(np.prod(shape)) * 2 <= CACHE_BYTES
        self._kept = np.zeros(shape, dtype=np.float16) if keep and fits else None
        self._have = np.zeros(len(self.cases), dtype=bool)
        self._boxes: dict[int, Letterbox] = {}
        self._pool = ThreadPoolExecutor(4)

    def __len__(self) -> int:
        return len(self.cases)

    def _decode(self, i: int) -> np.ndarray:
        if self._kept is not None and self._have[i]:
            return self._kept[i]
        array, self._boxes[i] = network_image(
            read_image(self.cases[i].image),
            self.channels,
            self.data.image_size,
            self.data.intensity,
        )
        # Rounded to half precision whether it is kept or not: a set is then trained on the same
        # numbers on machines of any size.
        array = array.astype(np.float16)
        if self._kept is not None:
            self._kept[i], self._have[i] = array, True
        return array

    def images(self, indices: Sequence[int] | np.ndarray) -> Tensor:
        """(B, C, S, S) float32 in [0, 1]."""
        arrays = list(self._pool.map(self._decode, (int(i) for i in indices)))
        return torch.from_numpy(np.stack(arrays).astype(np.float32))

    def boxes(self, indices: Sequence[int] | np.ndarray) -> list[Letterbox]:
        """Where the images lie in their squares; call after `images`."""
        return [self._boxes[int(i)] for i in indices]
