"""What the training loop needs to train a segmentation network, on images and on volumes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from weakseg.config import AUTO, DataConfig, PatchAugmentConfig, SegmenterConfig
from weakseg.data.arrays import filled, network_image
from weakseg.data.augment import augment_pairs
from weakseg.data.cases import Case, Labels
from weakseg.data.geometry import Letterbox, mask_to_network, to_original
from weakseg.data.images import read_image
from weakseg.data.mapped import MappedStore
from weakseg.data.patches import IGNORE, CaseArrays, PatchSampler, PatchShape, cut, lesion_share
from weakseg.data.truth import read_true_mask
from weakseg.data.volumes import read_case, zscore
from weakseg.masks.region import body_region
from weakseg.training.infer import as_batch, lesion_probability
from weakseg.training.loop import require_finite, seed_epoch
from weakseg.training.losses import make_loss, voxel_cross_entropy
from weakseg.training.prior import recalibrate

PIXELS_AT_ONCE = 2**21
"""Pixels of 2D images that are predicted together: 32 images of 256²."""

PRIOR_DRAWS = 1000
"""Patches that are drawn to measure how often the samplers meet a lesion."""


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

    def truth_is_empty(self, i: int) -> bool:
        """Whether the label says that there is nothing to find."""
        return not self.labels.is_lesion(self.cases[i].label)

    def arrays(self, i: int) -> CaseArrays:
        """Image, truth and region of a case on the network's grid."""
        if i in self._kept:
            return self._kept[i]
        case = self.cases[i]
        held = self._volume(case, i) if case.dims == 3 else self._image(case, i)
        if self._store is not None and (kept := _kept(held, self._store)) is not None:
            self._kept[i] = kept
        return held

    def _image(self, case: Case, i: int) -> CaseArrays:
        image, box, region = prepared_image(
            read_image(case.image), self.channels, self.size, self.data.intensity, self.normalise
        )
        self._boxes[i] = box
        truth: np.ndarray | None = None
        if i in self.targets:
            truth = _target_to_network(self.targets[i], box)
        elif case.mask is not None:
            mask = read_true_mask(case.mask, self.data.mask_rule)
            truth = _mask_to_network(mask, box)
        elif self.truth_is_empty(i):
            truth = np.zeros(region.shape, dtype=bool)
        return CaseArrays(image, truth, region, border(image))

    def _volume(self, case: Case, i: int) -> CaseArrays:
        volume = read_case(case)
        region = volume_region(volume.values, volume.roi)
        image = zscore(volume.values, region)
        truth: np.ndarray | None = None
        if i in self.targets:
            truth = self.targets[i]
        elif case.mask is not None:
            truth = read_true_mask(case.mask, self.data.mask_rule, case.image, volume.frame)
        elif self.truth_is_empty(i):
            truth = np.zeros(region.shape, dtype=bool)
        return CaseArrays(image.astype(np.float16), truth, region, border(image))

    def original(self, i: int, probability: np.ndarray) -> np.ndarray:
        """A probability on the network's grid, laid over the case's own; call after `arrays`."""
        if self.cases[i].dims == 3:
            held = self.arrays(i)
            return probability * held.region if self.cases[i].roi is not None else probability
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
    if (corners != corners[:, :1]).any():
        return np.ones(values.shape[1:], dtype=bool)
    region = (values != corners[:, :1, None, None]).any(axis=0)
    return region if region.any() else np.ones_like(region)


def border(image: np.ndarray) -> np.ndarray:
    """Intensity outside an image, (C,): the mean of its corners."""
    return _corners(image).astype(np.float32).mean(axis=1)


def _corners(image: np.ndarray) -> np.ndarray:
    """The corner voxels of every channel, (C, 4 or 8)."""
    for axis in range(1, image.ndim):
        image = image.take([0, -1], axis=axis)
    return image.reshape(len(image), -1)


def patch_shape(model: Any, patch: int | str, dims: int) -> PatchShape | None:
    """Sides of a training patch of a network; None for whole images.

    The output may be larger than asked for, where the network takes some sizes only.
    """
    if patch == "whole":
        return None
    window = int(model.input_size(int(patch)))
    output = int(model.output_size(window))
    return PatchShape((output,) * dims, (window,) * dims, int(model.margin[0]))


