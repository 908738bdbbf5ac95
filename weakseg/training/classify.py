"""What the training loop needs to train an image classifier, and how one predicts."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from weakseg.config import ClassifierConfig
from weakseg.data.arrays import Images, batches_ahead, channels_last
from weakseg.data.augment import augment, blended, random_size
from weakseg.data.cases import Labels
from weakseg.training.loop import require_finite, seed_epoch
from weakseg.training.map_losses import lesion_log_odds, map_entropy, map_size
from weakseg.training.together import Share

GRID = 4
"""Cells a side that `erase_cells` hides or shows."""

SMALLER = 0.75
"""Of the copies whose class maps must agree with the images'."""


def class_weights(targets: np.ndarray, classes: int, how: str) -> Tensor:
    """Weights of the classes in the loss, with a mean of 1 over the images if all classes occur.

    ``balanced`` gives every class the same share of the loss however rare it is:
    N / (K · N_k).
    """
    if how == "none":
        return torch.ones(classes)
    counts = np.bincount(targets, minlength=classes).clip(min=1)
    return torch.tensor(len(targets) / (classes * counts), dtype=torch.float32)


def macro_auc(targets: np.ndarray, probabilities: np.ndarray) -> float:
    """Area under the ROC curve, one class against the rest, averaged over the classes.

    With two classes it is the usual AUC. A class that is missing (or alone) is left out; NaN
    where none is left.
    """
    from sklearn.metrics import roc_auc_score

    scores = [
        roc_auc_score(targets == k, probabilities[:, k])
        for k in range(probabilities.shape[1])
        if 0 < (targets == k).sum() < len(targets)
    ]
    return float(np.mean(scores)) if scores else float("nan")


def predict_probabilities(
    model: nn.Module, images: Images, indices: np.ndarray, batch_size: int, device: Any
) -> np.ndarray:
    """Class probabilities (N, K) of images by index."""
    out = []
    model.eval()
    with torch.no_grad():
        starts = range(0, len(indices), batch_size)
        chosen = (indices[start : start + batch_size] for start in starts)
        for batch in batches_ahead(images, chosen, device):
            out.append(model(batch).float())
    return torch.cat(out).softmax(1).cpu().numpy()


def erase_cells(images: Tensor, probability: float) -> Tensor:
    """Hide cells of a grid at random, so that no single part of a lesion suffices.

    Parameters
    ----------
    images : (B, C, H, W) Tensor
    probability : float
        Of each of the `GRID` x `GRID` cells. Drawn from torch's global generator, on the CPU
        whatever the device.

    Returns
    -------
    (B, C, H, W) Tensor
        Hidden cells hold the mean colour of their image.

    References
    ----------
    Singh and Lee, "Hide-and-Seek", ICCV 2017.
    """
    hidden = (torch.rand(len(images), 1, GRID, GRID) < probability).to(images)
    hidden = F.interpolate(hidden, size=images.shape[2:], mode="nearest")
    return torch.where(hidden > 0, images.mean((2, 3), keepdim=True), images)


def erased(images: Tensor, probability: float) -> Tensor:
    """`erase_cells` of images, or of volumes (B, C, D, H, W), whose slices lose the same cells."""
    if images.ndim == 4:
        return erase_cells(images, probability)
    return erase_cells(images.flatten(1, 2), probability).unflatten(1, images.shape[1:3])


def mirrored_smaller(images: Tensor) -> Tensor:
    """Images (B, C, H, W) mirrored left to right, their sides `SMALLER` times as long."""
    return F.interpolate(
        images.flip(3), scale_factor=SMALLER, mode="bilinear", align_corners=False, antialias=True
    )


def map_difference(places: Tensor, small: Tensor) -> Tensor:
    """How far class-score maps fail to follow their images; 0 where they follow exactly.

    Parameters
    ----------
    places : (B, K, h, w) Tensor
        Class scores of images.
    small : (B, K, h', w') Tensor
        Of their mirrored, smaller copies.

    Returns
    -------
    Tensor
        Mean absolute difference, in 0 to 1, of the probabilities of the classes: a softmax at
        every place, as the classes exclude each other. No map is stretched to its own extremes,
        for that would make maps without a lesion as loud as those with one.

    References
    ----------
    Wang et al., "Self-supervised equivariant attention mechanism", CVPR 2020.
    """
    turned = places.float().softmax(1).flip(3)
    turned = F.interpolate(turned, size=small.shape[2:], mode="bilinear", align_corners=False)
    return (turned - small.float().softmax(1)).abs().mean()


