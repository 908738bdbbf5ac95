"""Which superpixels a classifier needs, and which suffice: a mask is learnt, small and smooth."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from weakseg.config import RelevanceConfig
from weakseg.heatmaps.cam import target_score
from weakseg.heatmaps.occlusion import COMPACTNESS
from weakseg.masks.superpixels import slic_parts

RATE = 0.2
"""Of Adam, on the logits of the superpixels."""


def relevance_maps(
    model: nn.Module,
    images: Tensor,
    target: tuple[int, ...],
    *,
    score: str = "logit",
    settings: RelevanceConfig | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """A share for every superpixel, such that what has much keeps the score and the rest loses it.

    Parameters
    ----------
    model : nn.Module
        In evaluation mode; gives logits (B, K).
    images : (B, C, S, S) or (B, C, D, S, S) Tensor
        In [0, 1].
    target, score
        See `weakseg.heatmaps.cam.target_score`.
    settings : RelevanceConfig, optional

    Returns
    -------
    maps : (B, [D,] S, S) ndarray of float32
        The share, in (0, 1), times how much higher the score is of the image of what has much of it
        than of the rest; 0 throughout where it is not higher.
    logits : (B, K) ndarray of float32
        Of the images as they are.

    Notes
    -----
    Shares m begin at 1/2. What is not kept is the image's mean in each channel. With s the score,
    s₀ that of an image all covered and R = max(|s(image) - s₀|, 1), the loss is
    (s(kept 1 - m) - s(kept m)) / R + small · mean(m) + smooth · mean |m - m'| over the borders of
    superpixels. Nothing is drawn at random, and each image is looked at alone.

    References
    ----------
    Rajapaksa, Khalvati, "Relevance maps: a weakly supervised segmentation method for 3D brain
    tumours in MRIs", Frontiers in Radiology 2022; Fong, Vedaldi, "Interpretable explanations of
    black boxes by meaningful perturbation", ICCV 2017. Sizes, rates and the scale are ours.
    """
    how = settings if settings is not None else RelevanceConfig()
    maps, logits = [], []
    with torch.inference_mode(False):
        for image in images:
            heat, said = _of_image(model, image.clone(), target, score, how)
            maps.append(heat)
            logits.append(said)
    return np.stack(maps), np.stack(logits)


def _of_image(
    model: nn.Module, image: Tensor, target: tuple[int, ...], score: str, how: RelevanceConfig
) -> tuple[np.ndarray, np.ndarray]:
    space = tuple(range(1, image.ndim))
    fill = image.mean(space, keepdim=True)
    grey = image.float().mean(0).cpu().numpy()
    named = slic_parts(grey, count=how.superpixels, compactness=COMPACTNESS)
    _, numbers = np.unique(named, return_inverse=True)
    parts = torch.from_numpy(numbers.reshape(named.shape)).to(image.device)

    def scores(kept: Tensor) -> Tensor:
        return target_score(model(kept * image + (1 - kept) * fill).float(), target, score)

    def both(shares: Tensor) -> Tensor:
        """The scores of what has the shares, and of the rest."""
        of = shares[parts][None, None]
        return scores(torch.cat([of, 1 - of]))

    with torch.no_grad():
        logits = model(image[None]).float()
        covered = scores(torch.zeros_like(image[None, :1]))
        unit = (target_score(logits, target, score) - covered).abs().clamp_min(1)
    inner = torch.zeros(int(parts.max()) + 1, device=image.device, requires_grad=True)
    adam = torch.optim.Adam([inner], lr=RATE)
    borders = _borders(parts)
    for _ in range(how.steps):
        with torch.enable_grad():
            shares = inner.sigmoid()
            kept, rest = both(shares)
            loss = (rest - kept) / unit[0] + how.small * shares[parts].mean()
            if len(borders):
                a, b = borders.T
                loss = loss + how.smooth * (shares[a] - shares[b]).abs().mean()
            (inner.grad,) = torch.autograd.grad(loss, [inner])
        adam.step()
    with torch.no_grad():
        shares = inner.sigmoid()
        kept, rest = both(shares)
        heat = shares[parts] * (kept - rest).clamp_min(0)
    return heat.float().cpu().numpy(), logits[0].cpu().numpy()


def _borders(parts: Tensor) -> Tensor:
    """The superpixels on both sides of each place where two meet, (n, 2)."""
    pairs = []
    for axis in range(parts.ndim):
        size = parts.shape[axis]
        a, b = parts.narrow(axis, 0, size - 1), parts.narrow(axis, 1, size - 1)
        pairs.append(torch.stack([a, b], dim=-1)[a != b])
    return torch.cat(pairs)
