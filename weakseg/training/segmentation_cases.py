"""Cases as a segmentation network sees them, and the way back to their own grid."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from weakseg.config import DataConfig
from weakseg.data.arrays import network_image
from weakseg.data.case_files import case_truth, intensity_of, network_input
from weakseg.data.cases import Case, Labels
from weakseg.data.geometry import Letterbox, mask_to_network, to_original
from weakseg.data.mapped import MappedStore
from weakseg.data.patches import IGNORE, CaseArrays
from weakseg.data.volumes import read_case
from weakseg.data.zscore import scaled_by, scales_of, zscore
from weakseg.masks.region import body_region


class SegmentationCases:
    """Cases as a segmentation network sees them, by index.

    Parameters
    ----------
    cases : sequence of Case
        All images or all volumes.
    labels : Labels
    data : DataConfig
    channels : int
    normalise : {"unit", "zscore"}
    image_size : int
        Longest side of images in pixels; volumes keep their own grid.
    targets : mapping, optional
        index → what is known of a case instead of its mask: uint8 of its own size, 0, 1 and
        `IGNORE`.
    store : MappedStore, optional
        Keeps cases as far as it has room; by default every case is made anew each time.
    """

    def __init__(
        self,
        cases: Sequence[Case],
        labels: Labels,
        data: DataConfig,
        channels: int,
        normalise: str,
        image_size: int,
        targets: Mapping[int, np.ndarray] | None = None,
        store: MappedStore | None = None,
    ) -> None:
        self.cases, self.labels, self.data = list(cases), labels, data
        self.targets = targets or {}
        self.channels, self.normalise, self.size = channels, normalise, image_size
        self._kept: dict[int, CaseArrays] = {}
        self._boxes: dict[int, Letterbox] = {}
        self._store = store

    def __len__(self) -> int:
        return len(self.cases)

    def of_size(self, size: int) -> SegmentationCases:
        """The same cases with images of another size, without truth of their own."""
        if size == self.size:
            return self
        return SegmentationCases(
            self.cases, self.labels, self.data, self.channels, self.normalise, size
        )

    def teach(self, targets: Mapping[int, np.ndarray]) -> None:
        """Take other targets of the same images from now on."""
        self.targets = targets
        for i, held in list(self._kept.items()):
            if i not in targets:
                continue
            assert self._store is not None
            truth = self._store.keep(_target_to_network(targets[i], self._boxes[i]))
            if truth is None:
                del self._kept[i]  # to be made anew each time
            else:
                self._kept[i] = replace(held, truth=truth)

    def truth_is_empty(self, i: int) -> bool:
        """Whether the label says that there is nothing to find."""
        return not self.labels.is_lesion(self.cases[i].label)

    def arrays(self, i: int) -> CaseArrays:
        """Image, truth and region of a case on the network's grid."""
        if i in self._kept:
            return self._kept[i]
        case = self.cases[i]
        read = {"volume": self._volume}.get(case.noun, self._image)
        arrays = read(case, i)
        if self._store is not None and (kept := _kept(arrays, self._store)) is not None:
            self._kept[i] = kept
        return arrays

    def _image(self, case: Case, i: int) -> CaseArrays:
        image, box, region = prepared_image(
            network_input(case, self.data),
            self.channels,
            self.size,
            intensity_of(case, self.data),
            self.normalise,
        )
        self._boxes[i] = box
        truth: np.ndarray | None = None
        if i in self.targets:
            truth = _target_to_network(self.targets[i], box)
        elif (mask := case_truth(case, self.data)) is not None:
            truth = _mask_to_network(mask, box)
        elif self.truth_is_empty(i):
            truth = np.zeros(region.shape, dtype=bool)
        return CaseArrays(image, truth, region, border(image))

    def _volume(self, case: Case, i: int) -> CaseArrays:
        volume = read_case(case)
        region = volume_region(volume.values, volume.roi)
        scales = scales_of(volume.values, region)
        image = scaled_by(volume.values, scales, np.float16)
        fill = scaled_by(_corners(volume.values), scales).mean(axis=1)
        truth: np.ndarray | None = None
        if i in self.targets:
            truth = self.targets[i]
        elif case.mask is not None:
            truth = case_truth(case, self.data, volume.frame)
        elif self.truth_is_empty(i):
            truth = np.broadcast_to(np.False_, region.shape)
        return CaseArrays(image, truth, region, fill)

    def original(self, i: int, probability: np.ndarray) -> np.ndarray:
        """A probability on the network's grid, laid over the case's own; call after `arrays`."""
        if self.cases[i].noun == "volume":
            if self.cases[i].roi is None:  # reading it again would take more than all else
                return probability
            return probability * self.arrays(i).region
        return to_original(probability, self._boxes[i])


