"""One loss of everything that a network gives in training: heads, sampled points, screening."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from weakseg.data.patches import IGNORE
from weakseg.models.whole_image import Outputs, Points, cropped, resized
from weakseg.training.losses import Loss, make_loss


def supervised_loss(compute: Loss, given: Tensor | Outputs, truths: Tensor) -> Tensor:
    """The loss of a batch.

    Parameters
    ----------
    compute : callable
        See `make_loss`.
    given : (B, K, *size) Tensor or Outputs
    truths : (B, *output) Tensor
        0, 1 and `IGNORE`; of no larger size, with the same first voxel.

    Returns
    -------
    Tensor
        A scalar: the loss of the logits, plus that of every further head (all count alike, as in
        UNet++; coarser scores are interpolated), plus the cross-entropy of points, plus that of
        whether there is a lesion.
    """
    if isinstance(given, Tensor):
        return compute(cropped(given, truths.shape[1:]), truths)
    size = given.logits.shape[2:]
    heads = [given.logits, *(resized(scores, size) for scores in given.auxiliary)]
    parts = [compute(cropped(scores, truths.shape[1:]), truths) for scores in heads]
    if given.points is not None:
        parts.append(_of_points(given.points, size, truths))
    if given.presence is not None:
        parts.append(_of_presence(given.presence, truths))
    return torch.stack(parts).sum()


def _of_points(points: Points, size: torch.Size, truths: Tensor) -> Tensor:
    """Cross-entropy of points, each with the truth of the voxel that it lies in."""
    sides = torch.tensor(size, device=truths.device)
    voxels = (points.places.float() * sides).long().clamp(min=0).minimum(sides - 1)
    # What lies behind the truth's last voxel has none.
    inside = (voxels < torch.tensor(truths.shape[1:], device=truths.device)).all(-1)
    voxels = voxels * inside[..., None]
    batch = torch.arange(len(truths), device=truths.device)[:, None]
    wanted = truths[(batch, *voxels.unbind(-1))].masked_fill(~inside, IGNORE)
    return make_loss("ce")(points.logits, wanted)


def _of_presence(presence: Tensor, truths: Tensor) -> Tensor:
    """Cross-entropy of whether there is a lesion, where the truth tells.

    It does not where no voxel is a lesion's and some are ignored.
    """
    flat = truths.flatten(1)
    lesion, ignored = (flat == 1).any(1), (flat == IGNORE).any(1)
    known = lesion | ~ignored
    with torch.autocast(presence.device.type, enabled=False):
        each = F.binary_cross_entropy_with_logits(
            presence.float(), lesion.float(), reduction="none"
        )
        return (each * known).sum() / known.sum().clamp(min=1)
