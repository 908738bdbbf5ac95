"""Losses of segmentation networks; voxels may be ignored."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from weakseg.data.patches import IGNORE

Loss = Callable[[Tensor, Tensor], Tensor]

GCE_POWER = 0.7
SCE_FORWARD, SCE_LOG_ZERO = 0.1, 4.0
"""Parameters of the noise-robust losses."""


def make_loss(name: str) -> Loss:
    """The loss of a name.

    Parameters
    ----------
    name : {"ce", "dice", "dice-ce", "focal", "gce", "sce", "dice-gce"}
        ce: cross-entropy, mean over voxels. dice: 1 - soft Dice of the lesion over the whole batch
        (a batch without lesion has none). dice-ce: their sum. focal: cross-entropy weighed by
        (1 - p) ** 2 of the true class (Lin et al., ICCV 2017). gce: (1 - p ** 0.7) / 0.7 of the
        true class, which a confident network leaves alone where the label contradicts it (Zhang
        and Sabuncu, NeurIPS 2018). sce: 0.1 cross-entropy plus the reverse one, 4 (1 - p), as
        log 0 counts as -4 (Wang et al., ICCV 2019). dice-gce: dice plus gce.

    Returns
    -------
    callable
        From logits (B, 2, *size) and truth (B, *size) of 0, 1 and `IGNORE` to a scalar.
    """
    from segmentation_models_pytorch.losses import DiceLoss

    dice: nn.Module = DiceLoss("multiclass", classes=[1], ignore_index=IGNORE)

    # The library's focal loss takes each class's sigmoid, where the networks give a softmax.
    def focal(logits: Tensor, truth: Tensor) -> Tensor:
        surprise = F.cross_entropy(logits, truth, ignore_index=IGNORE, reduction="none")
        weighed = (1 - torch.exp(-surprise)) ** 2 * surprise
        return weighed.sum() / (truth != IGNORE).sum()

    def cross_entropy(logits: Tensor, truth: Tensor) -> Tensor:
        return F.cross_entropy(logits, truth, ignore_index=IGNORE)

    def true_class(logits: Tensor, truth: Tensor) -> Tensor:
        """Probability of each known voxel's class."""
        counted = truth != IGNORE
        p = logits.softmax(1).gather(1, truth.where(counted, 0)[:, None])[:, 0]
        return p[counted]

    def generalised(logits: Tensor, truth: Tensor) -> Tensor:
        # The root has no gradient at 0.
        p = true_class(logits, truth).clamp(min=1e-6)
        return (1 - p**GCE_POWER).mean() / GCE_POWER

    def symmetric(logits: Tensor, truth: Tensor) -> Tensor:
        reverse = (1 - true_class(logits, truth)).mean()
        return SCE_FORWARD * cross_entropy(logits, truth) + SCE_LOG_ZERO * reverse

    losses: dict[str, Loss] = {
        "ce": cross_entropy,
        "dice": dice,
        "dice-ce": lambda logits, truth: cross_entropy(logits, truth) + dice(logits, truth),
        "focal": focal,
        "gce": generalised,
        "sce": symmetric,
        "dice-gce": lambda logits, truth: generalised(logits, truth) + dice(logits, truth),
    }
    chosen = losses[name]

    def loss(logits: Tensor, truth: Tensor) -> Tensor:
        # Half precision is too coarse for sums over many voxels.
        with torch.autocast(logits.device.type, enabled=False):
            if not (truth != IGNORE).any():
                return 0.0 * logits.float().sum()  # a batch that tells nothing has no loss
            return chosen(logits.float(), truth)

    return loss


def voxel_cross_entropy(probability: np.ndarray, truth: np.ndarray) -> float:
    """Mean of -log of the probability that the truth was given.

    Parameters
    ----------
    probability : ndarray of float
        Of a lesion, in [0, 1].
    truth : ndarray of bool
        Of its shape.

    Returns
    -------
    float
        In nats, a voxel; one that was given no probability at all counts as 1e-7.
    """
    given = np.where(truth, probability, 1 - probability).astype(np.float64)
    return float(-np.log(given.clip(1e-7)).mean())