class ClassifierTask:
    """Cross-entropy on augmented images; validated by AUC, accuracy and loss.

    Parameters
    ----------
    config : ClassifierConfig
    labels : Labels
    images : Images
    train, val : sequence of int
        Indices into ``images``.
    seed : int
    device : torch.device
    share : Share, optional
        The rows of each batch that this process makes; default: all.
    heats : callable, optional
        Index of a case → (S, S) ndarray: the heatmap that is blended into a training image, where
        ``augment.heat`` asks for it. What validates and is predicted has none.
    """

    def __init__(
        self,
        config: ClassifierConfig,
        labels: Labels,
        images: Images,
        train: Sequence[int],
        val: Sequence[int],
        seed: int,
        device: Any,
        share: Share | None = None,
        heats: Callable[[int], np.ndarray] | None = None,
    ) -> None:
        self.heats = heats
        self.config, self.images, self.seed, self.device = config, images, seed, device
        self.share = share or Share()
        self.train, self.val = np.asarray(train), np.asarray(val)
        self.lesion = labels.lesion_indices
        self.targets = np.array([labels.index(c.label) for c in images.cases])
        self.weights = class_weights(
            self.targets[self.train], len(labels.names), config.class_weights
        ).to(device)
        # A last batch of one image has no batch statistics, so the remainder joins no batch: the
        # next epoch's order brings its images in.
        self.batch = min(config.batch_size, len(self.train))
        self.share.require_even(self.batch, "classifier.batch_size")
        self.steps = len(self.train) // self.batch

    def batches(self, epoch: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Augmented images (b, C, S, S), the own rows of B, and the class numbers (B,) of all."""
        order = torch.randperm(len(self.train), generator=seed_epoch(self.seed, epoch)).numpy()
        starts = range(0, self.steps * self.batch, self.batch)
        chosen = [self.train[order[start : start + self.batch]] for start in starts]
        own = self.share.own(self.batch)
        made = batches_ahead(self.images, [some[own] for some in chosen], self.device)
        for some, rows in zip(chosen, made, strict=True):
            images = self.share.spread(rows, self.batch)
            if self.heats is not None:
                heat = torch.from_numpy(np.stack([self.heats(i) for i in some[own]])[:, None])
                heat = self.share.spread(heat.to(images), self.batch)
                images = blended(images, heat, self.config.augment.heat)
            images = augment(images, self.config.augment)
            if self.config.erase:
                images = erased(images, self.config.erase)
            if self.config.sizes is not None:
                images = random_size(images, self.config.sizes)
            targets = torch.from_numpy(self.targets[some]).to(self.device)
            yield channels_last(images[own]), targets

    def loss(self, model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        """Weighted cross-entropy, of all heads alike, and what is asked of the class maps."""
        images, targets = batch
        c = self.config
        if not (c.exits or c.equivariance or c.map_entropy or c.map_size):
            return self._cross_entropy(model(images), targets)
        said = model(images, parts=True)
        losses = [self._cross_entropy(logits, targets) for logits in [said.logits, *said.exits]]
        loss = torch.stack(losses).mean()
        if c.equivariance:
            small = model(mirrored_smaller(images), parts=True)
            loss = loss + c.equivariance * map_difference(said.places, small.places)
        if c.map_entropy or c.map_size:
            log_odds = lesion_log_odds(said.places, self.lesion)
            if c.map_entropy:
                loss = loss + c.map_entropy * map_entropy(log_odds)
            if c.map_size:
                diseased = torch.isin(targets, torch.tensor(self.lesion).to(targets))
                loss = loss + c.map_size * map_size(log_odds, diseased, c.map_area)
        return loss

    def _cross_entropy(self, logits: Tensor, targets: Tensor) -> Tensor:
        smoothing = self.config.label_smoothing
        if not smoothing:
            return F.cross_entropy(logits, targets, weight=self.weights)
        # Given weights, torch weighs what smoothing gives each class by that class's own, so that
        # every image is drawn to rare classes, and most of all to one that no image has. Here an
        # image counts by the weight of its class, and is drawn to all others alike.
        each = F.cross_entropy(logits, targets, label_smoothing=smoothing, reduction="none")
        counts = self.weights[targets]
        return (each * counts).sum() / counts.sum()

    def validate(self, model: nn.Module) -> dict[str, float]:
        """AUC, accuracy and loss of the validation split."""
        p = predict_probabilities(
            model, self.images, self.val, 2 * self.config.batch_size, self.device
        )
        require_finite(p)
        t = self.targets[self.val]
        likelihood = p[np.arange(len(t)), t].clip(1e-7)
        return {
            "val_auc": macro_auc(t, p),
            "val_accuracy": float((p.argmax(1) == t).mean()),
            "val_loss": float(-np.log(likelihood).mean()),
        }
