"""Images with pixels changed in the order of their heat, and what a network says of each.

Every random draw comes from (seed, key of the image, purpose).
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from weakseg.filtering.ranking import Indices, marked, rank, share_count
from weakseg.scores.checks import Mask, as_mask

Floats = NDArray[np.float32]

Predict = Callable[[Floats], ArrayLike]
"""A network: images (B, C, H, W) of float32, as they are given here, to probabilities (B, K) that
sum to 1 over the classes."""

Fill = Callable[[Floats, Mask, np.random.Generator], NDArray[np.floating]]
"""What takes the place of pixels: image (C, H, W), missing (H, W), generator -> image (C, H, W).
Only its missing pixels are used."""

ORDERS = ("most", "least", "random")
"""Hottest pixels first, coldest first, or the control: a random order."""

_TIES, _CONTROL, _FILL = range(3)


class Row(NamedTuple):
    """What the network says of one changed image.

    Attributes
    ----------
    image : int
        The image's key.
    measure : {"road", "deletion", "insertion"}
    order : {"most", "least", "random"}
        Hottest pixels first, coldest first, or the control: a random order.
    share : float
        Of the valid pixels, in [0, 1], as it was asked for: removed (road, deletion) or revealed
        (insertion).
    p_target : float
        Probability of the target classes together.
    p_predicted : float
        Probability of the class that was predicted for the unchanged image.
    predicted : int
        The class that is predicted now; of equals, the first.
    same_class : bool
        Whether that is the class of the unchanged image.
    """

    image: int
    measure: str
    order: str
    share: float
    p_target: float
    p_predicted: float
    predicted: int
    same_class: bool


class Images:
    """Images with their keys, checked once for all measures."""

    def __init__(self, images: ArrayLike, valid: ArrayLike, keys: Sequence[int], seed: int) -> None:
        self.images: Floats = np.asarray(images, dtype=np.float32)
        self.valid = as_mask("valid", valid)
        self.keys = [int(k) for k in keys]
        self.seed = seed
        N, *size = self.images.shape if self.images.ndim == 4 else (0,)
        if self.images.ndim != 4 or self.valid.shape != (N, *size[1:]):
            raise ValueError(
                "images must have shape (N, C, H, W) and valid (N, H, W), "
                f"got {self.images.shape} and {self.valid.shape}"
            )
        if len(self.keys) != N:
            raise ValueError(f"keys must be one for each of {N} images, got {len(self.keys)}")
        if min([seed, *self.keys]) < 0:
            raise ValueError(f"seed and keys must be 0 or more, got {min([seed, *self.keys])}")
        empty = [k for k, v in zip(self.keys, self.valid, strict=True) if not v.any()]
        if empty:
            raise ValueError(
                f"valid must hold a pixel of every image, got none of image {empty[0]}"
            )

    def rng(self, i: int, purpose: int) -> np.random.Generator:
        """A generator of its own for each image and purpose."""
        return np.random.default_rng([self.seed, self.keys[i], purpose])

    def filled(self, i: int, missing: Mask, fill: Fill) -> Floats:
        """Image i with its missing pixels filled and no others changed, whatever the fill does."""
        image = self.images[i]
        if not missing.any():
            return image
        new = np.asarray(fill(image.copy(), missing.copy(), self.rng(i, _FILL)), dtype=np.float32)
        if new.shape != image.shape:
            raise ValueError(f"fill must keep the image's shape {image.shape}, got {new.shape}")
        return np.where(missing, new, image)

    def ranking(self, i: int, order: str, heat: NDArray[np.floating]) -> Indices:
        """The valid pixels of image i in the order in which they go."""
        if order == "random":
            return rank(np.zeros_like(heat), self.valid[i], self.rng(i, _CONTROL))
        hottest_first = rank(heat, self.valid[i], self.rng(i, _TIES))
        return hottest_first if order == "most" else hottest_first[::-1]


def curves(
    measure: str,
    predict: Predict,
    data: Images,
    heat: ArrayLike,
    target: Sequence[int],
    shares: Sequence[float],
    orders: Sequence[str],
    change: Callable[[int, Mask], Floats],
    batch_size: int,
) -> list[Row]:
    """Rows of every image, order and share; ``change`` makes the image from the pixels chosen."""
    maps = np.asarray(heat)
    if maps.shape != data.valid.shape:
        raise ValueError(f"heat must have the shape of valid, {data.valid.shape}, got {maps.shape}")
    unknown = [o for o in orders if o not in ORDERS]
    if unknown:
        raise ValueError(f"orders must be of {', '.join(ORDERS)}; got {unknown[0]!r}")

    def changed() -> Iterator[Floats]:
        for i in range(len(data.images)):
            for order in orders:
                pixels = data.ranking(i, order, maps[i])
                for share in shares:
                    count = share_count(share, len(pixels))
                    yield change(i, marked(pixels[:count], maps[i].shape))

    before = list(predictions(predict, data.images, batch_size))
    after = predictions(predict, changed(), batch_size)
    cells = itertools.product(range(len(data.images)), orders, shares)
    return [
        Row(data.keys[i], measure, order, share, *prediction_change(before[i], now, target))
        for (i, order, share), now in zip(cells, after, strict=True)
    ]


def predictions(
    predict: Predict, images: Iterable[Floats], batch_size: int
) -> Iterator[NDArray[np.float64]]:
    """The probabilities (K,) of each image, whose batches are made as they are needed."""
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, got {batch_size}")
    stream = iter(images)
    while batch := list(itertools.islice(stream, batch_size)):
        p = np.asarray(predict(np.stack(batch)), dtype=np.float64)
        if p.ndim != 2 or len(p) != len(batch):
            raise ValueError(
                f"predict must give probabilities ({len(batch)}, K) for a batch of {len(batch)}, "
                f"got shape {p.shape}"
            )
        # Wide enough for half precision; logits do not pass.
        if not ((p >= 0).all() and np.allclose(p.sum(1), 1, atol=1e-2)):
            raise ValueError(
                "predict must give probabilities that sum to 1 over the classes, "
                f"got {np.array2string(p[0], precision=4)} for the first image of a batch"
            )
        yield from p


def prediction_change(
    before: NDArray[np.float64], now: NDArray[np.float64], target: Sequence[int]
) -> tuple[float, float, int, bool]:
    """P(target), P(class predicted before), the class predicted now, and whether it is the same."""
    classes = len(now)
    if not target or any(not 0 <= k < classes for k in target) or len(set(target)) != len(target):
        raise ValueError(
            f"target must name different classes of 0..{classes - 1}; got {tuple(target)}"
        )
    first, predicted = int(before.argmax()), int(now.argmax())
    return float(now[list(target)].sum()), float(now[first]), predicted, predicted == first


def as_fill(fill: ArrayLike | Fill, channels: int) -> Fill:
    """A fill from the value of each channel; a function stays as it is."""
    if callable(fill):
        return fill
    values = np.asarray(fill, dtype=np.float32)
    if values.shape != (channels,) or not np.isfinite(values).all():
        raise ValueError(f"fill must be {channels} finite numbers, one a channel, got {fill!r}")

    def constant(image: Floats, _missing: Mask, _rng: np.random.Generator) -> Floats:
        return np.broadcast_to(values[:, None, None], image.shape)

    return constant