def whole_shape(model: Any, size: Sequence[int]) -> PatchShape:
    """The patch whose output covers a whole image."""
    window = tuple(int(model.input_size(n)) for n in size)
    return PatchShape(tuple(int(model.output_size(w)) for w in window), window, model.margin[0])


class SegmenterTask:
    """A loss on sampled patches or images; validated by the Dice of whole images.

    Parameters
    ----------
    config : SegmenterConfig
        Resolved, see `weakseg.training.recipes.resolve`.
    model : nn.Module
        Says how its patches look.
    data : SegmentationCases
    train, val : sequence of int
        Indices of cases; those to train on have truth, those of ``val`` without are left out.
    seed : int
    device : torch.device
    """

    def __init__(
        self,
        config: SegmenterConfig,
        model: nn.Module,
        data: SegmentationCases,
        train: Sequence[int],
        val: Sequence[int],
        seed: int,
        device: Any,
    ) -> None:
        self.config, self.data, self.seed, self.device = config, data, seed, device
        self.model = model
        self.dims = data.cases[0].dims if data.cases else 2
        self.train = list(train)
        self.lesions = [i for i in self.train if not data.truth_is_empty(i)]
        self.val = val_cases(data, val, config.validation_cases)
        self.shape = patch_shape(model, config.patch, self.dims)
        self.sampler = self._sampler(config.sampler)
        self.compute = make_loss(config.loss)
        self.batch = int(config.batch_size)
        self.steps = self.steps_of(config, len(self.train))
        self._pool = ThreadPoolExecutor(2)

    @staticmethod
    def steps_of(config: SegmenterConfig, cases: int) -> int:
        """Batches an epoch: as configured, or one pass over so many cases."""
        if config.steps != AUTO:
            return int(config.steps)
        return max(1, cases // int(config.batch_size))

    def _sampler(self, kind: str) -> PatchSampler:
        return PatchSampler(
            self.data.arrays, self.train, self.lesions, kind, self.config.foreground, self.shape
        )

    def priors(self) -> tuple[float, float]:
        """Share of lesion voxels that the sampler gives, and that uniform sampling would give."""

        def share(kind: str) -> float:
            return lesion_share(self._sampler(kind), PRIOR_DRAWS, self.seed, self._inside)

        return share(self.config.sampler), share("uniform")

    def _inside(self, truth: Any, shape: PatchShape | None = None) -> Any:
        shape = shape or self.shape
        assert shape is not None
        cuts = tuple(slice(shape.before, shape.before + o) for o in shape.output)
        return truth[(..., *cuts)]

    def batches(self, epoch: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Windows (B, C, *window) and the truth of their outputs (B, *output)."""
        seed_epoch(self.seed, epoch)
        draws = self.sampler.draw(np.random.default_rng([self.seed, epoch]))
        augmentation = self.config.augment
        assert isinstance(augmentation, PatchAugmentConfig)
        for _ in range(self.steps):
            chosen = [next(draws) for _ in range(self.batch)]
            # Cases are drawn with replacement, and two threads must not make one twice.
            distinct = list(dict.fromkeys(i for i, _ in chosen))
            made = dict(zip(distinct, self._pool.map(self.data.arrays, distinct), strict=True))
            held = [made[i] for i, _ in chosen]
            shape = self.shape or whole_shape(self.model, held[0].region.shape)
            # What pads a whole image so that a network takes it lies behind its last voxel.
            starts = [s if s is not None else (0,) * self.dims for _, s in chosen]
            cuts = [cut(h, s, shape) for h, s in zip(held, starts, strict=True)]
            windows = as_batch([w for w, _ in cuts], self.device)
            truths = torch.from_numpy(np.stack([t for _, t in cuts])).to(self.device)
            fill = as_batch([h.fill for h in held], self.device)
            windows, truths = augment_pairs(windows, truths, augmentation, fill)
            truths = self._inside(truths, shape).long()
            if self.dims == 2:
                windows = windows.contiguous(memory_format=torch.channels_last)
            yield windows, truths

    def loss(self, model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        """The configured loss; voxels outside the images count nothing."""
        windows, truths = batch
        logits = model(windows)
        cut_to = (slice(None), slice(None), *(slice(0, n) for n in truths.shape[1:]))
        return self.compute(logits[cut_to], truths)

    def validate(self, model: nn.Module) -> dict[str, float]:
        """Figures of the validation cases.

        Mean Dice over lesions, the share of healthy images with any mark, and the mean
        cross-entropy a voxel, which tells masks of equal Dice apart.
        """
        dice, alarms, losses = [], [], []
        for i, p in predict(model, self.data, self.val, self.config, self.device):
            require_finite(p)
            truth = self.data.arrays(i).truth
            assert truth is not None
            found, truth = p > 0.5, truth == 1
            losses.append(voxel_cross_entropy(p, truth))
            if self.data.truth_is_empty(i):
                alarms.append(float(found.any()))
            elif truth.any():
                dice.append(2 * float((found & truth).sum()) / float(found.sum() + truth.sum()))
        figures = {"val_dice": dice, "val_false_alarms": alarms, "val_loss": losses}
        return {k: float(np.mean(v)) if v else float("nan") for k, v in figures.items()}


def val_cases(data: SegmentationCases, val: Sequence[int], most: int) -> list[int]:
    """Evenly spaced validation cases: at most so many lesions with a mask, and healthy ones."""

    def some(indices: list[int]) -> list[int]:
        if len(indices) <= most:
            return indices
        return [indices[k] for k in np.linspace(0, len(indices) - 1, most).round().astype(int)]

    lesions = [i for i in val if data.cases[i].mask is not None and not data.truth_is_empty(i)]
    return sorted(some(lesions) + some([i for i in val if data.truth_is_empty(i)])) if most else []


def cases_at_once(image_size: int) -> int:
    """How many 2D images of so many pixels a side are predicted together."""
    return max(1, min(32, PIXELS_AT_ONCE // image_size**2))


def predict(
    model: nn.Module,
    data: SegmentationCases,
    indices: Sequence[int],
    config: SegmenterConfig,
    device: Any,
    priors: tuple[float, float] | None = None,
    *,
    fill: bool = False,
) -> Iterator[tuple[int, np.ndarray]]:
    """Probabilities of a lesion on the network's grid, case by case.

    Parameters
    ----------
    model : nn.Module
        In evaluation mode.
    data : SegmentationCases
    indices : sequence of int
    config : SegmenterConfig
        Resolved.
    device : torch.device
    priors : tuple of float, optional
        See `SegmenterTask.priors`; where given and asked for, probabilities are recalibrated.
    fill : bool, optional
        Give the network batches of one size, see `weakseg.data.arrays.filled`: a case's answer
        does not depend on its company then.
    """
    flat = bool(data.cases) and data.cases[0].dims == 2
    together = cases_at_once(data.size) if flat else 1
    for start in range(0, len(indices), together):
        chosen = [int(i) for i in indices[start : start + together]]
        held = [data.arrays(i) for i in chosen]
        image = as_batch([h.image for h in held], device)
        outside = as_batch([h.fill for h in held], device)
        if flat:
            image = image.contiguous(memory_format=torch.channels_last)
        if flat and fill:
            image = filled(image, together)
            outside = outside[torch.arange(together).clamp(max=len(held) - 1)]
        with torch.no_grad():
            p = lesion_probability(
                model,
                image,
                outside,
                tile=config.tile,
                overlap=config.overlap,
                flips=config.flips,
            )
        for i, probability in zip(chosen, p[: len(held)].cpu().numpy(), strict=True):
            if priors is not None and config.recalibrate and 0 < min(priors) <= max(priors) < 1:
                yield i, recalibrate(probability, *priors).astype(np.float32)
            else:
                yield i, probability


__all__ = ["IGNORE", "SegmentationCases", "SegmenterTask", "predict"]
