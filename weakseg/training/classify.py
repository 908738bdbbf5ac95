"""What the training loop needs to train an image classifier, and how one predicts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Protocol

import numpy as np
import torch
from sklearn.metrics import roc_auc_score
from torch import Tensor, nn
from torch.nn import functional as F

from weakseg.config import ClassifierConfig
from weakseg.data.augment import augment
from weakseg.data.cases import Case, Labels
from weakseg.training.loop import seed_epoch


class Images(Protocol):
    """The images of cases by index, raw or filtered."""

    cases: list[Case]

    def images(self, indices: Sequence[int] | np.ndarray) -> Tensor:
        """(B, C, S, S) float32, not normalised."""


def class_weights(targets: np.ndarray, classes: int, how: str) -> Tensor:
    """Weights of the classes in the loss, with a mean of 1 over the images.

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
        for start in range(0, len(indices), batch_size):
            batch = images.images(indices[start : start + batch_size]).to(device)
            out.append(model(batch.contiguous(memory_format=torch.channels_last)).float().cpu())
    return torch.cat(out).softmax(1).numpy()


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
    ) -> None:
        self.config, self.images, self.seed, self.device = config, images, seed, device
        self.train, self.val = np.asarray(train), np.asarray(val)
        self.targets = np.array([labels.index(c.label) for c in images.cases])
        self.weights = class_weights(
            self.targets[self.train], len(labels.names), config.class_weights
        ).to(device)
        # A last batch of one image has no batch statistics, so the remainder joins no batch: the
        # next epoch's order brings its images in.
        self.batch = min(config.batch_size, len(self.train))
        self.steps = len(self.train) // self.batch

    def batches(self, epoch: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Augmented images (B, C, S, S) and their class numbers (B,)."""
        order = torch.randperm(len(self.train), generator=seed_epoch(self.seed, epoch)).numpy()
        for step in range(self.steps):
            chosen = self.train[order[step * self.batch : (step + 1) * self.batch]]
            images = self.images.images(chosen).to(self.device, non_blocking=True)
            images = augment(images, self.config.augment)
            targets = torch.from_numpy(self.targets[chosen]).to(self.device)
            yield images.contiguous(memory_format=torch.channels_last), targets

    def loss(self, model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        """Weighted cross-entropy."""
        images, targets = batch
        return F.cross_entropy(
            model(images),
            targets,
            weight=self.weights,
            label_smoothing=self.config.label_smoothing,
        )

    def validate(self, model: nn.Module) -> dict[str, float]:
        """AUC, accuracy and loss of the validation split."""
        p = predict_probabilities(
            model, self.images, self.val, 2 * self.config.batch_size, self.device
        )
        t = self.targets[self.val]
        likelihood = p[np.arange(len(t)), t].clip(1e-7)
        return {
            "val_auc": macro_auc(t, p),
            "val_accuracy": float((p.argmax(1) == t).mean()),
            "val_loss": float(-np.log(likelihood).mean()),
        }
