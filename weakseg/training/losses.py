"""Losses of segmentation networks; voxels may be ignored."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from weakseg.data.patches import IGNORE

Loss = Callable[[Tensor, Tensor], Tensor]


def make_loss(name: str) -> Loss:
    """The loss of a name.

    Parameters
    ----------
    name : {"ce", "dice", "dice-ce", "focal"}
        ce: cross-entropy, mean over voxels. dice: 1 - soft Dice of the lesion over the whole batch
        (a batch without lesion has none). dice-ce: their sum. focal: cross-entropy weighed by
        (1 - p) ** 2 of the true class (Lin et al., ICCV 2017).

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

    losses: dict[str, Loss] = {
        "ce": cross_entropy,
        "dice": dice,
        "dice-ce": lambda logits, truth: cross_entropy(logits, truth) + dice(logits, truth),
        "focal": focal,
    }
    chosen = losses[name]

    def loss(logits: Tensor, truth: Tensor) -> Tensor:
        # Half precision is too coarse for sums over many voxels.
        with torch.autocast(logits.device.type, enabled=False):
            return chosen(logits.float(), truth)

    return loss
