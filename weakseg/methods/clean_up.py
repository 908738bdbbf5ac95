"""Masks of the slices of one volume, cleaned up together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from weakseg.config import VolumesConfig
from weakseg.data.cases import Case
from weakseg.data.slices import stacked
from weakseg.masks.clean_up import keep_parts, vote_along
from weakseg.methods.base import Prediction


def clean_slices(
    cases: Sequence[Case],
    predictions: Sequence[Prediction],
    shape: Sequence[int],
    how: VolumesConfig,
) -> list[Prediction]:
    """What a method says of slices of one volume, their masks cleaned up together.

    Slices that the gate has emptied vote, and stay empty.
    """
    at = [int(c.slice or 0) for c in cases]
    whole = stacked(shape, at, [p.mask for p in predictions])
    present = np.zeros(whole.shape[2], dtype=bool)
    present[at] = True
    whole = vote_along(whole, present, how.smooth)
    whole[:, :, [z for z, p in zip(at, predictions, strict=True) if p.gated]] = False
    whole = keep_parts(
        whole, min_voxels=how.min_voxels, min_slices=how.min_slices, largest=how.largest
    )
    return [
        replace(p, mask=np.ascontiguousarray(whole[:, :, z].T))
        for z, p in zip(at, predictions, strict=True)
    ]
