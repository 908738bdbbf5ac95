"""What a classifier's map of the lesion should be like where no mask says it: decided, and small.

The map is the probability of a lesion at every place: a softmax over the classes' scores, summed
over the lesion labels. Not a sigmoid of the lesion's own score: cross-entropy knows the scores of
a place up to a constant that all classes share, so that only their differences mean anything.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F


def lesion_log_odds(places: Tensor, lesion: Sequence[int]) -> Tensor:
    """Log-odds of a lesion at every place.

    Parameters
    ----------
    places : (B, K, h, w) Tensor
        Class scores.
    lesion : sequence of int
        Numbers of the lesion labels; neither none nor all of the K.

    Returns
    -------
    (B, h, w) Tensor of float32
        Its sigmoid is the softmax of the scores, summed over the lesion labels.

    Raises
    ------
    ValueError
        If the labels leave no other class, or name none or one that is not there.
    """
    classes = places.shape[1]
    rest = [k for k in range(classes) if k not in set(lesion)]
    if not lesion or not rest or len(rest) + len(set(lesion)) != classes:
        raise ValueError(f"lesion must name some of the classes 0..{classes - 1}; got {lesion}")
    places = places.float()
    return places[:, list(lesion)].logsumexp(1) - places[:, rest].logsumexp(1)


def map_entropy(log_odds: Tensor) -> Tensor:
    """How undecided maps are: the mean entropy of lesion or not at a place.

    Parameters
    ----------
    log_odds : (B, h, w) Tensor

    Returns
    -------
    Tensor
        In bits: 0 where every place is sure, 1 where every place says one half.

    References
    ----------
    Grandvalet and Bengio, "Semi-supervised learning by entropy minimization", NeurIPS 2004.
    """
    p = log_odds.sigmoid()
    # -log p is softplus(-z): no logarithm of a probability that has become 0.
    nats = p * F.softplus(-log_odds) + (1 - p) * F.softplus(log_odds)
    return nats.mean() / math.log(2)


def map_size(log_odds: Tensor, diseased: Tensor, area: tuple[float, float]) -> Tensor:
    """How far the areas of maps lie outside of what is believed of lesions.

    Parameters
    ----------
    log_odds : (B, h, w) Tensor
    diseased : (B,) Tensor of bool
        Whether the image is labelled with a lesion.
    area : (low, high)
        Shares of the image, in 0 to 1, between which a lesion's area costs nothing. Of a healthy
        image the whole area is too much.

    Returns
    -------
    Tensor
        Mean over the images of the squared distance of the area, the mean probability of a lesion
        over the places, from its bounds; in 0 to 1.

    References
    ----------
    Kervadec et al., "Constrained-CNN losses for weakly supervised segmentation", Medical Image
    Analysis 54, 2019.
    """
    share = log_odds.sigmoid().mean((1, 2))
    low, high = (torch.where(diseased, bound, 0.0) for bound in area)
    return ((low - share).relu() ** 2 + (share - high).relu() ** 2).mean()
