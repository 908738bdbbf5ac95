"""Cases as a segmentation network sees them, and the way back to their own grid."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from weakseg.config import DataConfig
from weakseg.data.arrays import network_image
from weakseg.data.case_files import case_frame, case_truth, intensity_of, network_input
from weakseg.data.cases import Case, Labels
from weakseg.data.geometry import Letterbox, letterbox, mask_to_network, to_original
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

    def arrays(self, i: int, *, truth: bool = True) -> CaseArrays:
        """Image, truth and region of a case on the network's grid.

        With ``truth=False`` no mask is opened, and there may be none.
        """
        held = self._kept.get(i)
        if held is None:
            read = {"volume": self._volume}.get(self.cases[i].noun, self._image)
            held = self._keep(i, read(self.cases[i], i))
        if not truth or held.truth is not None:
            return held
        known = self._truth(i, held.region.shape)
        if known is None:
            return held
        if i not in self._kept:
            return replace(held, truth=known)
        assert self._store is not None
        # That there is nothing to find takes no memory.
        kept = self._store.keep(known) if any(known.strides) else known
        if kept is not None:
            self._kept[i] = replace(held, truth=kept)
        return replace(held, truth=known)

    def _keep(self, i: int, held: CaseArrays) -> CaseArrays:
        """As it is, and kept where there is room."""
        # In one, for near the limit a part would take room anew whenever the case is looked at.
        parts = None if self._store is None else self._store.keep_all([held.image, held.region])
        if parts is None:
            return held
        self._kept[i] = CaseArrays(parts[0], None, parts[1], held.fill)
        return self._kept[i]

    def _image(self, case: Case, i: int) -> CaseArrays:
        image, self._boxes[i], region = prepared_image(
            network_input(case, self.data),
            self.channels,
            self.size,
            intensity_of(case, self.data),
            self.normalise,
        )
        return CaseArrays(image, None, region, border(image))

    def _volume(self, case: Case, i: int) -> CaseArrays:
        volume = read_case(case)
        region = volume_region(volume.values, volume.roi)
        scales = scales_of(volume.values, region)
        image = scaled_by(volume.values, scales, np.float16)
        fill = scaled_by(_corners(volume.values), scales).mean(axis=1)
        return CaseArrays(image, None, region, fill)

    def _truth(self, i: int, shape: tuple[int, ...]) -> np.ndarray | None:
        """What is known of a case, on the network's grid; call after its image was read."""
        case = self.cases[i]
        whole = case.noun == "volume"
        if i in self.targets:
            target = self.targets[i]
            return target if whole else _target_to_network(target, self._boxes[i])
        healthy = self.truth_is_empty(i)
        if case.mask is not None and not (healthy and self.targets):  # told by labels alone
            mask = case_truth(case, self.data, case_frame(case) if whole else None)
            return mask if whole or mask is None else _mask_to_network(mask, self._boxes[i])
        return np.broadcast_to(np.False_, shape) if healthy else None

    def original(self, i: int, probability: np.ndarray) -> np.ndarray:
        """A probability on the network's grid, laid over the case's own; call after `arrays`."""
        if self.cases[i].noun == "volume":
            if self.cases[i].roi is None:  # reading it again would take more than all else
                return probability
            return probability * self.arrays(i, truth=False).region
        return to_original(probability, self._boxes[i])


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


def lesion_is_seen(target: np.ndarray, size: int) -> bool:
    """Whether a network that sees images of a size is shown any lesion of a target.

    Parameters
    ----------
    target : (M, N) or (X, Y, Z) ndarray of uint8
        0, 1 and `IGNORE`; volumes are seen on their own grid.
    size : int
        The longest side of images.
    """
    if target.ndim == 2:
        target = _target_to_network(target, letterbox((target.shape[0], target.shape[1]), size))
    return bool((target == 1).any())


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
