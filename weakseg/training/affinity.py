"""Training of the small network whose features say which pixels belong together."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from weakseg.masks.rules.affinity import (
    BACKGROUND,
    FEWEST_PAIRS,
    LESION,
    OPEN,
    count_pairs,
    offsets,
    pairs_of,
)
from weakseg.models.affinity import AffinityNet

BATCH = 8
RATE = 3e-3
AT_ONCE = 12
"""How many of the steps between pixels are looked at in a batch; drawn anew for each."""
_EPSILON = 1e-5


def affinity_loss(features: Tensor, labels: Tensor, steps: list[tuple[int, int]]) -> Tensor:
    """AffinityNet's loss: pairs of lesion, pairs of background and mixed pairs are balanced.

    Parameters
    ----------
    features : (B, D, h, w) Tensor
    labels : (B, h, w) Tensor of uint8
        `LESION`, `BACKGROUND`, or `OPEN`: in no pair.
    steps : list of (int, int)
        Offsets between the pixels of a pair.

    Returns
    -------
    Tensor
        A scalar: a quarter of the mean cross-entropy of pairs of lesion, a quarter of that of pairs
        of background and half of that of mixed pairs. A kind without pairs adds nothing.

    References
    ----------
    Ahn and Kwak, "Learning pixel-level semantic affinity with image-level supervision", CVPR 2018.
    """
    logs: dict[str, list[Tensor]] = {"lesion": [], "background": [], "different": []}
    for step in steps:
        a, b = pairs_of(labels, step)
        f, g = pairs_of(features, step)
        distance = (f - g).abs().sum(1)
        logs["lesion"].append(distance[(a == LESION) & (b == LESION)])
        logs["background"].append(distance[(a == BACKGROUND) & (b == BACKGROUND)])
        apart = distance[(a + b) == 1]
        logs["different"].append(-torch.log(1 + _EPSILON - torch.exp(-apart)))
    total = features.sum() * 0
    for kind, share in (("lesion", 0.25), ("background", 0.25), ("different", 0.5)):
        # Of equal pairs, -log of the affinity is the distance itself.
        pairs = torch.cat(logs[kind])
        if pairs.numel():
            total = total + share * pairs.mean()
    return total


def train_affinity(
    images: np.ndarray, labels: np.ndarray, *, radius: int, epochs: int, seed: int
) -> AffinityNet:
    """Train the network on what heatmaps are sure of, on the CPU.

    Parameters
    ----------
    images : (N, C, h, w) ndarray of float32
        In [0, 1].
    labels : (N, h, w) ndarray of uint8
        `LESION`, `BACKGROUND` or `OPEN`.
    radius : int
        Pairs of pixels are nearer than this.
    epochs, seed : int

    Returns
    -------
    AffinityNet
        In evaluation mode. The global random state is left as it was.

    Raises
    ------
    LookupError
        If there are too few pairs of a kind.
    """
    few = {k: n for k, n in count_pairs(labels, radius).items() if n < FEWEST_PAIRS}
    if few:
        kind, n = next(iter(few.items()))
        words = {"different": "lesion beside background"}.get(kind, f"{kind} beside {kind}")
        raise LookupError(
            f"the training heatmaps are sure of only {n} pairs of pixels of {words}, "
            f"{FEWEST_PAIRS} are needed"
        )
    rng = np.random.default_rng(seed)
    steps = offsets(radius)
    with torch.random.fork_rng(devices=[]), torch.inference_mode(False), torch.enable_grad():
        torch.manual_seed(seed)
        net = AffinityNet(images.shape[1])
        optimizer = torch.optim.Adam(net.parameters(), RATE)
        # An image without an edge between confident parts teaches little, but it is no harm.
        useful = np.flatnonzero((labels != OPEN).any(axis=(1, 2)))
        batches = -(-len(useful) // BATCH)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs * batches)
        for _ in range(epochs):
            order = rng.permutation(useful)
            for k in range(batches):
                some = np.sort(order[k * BATCH : (k + 1) * BATCH])
                drawn = rng.permutation(len(steps))[:AT_ONCE]
                features = net(torch.from_numpy(images[some]))
                classes = torch.from_numpy(labels[some])
                loss = affinity_loss(features, classes, [steps[i] for i in drawn])
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                schedule.step()
    return net.eval()
