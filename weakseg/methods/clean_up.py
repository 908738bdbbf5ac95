"""Masks cleaned up: of a whole volume, and of the slices of one together."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from weakseg.config import VolumesConfig
from weakseg.data.cases import Case
from weakseg.data.slices import stacked, volume_frame
from weakseg.masks.clean_up import keep_parts, vote_along
from weakseg.methods.base import Prediction


def clean_up(
    cases: Sequence[Case], predictions: Sequence[Prediction], how: VolumesConfig
) -> list[Prediction]:
    """What a method says of the cases of a file, their masks cleaned up; images stay."""
    return _CLEANED[cases[0].noun](cases, predictions, how)


def clean_whole(prediction: Prediction, how: VolumesConfig) -> Prediction:
    """What a method says of a whole volume, its mask cleaned up."""
    mask = vote_along(prediction.mask, np.ones(prediction.mask.shape[2], bool), how.smooth)
    mask = keep_parts(
        mask, min_voxels=how.min_voxels, min_slices=how.min_slices, largest=how.largest
    )
    return replace(prediction, mask=mask)


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
    whole = clean_volume(whole, at, [p.gated for p in predictions], how)
    return [
        replace(p, mask=np.ascontiguousarray(whole[:, :, z].T))
        for z, p in zip(at, predictions, strict=True)
    ]


def clean_volume(
    mask: np.ndarray, at: Sequence[int], gated: Sequence[bool], how: VolumesConfig
) -> np.ndarray:
    """The mask of a volume, cleaned up as `clean_slices` has it.

    Parameters
    ----------
    mask : (X, Y, Z) ndarray of bool
    at : sequence of int
        The slices that a method has spoken of.
    gated : sequence of bool
        Whether the gate has emptied each of them.
    how : VolumesConfig
    """
    present = np.zeros(mask.shape[2], dtype=bool)
    present[list(at)] = True
    if how.smooth:
        mask = vote_along(mask, present, how.smooth)
        mask[:, :, [z for z, empty in zip(at, gated, strict=True) if empty]] = False
    return keep_parts(
        mask, min_voxels=how.min_voxels, min_slices=how.min_slices, largest=how.largest
    )


def _as_they_are(
    _: Sequence[Case], predictions: Sequence[Prediction], __: VolumesConfig
) -> list[Prediction]:
    return list(predictions)


def _whole(
    _: Sequence[Case], predictions: Sequence[Prediction], how: VolumesConfig
) -> list[Prediction]:
    return [clean_whole(p, how) for p in predictions]


def _slices(
    cases: Sequence[Case], predictions: Sequence[Prediction], how: VolumesConfig
) -> list[Prediction]:
    return clean_slices(cases, predictions, volume_frame(cases[0].image).shape, how)


_CLEANED: dict[
    str, Callable[[Sequence[Case], Sequence[Prediction], VolumesConfig], list[Prediction]]
] = {"image": _as_they_are, "volume": _whole, "slice": _slices}
"""What a case is → how the masks of its file are cleaned up."""
