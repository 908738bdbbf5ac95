"""What the training loop needs to train a segmentation network, on images and on volumes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from weakseg.config import AUTO, PatchAugmentConfig, SegmenterConfig
from weakseg.data.arrays import filled
from weakseg.data.augment import augment_pairs, blended
from weakseg.data.patches import IGNORE, CaseArrays, PatchSampler, PatchShape, cut, lesion_share
from weakseg.errors import ConfigError
from weakseg.models.cascade import Cascade
from weakseg.models.unetpp import pruned
from weakseg.training.correction import Correction
from weakseg.training.infer import as_batch, lesion_probability
from weakseg.training.loop import require_finite, seed_epoch
from weakseg.training.losses import make_loss, voxel_cross_entropy
from weakseg.training.prior import are_shares, recalibrate
from weakseg.training.segmentation_cases import SegmentationCases
from weakseg.training.supervision import supervised_loss
from weakseg.training.together import Share

Network = TypeVar("Network", bound=nn.Module)

PIXELS_AT_ONCE = 2**21
"""Pixels of 2D images that are predicted together: 32 images of 256²."""

PIXELS_ON_CPU = 2**17
"""Pixels of 2D images that a network sees at once on a processor: 8 images of 128², 2 of 256².

A U-Net of 32 maps takes 0.4 GB more for four times as many, and is no faster.
"""

PRIOR_DRAWS = 1000
"""Patches that are drawn to measure how often the samplers meet a lesion."""


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
    share : Share, optional
        The rows of each batch that this process makes; default: all.
    heats : callable, optional
        Index of a case → (S, S) ndarray: the heatmap that is blended into a training image, where
        ``augment.heat`` asks for it.
    what : str, optional
        For what is said on the way.

    Attributes
    ----------
    correction : Correction or None
        Of the targets, where it is asked for.
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
        share: Share | None = None,
        heats: Callable[[int], np.ndarray] | None = None,
        what: str = "segmenter",
    ) -> None:
        self.heats = heats
        self.config, self.data, self.seed, self.device = config, data, seed, device
        self.share = share or Share()
        self.model = model
        self.dims = data.cases[0].dims if data.cases else 2
        self.train = list(train)
        self.lesions = [i for i in self.train if not data.truth_is_empty(i)]
        self.val = val_cases(data, val, config.validation_cases)
        self.shape = patch_shape(model, config.patch, self.dims)
        self.sampler = self._sampler(config.sampler)
        self.compute = make_loss(config.loss)
        self.batch = int(config.batch_size)
        self.share.require_even(self.batch, "segmenter.batch_size")
        self.steps = self.steps_of(config, len(self.train))
        self._pool = ThreadPoolExecutor(2)
        self.correction: Correction | None = None
        if config.correct is not None:
            _require_one_process(self.share)
            self.correction = Correction(config, data, predict, device, what)

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
        """Windows (b, C, *window), the own rows of B, and the truth of all outputs (B, *output)."""
        seed_epoch(self.seed, epoch)
        if isinstance(self.model, Cascade):
            self.model.coarse_alone = epoch < self.model.turns(int(self.config.epochs))[0]
        draws = self.sampler.draw(np.random.default_rng([self.seed, epoch]))
        augmentation = self.config.augment
        assert isinstance(augmentation, PatchAugmentConfig)
        for _ in range(self.steps):
            own = self.share.own(self.batch)
            chosen = [next(draws) for _ in range(self.batch)][own]
            # Cases are drawn with replacement, and two threads must not make one twice.
            distinct = list(dict.fromkeys(i for i, _ in chosen))
            made = dict(zip(distinct, self._pool.map(self.data.arrays, distinct), strict=True))
            arrays = [made[i] for i, _ in chosen]
            shape = self.shape or whole_shape(self.model, arrays[0].region.shape)
            # What pads a whole image so that a network takes it lies behind its last voxel.
            starts = [s if s is not None else (0,) * self.dims for _, s in chosen]
            seen = [self._with_heat(h, i) for h, (i, _) in zip(arrays, chosen, strict=True)]
            cuts = [cut(h, s, shape) for h, s in zip(seen, starts, strict=True)]
            windows = as_batch([w for w, _ in cuts], self.device)
            truths = torch.from_numpy(np.stack([t for _, t in cuts])).to(self.device)
            fill = as_batch([h.fill for h in arrays], self.device)
            windows, truths, fill = (
                self.share.spread(rows, self.batch) for rows in (windows, truths, fill)
            )
            if self.heats is not None:
                windows = blended(windows[:, :-1], windows[:, -1:], augmentation.heat)
            windows, truths = augment_pairs(windows, truths, augmentation, fill)
            truths = self.share.gathered(self._inside(truths, shape).long()[own])
            windows = windows[own]
            if self.dims == 2:
                windows = windows.contiguous(memory_format=torch.channels_last)
            yield windows, truths

    def _with_heat(self, held: CaseArrays, i: int) -> CaseArrays:
        """A case whose last channel is its heat, which patches are cut out of alike."""
        if self.heats is None:
            return held
        image = np.concatenate([held.image, self.heats(i)[None]], axis=0)
        return replace(held, image=image, fill=np.append(held.fill, np.float32(0)))

    def loss(self, model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        """The configured loss; voxels outside the images count nothing."""
        windows, truths = batch
        return supervised_loss(self.compute, _in_training(model, windows), truths)

    def validate(self, model: nn.Module) -> dict[str, float]:
        """Figures of the validation cases.

        Mean Dice over lesions, the share of healthy images with any mark, and the mean
        cross-entropy a voxel, which tells masks of equal Dice apart. Where labels are corrected,
        those of `Correction.after_epoch` besides.
        """
        dice, alarms, losses = [], [], []
        for i, p in predict(model, self.data, self.val, self.config, self.device):
            require_finite(p)
            truth = self.data.arrays(i).truth
            assert truth is not None
            mask, truth = p > 0.5, truth == 1
            losses.append(voxel_cross_entropy(p, truth))
            if self.data.truth_is_empty(i):
                alarms.append(float(mask.any()))
            elif truth.any():
                dice.append(2 * float((mask & truth).sum()) / float(mask.sum() + truth.sum()))
        figures = {"val_dice": dice, "val_false_alarms": alarms, "val_loss": losses}
        own = self.correction.after_epoch(model) if self.correction is not None else {}
        return {k: float(np.mean(v)) if v else float("nan") for k, v in figures.items()} | own


def _require_one_process(share: Share) -> None:
    if share.world > 1:
        raise ConfigError(
            "Labels are corrected by one process alone.",
            where="segmenter.correct",
            found=f"{share.world} processes",
            fix="launch one process, or take it out",
        )


def _in_training(model: nn.Module, windows: Tensor) -> Any:
    """What the network gives for a batch; a batch whose deepest map is one value is refused."""
    try:
        return model(windows)
    except ValueError as error:
        # The words of torch's batch, group and instance norms, which have no other exception.
        if "Expected more than 1" not in str(error):
            raise
        size = " x ".join(str(s) for s in windows.shape[2:])
        raise ConfigError(
            "The network's deepest maps are one value a channel, of which no norm can be taken.",
            where="segmenter.batch_size and segmenter.patch",
            found=f"batches of {len(windows)} patches of {size}",
            fix="set batch_size: 2 or more, or larger patches",
        ) from None


def val_cases(data: SegmentationCases, val: Sequence[int], most: int) -> list[int]:
    """Evenly spaced validation cases: at most so many lesions with a mask, and healthy ones."""

    def some(indices: list[int]) -> list[int]:
        if len(indices) <= most:
            return indices
        return [indices[k] for k in np.linspace(0, len(indices) - 1, most).round().astype(int)]

    lesions = [i for i in val if data.cases[i].mask is not None and not data.truth_is_empty(i)]
    return sorted(some(lesions) + some([i for i in val if data.truth_is_empty(i)])) if most else []


def laid_out(network: Network, dims: int) -> Network:
    """A network with its weights laid out as they are quickest for images or volumes."""
    return network.to(memory_format=torch.channels_last) if dims == 2 else network


def cases_at_once(image_size: int | None) -> int:
    """How many 2D images of so many pixels a side are predicted together; 1 of volumes (None)."""
    if image_size is None:
        return 1
    return max(1, min(32, PIXELS_AT_ONCE // image_size**2))


def _seen_at_once(image_size: int, device: Any) -> int:
    """How many 2D images a network sees at once; on other devices than processors all."""
    if torch.device(device).type != "cpu":
        return PIXELS_AT_ONCE
    return max(1, PIXELS_ON_CPU // image_size**2)


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
    at_once = min(together, _seen_at_once(data.size, device)) if flat else 1
    for start in range(0, len(indices), together):
        chosen = [int(i) for i in indices[start : start + together]]
        arrays = [data.arrays(i, truth=False) for i in chosen]
        image = as_batch([h.image for h in arrays], device) if flat else _volume(arrays[0], device)
        outside = as_batch([h.fill for h in arrays], device)
        if flat:
            image = image.contiguous(memory_format=torch.channels_last)
        if flat and fill:
            count = -(-len(arrays) // at_once) * at_once
            image = filled(image, count)
            outside = outside[torch.arange(count).clamp(max=len(arrays) - 1)]
        with torch.no_grad(), pruned(model, config.prune):
            parts = [
                lesion_probability(
                    model,
                    seen,
                    fills,
                    tile=config.tile,
                    overlap=config.overlap,
                    flips=config.flips,
                )
                for seen, fills in zip(image.split(at_once), outside.split(at_once), strict=True)
            ]
        del arrays, image  # of a large volume
        p = parts[0] if len(parts) == 1 else torch.cat(parts)
        del parts
        for i, probability in zip(chosen, p[: len(chosen)].cpu().numpy(), strict=True):
            if priors is not None and config.recalibrate and are_shares(*priors):
                for k, part in enumerate(probability):  # one by one: all take twice the memory
                    probability[k] = recalibrate(part, *priors)
            yield i, probability


def _volume(held: CaseArrays, device: Any) -> Tensor:
    """A batch of one volume as it is kept, without a copy in float32."""
    image = held.image if held.image.flags.writeable else held.image.copy()
    return torch.from_numpy(image)[None].to(device)


__all__ = ["IGNORE", "SegmentationCases", "SegmenterTask", "predict"]
