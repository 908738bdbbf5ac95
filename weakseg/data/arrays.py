"""Images as the network sees them: decoded ahead, letterboxed, kept where they fit."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from copy import copy
from functools import cached_property
from pathlib import Path
from threading import Lock
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from weakseg.config import DataConfig
from weakseg.data.case_files import intensity_of, network_input
from weakseg.data.cases import Case, CaseSet
from weakseg.data.formats.reading import DECODERS
from weakseg.data.geometry import Letterbox, letterbox, to_network
from weakseg.data.images import scale_intensity
from weakseg.data.mapped import MappedStore
from weakseg.data.slices import ScaledVolume, held_volume, volume_frame
from weakseg.data.volume_grid import VolumeBox, volume_to_network
from weakseg.data.volumes import read_case, smoothed_modality
from weakseg.errors import DataError
from weakseg.prefetch import map_ahead


def channels_of(cases: CaseSet, data: DataConfig, grey: bool) -> int:
    """1 or 3, by the configuration or, for ``auto``, by whether all images are ``grey``.

    Where there may be further modalities, their number counts.
    """
    if cases.sliced:
        return 3 if data.neighbours or data.channels == "rgb" else 1
    if cases.formats.further:
        return 1 + len(cases.cases[0].more)
    if data.channels == "auto":
        return 1 if grey else 3
    return 1 if data.channels == "grey" else 3


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


class Images(Protocol):
    """The images of cases by index, raw or filtered."""

    cases: list[Case]

    def images(self, indices: Sequence[int] | np.ndarray) -> Tensor:
        """(B, C, S, S), or volumes (B, C, D, S, S), float32, not normalised."""


class ImageBatches:
    """Images of cases as tensors, by index.

    Parameters
    ----------
    cases : sequence of Case
    data : DataConfig
    channels : {1, 3}
    store : MappedStore, optional
        Keeps what was decoded, as half precision, as far as it has room.
    """

    def __init__(
        self,
        cases: Sequence[Case],
        data: DataConfig,
        channels: int,
        store: MappedStore | None = None,
    ) -> None:
        self.cases, self.data, self.channels, self.store = list(cases), data, channels, store
        self.dims = self.cases[0].dims if self.cases else 2
        self._at = np.full(len(self.cases), -1, dtype=np.int64)
        self._sides = np.zeros((len(self.cases), self.dims), dtype=np.int32)
        self._pool, self._keeps = ThreadPoolExecutor(DECODERS), True
        self._slices: dict[Path, list[int]] = {}
        for i, case in enumerate(self.cases):
            if case.slice is not None:
                self._slices.setdefault(case.image, []).append(i)
        self._locks = {image: Lock() for image in self._slices}

    def __len__(self) -> int:
        return len(self.cases)

    @cached_property
    def depth(self) -> int | None:
        """Slices of a whole volume that a classifier sees; None of images."""
        # A network's arrays have an axis more for volumes: here the question cannot be spared.
        return None if self.dims == 2 else volume_depth(self.cases, self.data)

    @property
    def shape(self) -> tuple[int, ...]:
        """Of an image (C, S, S), or of a volume (C, D, S, S), as a classifier sees it."""
        slices = () if self.depth is None else (self.depth,)
        return self.channels, *slices, self.data.image_size, self.data.image_size

    def once(self) -> ImageBatches:
        """The same images for a single pass: what is kept is used, and nothing more is kept."""
        other = copy(self)
        other._keeps = False
        return other

    def _decode(self, i: int) -> np.ndarray:
        if self.store is None or not self._keeps or self.cases[i].slice is None:
            return self._decoded(i)
        # All slices at once while their volume is in memory: epochs take them in any order.
        with self._locks[self.cases[i].image]:
            if self._at[i] < 0:
                for k in self._slices[self.cases[i].image]:
                    self._decoded(k)
            return self._decoded(i)

    def _decoded(self, i: int) -> np.ndarray:
        if self.store is not None and self._at[i] >= 0:
            return self.store.get(int(self._at[i]), self.shape, np.float16)
        array, box = classifier_input(self.cases[i], self.data, self.channels, self.depth)
        self._sides[i] = box.original
        # Rounded to half precision whether it is kept or not: a set is then trained on the same
        # numbers on machines of any size.
        array = halved(array)
        if self.store is not None and self._keeps:
            at = self.store.put(array)
            self._at[i] = -1 if at is None else at
        return array

    def images(self, indices: Sequence[int] | np.ndarray) -> Tensor:
        """(B, C, S, S) or (B, C, D, S, S) float32 in [0, 1]."""
        arrays = list(self._pool.map(self._decode, (int(i) for i in indices)))
        return torch.from_numpy(np.stack(arrays)).float()

    def boxes(self, indices: Sequence[int] | np.ndarray) -> list[Letterbox | VolumeBox]:
        """Where the images lie in their squares; call after `images`."""
        sides, size = (
            self._sides[np.asarray(indices, dtype=np.int64)].tolist(),
            self.data.image_size,
        )
        if self.depth is not None:
            return [VolumeBox((x, y, z), size, self.depth) for x, y, z in sides]
        return [letterbox((height, width), size) for height, width in sides]


def halved(array: np.ndarray) -> np.ndarray:
    """Singles rounded to half precision, as numpy rounds them, in a fortieth of the time."""
    if not array.flags.writeable or min(array.strides, default=0) < 0:  # torch takes neither
        array = array.copy(order="K")  # the layout stays: batches are stacked in it
    return torch.from_numpy(array).half().numpy()


def classifier_input(
    case: Case, data: DataConfig, channels: int, depth: int | None
) -> tuple[np.ndarray, Letterbox | VolumeBox]:
    """A case as a classifier sees it, and where it lies in that.

    Parameters
    ----------
    case : Case
    data : DataConfig
    channels : {1, 3}
    depth : int or None
        Slices of a whole volume that it sees; None for a classifier of images.

    Returns
    -------
    (C, S, S) or (C, D, S, S) ndarray of float32
        In [0, 1].
    Letterbox or VolumeBox

    Raises
    ------
    DataError
        If a file cannot be read, or a volume has other modalities than the classifier sees.
    """
    if depth is None:
        image, how = network_input(case, data), intensity_of(case, data)
        return network_image(image, channels, data.image_size, how)
    if 1 + len(case.more) != channels:
        raise DataError(
            f"The classifier takes volumes of {channels} channels.",
            where=case.shown,
            found=f"{1 + len(case.more)}",
            fix="name the modalities in a manifest with the columns image, image2, …",
        )
    return network_volume(case, data, depth)


def volume_depth(cases: Sequence[Case], data: DataConfig) -> int:
    """How many slices of whole volumes a classifier sees: as configured, or the most there are."""
    if data.depth != "auto":
        return int(data.depth)
    return max(volume_frame(c.image).shape[2] for c in cases)


def network_volume(case: Case, data: DataConfig, depth: int) -> tuple[np.ndarray, VolumeBox]:
    """A whole volume as a classifier sees it, (C, D, S, S) float32 in [0, 1], a channel a modality.

    Each modality is scaled by its own range, see `weakseg.data.slices.scaled_volume`; one that is
    noisier than ``case.smooth_above`` is smoothed.

    Raises
    ------
    DataError
        If a file cannot be read, or modalities lie on different grids.
    """
    files = (case.image, *case.more)
    volumes = [held_volume(f, data.intensity, data.window) for f in files]
    x, y, z = volumes[0].raw.shape
    box = VolumeBox((x, y, z), data.image_size, depth)
    for volume in volumes:
        if volume.raw.shape != (x, y, z):
            read_case(case)  # says how their grids differ
            raise DataError("Two files of a case lie on different grids.", where=case.shown)
    seen = (_smoothed(case, k, v) for k, v in enumerate(volumes))
    return np.stack([volume_to_network(v, box) for v in seen]), box


def _smoothed(case: Case, k: int, volume: ScaledVolume) -> ScaledVolume:
    """A modality as it is, or smoothed and in the same range."""
    made = smoothed_modality(case, k, volume.values)
    if made is None:
        return volume
    return ScaledVolume(made, volume.value(volume.low), volume.value(volume.high))


def channels_last(batch: Tensor) -> Tensor:
    """A batch of images with their channels last, which is faster; one of volumes as it is."""
    return batch.contiguous(memory_format=torch.channels_last) if batch.ndim == 4 else batch


def filled(batch: Tensor, size: int) -> Tensor:
    """A batch of at most ``size`` images, its last one repeated until it holds so many.

    Which kernels a network takes, and so in what order it adds, depends on the number of images.
    Filled batches give an image the same answer whatever its company, to the last bit.
    """
    lacks = size - len(batch)
    if lacks <= 0:
        return batch
    whole = torch.cat([batch, batch[-1:].expand(lacks, *batch.shape[1:])])
    return channels_last(whole)


def batches_ahead(
    images: Images, batches: Iterable[Sequence[int] | np.ndarray], device: Any
) -> Iterator[Tensor]:
    """Batches of images or volumes on a device; the next ones are decoded meanwhile.

    Images have their channels last.

    Parameters
    ----------
    images : Images
    batches : iterable of sequence of int
        Indices of the images of each batch.
    device : torch.device

    Yields
    ------
    (B, C, S, S) or (B, C, D, S, S) Tensor
        float32.
    """
    pinned = torch.device(device).type == "cuda"

    def make(chosen: Sequence[int] | np.ndarray) -> Tensor:
        batch = channels_last(images.images(chosen))
        return batch.pin_memory() if pinned else batch

    for batch in map_ahead(make, batches, ahead=2):
        yield batch.to(device, non_blocking=True)
