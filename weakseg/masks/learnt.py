"""Rules that learn from the training images' heatmaps before they make a mask."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from weakseg.config import AffinityRule, HypercolumnRule
from weakseg.masks.affinity import affinity_mask
from weakseg.masks.hypercolumn import hypercolumn_mask, vote_of

LEARNT = (AffinityRule, HypercolumnRule)


@dataclass(frozen=True, eq=False)
class Learnt:
    """What a rule has learnt, and the network by which it sees an image.

    Attributes
    ----------
    arrays : mapping of str to ndarray
        All that was learnt, as it is stored.
    features : callable
        Image (M, N[, 3]) → (h, w, D) ndarray of float32: what the network says of the places of a
        coarse grid that covers the image. For ``affinity`` the small network in ``arrays``; for
        ``hypercolumn`` the run's classifier.
    """

    arrays: Mapping[str, npt.NDArray[Any]]
    features: Callable[[npt.ArrayLike], npt.NDArray[np.float32]]


def learnt_mask(
    rule: AffinityRule | HypercolumnRule,
    learnt: Learnt,
    heat: npt.ArrayLike,
    image: npt.ArrayLike,
) -> npt.NDArray[np.bool_]:
    """The mask, (M, N), of raw heat (M, N) and its image by a rule that has learnt."""
    seen = learnt.features(image)
    if isinstance(rule, AffinityRule):
        return affinity_mask(
            heat, seen, radius=rule.radius, beta=rule.beta, steps=rule.steps, at=rule.at
        )
    return hypercolumn_mask(
        heat,
        image,
        seen,
        vote_of(learnt.arrays),
        warm=rule.warm,
        at=rule.at,
        count=rule.count,
        compactness=rule.compactness,
    )
