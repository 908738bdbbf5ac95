"""Which parts of an image a classifier misses: superpixels are covered one by one."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from weakseg.data.arrays import filled
from weakseg.heatmaps.cam import target_score
from weakseg.masks.superpixels import slic_parts

COUNTS = (20, 60, 150)
"""About how many superpixels an image is divided into, coarse to fine: a lesion is not known to be
of one size."""

COMPACTNESS = 0.1


def occlusion_maps(
    model: nn.Module,
    images: Tensor,
    target: tuple[int, ...],
    *,
    score: str = "logit",
    counts: Sequence[int] = COUNTS,
    batch_size: int = 32,
) -> tuple[np.ndarray, np.ndarray]:
    """How much the score of a class falls when a part of the image is covered.

    Parameters
    ----------
    model : nn.Module
        In evaluation mode; gives logits (B, K).
    images : (B, C, S, S) Tensor
        In [0, 1].
    target, score
        See `weakseg.heatmaps.cam.target_score`.
    counts : sequence of int, optional
        Numbers of superpixels; the maps of all are averaged.
    batch_size : int, optional
        Covered images that are looked at together.

    Returns
    -------
    maps : (B, S, S) ndarray of float32
        The fall of the score, positive where covering speaks against the target.
    logits : (B, K) ndarray of float32
        Of the images as they are.

    Notes
    -----
    A superpixel (SLIC) is covered by the mean of the image in each channel. The network runs once
    for every superpixel.

    References
    ----------
    Zeiler, Fergus, "Visualizing and understanding convolutional networks", ECCV 2014. Rajapaksa,
    Khalvati, "Relevance maps", 2022, for superpixels.
    """
    with torch.no_grad():
        logits = model(filled(images, batch_size)).float()[: len(images)]
        base = target_score(logits, target, score)
        maps = np.zeros((images.shape[0], *images.shape[2:]), dtype=np.float32)
        for k, image in enumerate(images):
            grey = image.float().mean(0).cpu().numpy()
            fill = image.mean((1, 2), keepdim=True)
            for count in counts:
                parts = slic_parts(grey, count=count, compactness=COMPACTNESS)
                numbers = torch.from_numpy(np.unique(parts))
                where = torch.from_numpy(parts).to(image.device)
                falls = []
                for some in numbers.split(batch_size):
                    covered = (where[None] == some.to(image.device)[:, None, None])[:, None]
                    output = model(torch.where(covered, fill[None], image[None])).float()
                    falls.append(base[k] - target_score(output, target, score))
                fall = torch.cat(falls).cpu().numpy()
                maps[k] += fall[np.searchsorted(numbers.numpy(), parts)] / len(counts)
    return maps, logits.cpu().numpy()