def _kept(held: CaseArrays, store: MappedStore) -> CaseArrays | None:
    """A case as a store keeps it; None where there is no room."""
    # In one, for near the limit a part would take room anew whenever the case is looked at.
    kept = store.keep_all([held.image, held.region, *([] if held.truth is None else [held.truth])])
    if kept is None:
        return None
    image, region, *truth = kept
    return CaseArrays(image, truth[0] if truth else None, region, held.fill)


def _mask_to_network(mask: np.ndarray, box: Letterbox) -> np.ndarray:
    """What a network is trained on.

    A pixel of which exactly half is lesion is background, as a probability of exactly one half is
    in the network's masks. Filters mark it, but networks trained from now on would be others.
    """
    return mask_to_network(mask, box, rule="most")


def _target_to_network(target: np.ndarray, box: Letterbox) -> np.ndarray:
    """A target of the image's own size on the network's grid; beside the image is background."""
    lesion = _mask_to_network(target == 1, box)
    ignored = _mask_to_network(target == IGNORE, box)
    return np.select([lesion, ignored], [1, IGNORE], 0).astype(np.uint8)


def prepared_image(
    image: np.ndarray, channels: int, size: int, intensity: str, normalise: str
) -> tuple[np.ndarray, Letterbox, np.ndarray]:
    """An image as a network takes it, where it lies in the square, and its body."""
    planes, box = network_image(image, channels, size, intensity)
    inside = np.zeros(planes.shape[1:], dtype=bool)
    rows, columns = slice(box.top, box.top + box.height), slice(box.left, box.left + box.width)
    inside[rows, columns] = body_region(np.moveaxis(planes[:, rows, columns], 0, -1))
    if normalise == "zscore":
        planes = zscore(planes, inside)
    # As for the classifiers: the same numbers whether images are kept or not.
    return planes.astype(np.float16), box, inside


def volume_region(values: np.ndarray, roi: np.ndarray | None) -> np.ndarray:
    """The region of interest: the one that is named, else what differs from an even border.

    Volumes whose corners share one value in every modality are taken as a body before an even
    background; others are region throughout.
    """
    if roi is not None:
        return roi
    corners = _corners(values)
    everywhere = np.broadcast_to(np.True_, values.shape[1:])  # which takes no memory
    if (corners != corners[:, :1]).any():
        return everywhere
    region = np.zeros(values.shape[1:], dtype=bool)
    for channel, corner in zip(values, corners[:, 0], strict=True):
        for x, part in enumerate(channel):
            region[x] |= part != corner
    return region if region.any() else everywhere


def border(image: np.ndarray) -> np.ndarray:
    """Intensity outside an image, (C,): the mean of its corners."""
    return _corners(image).astype(np.float32).mean(axis=1)


def _corners(image: np.ndarray) -> np.ndarray:
    """The corner voxels of every channel, (C, 4 or 8)."""
    for axis in range(1, image.ndim):
        image = image.take([0, -1], axis=axis)
    return image.reshape(len(image), -1)
