"""Filtered images of a whole set, made once and kept where they fit."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from weakseg.config import Condition
from weakseg.data.arrays import ImageBatches
from weakseg.data.cases import CaseSet
from weakseg.data.formats.reading import DECODERS
from weakseg.data.mapped import MappedStore
from weakseg.filtering.filters import channel_means, filtered_image
from weakseg.filtering.selectors import Selector
from weakseg.runs import atomic_path


def training_means(
    images: ImageBatches, train: Sequence[int], valid: Callable[[int], NDArray[np.bool_]]
) -> NDArray[np.float32]:
    """Mean of each channel over the training images, without their padding, (C,)."""
    total = np.zeros(images.channels + 1)
    for start in range(0, len(train), 64):
        chosen = list(train[start : start + 64])
        for i, image in zip(chosen, images.images(chosen).numpy(), strict=True):
            total += channel_means(image, valid(i))
    return (total[:-1] / max(total[-1], 1)).astype(np.float32)


class FilteredImages:
    """Images of cases as a condition shows them, by index; as `ImageBatches` gives raw ones.

    Parameters
    ----------
    images : ImageBatches
    selector : Selector
    condition : Condition
    means : (C,) ndarray of float
        See `training_means`.

    Attributes
    ----------
    kept_area : (N,) ndarray of float
        The share of each image that is kept; NaN until it was made.
    """

    def __init__(
        self,
        images: ImageBatches,
        selector: Selector,
        condition: Condition,
        means: NDArray[np.float32],
    ) -> None:
        self.raw, self.cases, self.data = images, images.cases, images.data
        self.selector, self.condition, self.means = selector, condition, means
        self.kept_area = np.full(len(images), np.nan)
        self._store = None if images.store is None else MappedStore(images.store.folder)
        self._at = np.full(len(images), -1, dtype=np.int64)
        self._pool = ThreadPoolExecutor(DECODERS)

    def __len__(self) -> int:
        return len(self.cases)

    def _make(self, i: int) -> NDArray[np.float16]:
        if self._store is not None and self._at[i] >= 0:
            return self._store.get(int(self._at[i]), self.raw.shape, np.float16)
        image = self.raw.images([i]).numpy()[0]
        raw = self.condition.source == "raw"
        mark = None if raw else self.selector.selection(i, self.condition)
        filtered, self.kept_area[i] = filtered_image(
            image,
            mark,
            self.condition,
            self.means,
            self.selector.valid(i),
            self.selector.rng(i, "noise"),
        )
        half = filtered.astype(np.float16)
        at = None if self._store is None else self._store.put(half)
        if at is not None:
            self._at[i] = at
        return half

    def images(self, indices: Sequence[int] | np.ndarray) -> Tensor:
        """(B, C, S, S) float32; in [0, 1] but for the noise of the imputation."""
        made = list(self._pool.map(self._make, (int(i) for i in indices)))
        return torch.from_numpy(np.stack(made)).float()


def write_examples(filtered: FilteredImages, cases: CaseSet, path: Path) -> None:
    """Two test images with a lesion and one without, side by side as the network sees them."""
    test, is_lesion = cases.indices("test"), cases.labels.is_lesion
    ill = [i for i in test if is_lesion(cases.cases[i].label)]
    healthy = [i for i in test if not is_lesion(cases.cases[i].label)]
    shown = [g[len(g) * k // 3] for g, k in ((ill, 1), (ill, 2), (healthy, 1)) if g]
    if not shown:
        return
    strip = np.concatenate(list(filtered.images(shown).numpy()), axis=2)
    pixels = (np.clip(strip, 0, 1) * 255).round().astype(np.uint8)
    picture = Image.fromarray(pixels[0] if len(pixels) == 1 else np.moveaxis(pixels, 0, 2))
    with atomic_path(path, flushed=False) as part, part.open("wb") as f:
        picture.save(f, format="PNG")
