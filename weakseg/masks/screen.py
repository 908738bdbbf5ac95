"""Which parts of a mask to keep: by their size, and by how sure the network is of them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt

from weakseg.masks.checks import AT_ONCE
from weakseg.masks.parts import find_parts

Bools = npt.NDArray[np.bool_]

SHARES = 101
"""How many shares are tried at most."""

SLACK = 1e-9
"""A part of exactly the share stays, however the product is rounded."""


def keep_large_parts(mask: npt.ArrayLike, share: float) -> Bools:
    """Drop the small parts of a mask, then fill the holes of what is left.

    Parameters
    ----------
    mask : (M, N[, P]) array_like of bool
    share : float
        Parts below this share of the largest one's size are dropped; 0 keeps all.

    Returns
    -------
    (M, N[, P]) ndarray of bool
        Parts are joined by faces, not by corners.

    Raises
    ------
    ValueError
        For a share outside [0, 1].
    """
    from scipy import ndimage

    if not 0 <= share <= 1:
        raise ValueError(f"share must be in [0, 1], got {share}")
    marked = np.asarray(mask, dtype=bool)
    if marked.ndim == 3 and marked.size > AT_ONCE:
        faces = ndimage.generate_binary_structure(3, 1)
        parts = find_parts(marked, faces)
        kept = parts.keep(parts.sizes >= share * parts.sizes.max(initial=0) * (1 - SLACK))
        del mask, marked, parts
        return _without_holes(kept, faces)
    labels, _ = ndimage.label(marked)
    sizes = np.bincount(labels.ravel())
    sizes[0] = 0
    kept = (sizes > 0) & (sizes >= share * sizes.max() * (1 - SLACK))
    filled: Bools = ndimage.binary_fill_holes(kept[labels])
    return filled


def _without_holes(mask: Bools, faces: npt.NDArray[Any]) -> Bools:
    """A mask with all that it encloses; in its place."""
    around = find_parts(~mask, faces)
    outside = np.zeros(around.count + 1, dtype=bool)
    last = mask.shape[2]
    for begin, labels, parts in around.slabs():
        sides = [labels[0], labels[-1], labels[:, 0], labels[:, -1]]
        sides += [labels[..., 0]] if begin == 0 else []
        sides += [labels[..., -1]] if begin + labels.shape[2] == last else []
        for side in sides:
            outside[parts[np.unique(side)]] = True
    for begin, labels, parts in around.slabs():
        holes = ~outside[parts] & (parts > 0)
        mask[..., begin : begin + labels.shape[2]] |= holes[labels]
    return mask


def screen_parts(
    mask: npt.ArrayLike,
    score: npt.ArrayLike,
    *,
    min_area: float = 0.0,
    min_peak: float = 0.0,
) -> Bools:
    """Drop the parts of a mask that are too small, or of which nobody is sure.

    Parameters
    ----------
    mask : (M, N[, P]) array_like of bool
    score : (M, N[, P]) array_like
        Probability of a lesion, or heat.
    min_area : float, optional
        Parts below this share of the image are dropped.
    min_peak : float, optional
        Parts whose highest score is below this are dropped.

    Returns
    -------
    (M, N[, P]) ndarray of bool

    Raises
    ------
    ValueError
        For shapes that differ, or a share outside [0, 1].
    """
    from scipy import ndimage

    candidates, scores = np.asarray(mask, dtype=bool), np.asarray(score)
    if candidates.shape != scores.shape:
        raise ValueError(f"the mask is {candidates.shape}, the score {scores.shape}")
    if not 0 <= min_area <= 1:
        raise ValueError(f"min_area must be in [0, 1], got {min_area}")
    planes = (slice(None),) * candidates.ndim + (None,) * (3 - candidates.ndim)
    parts = find_parts(candidates[planes], ndimage.generate_binary_structure(3, 1))
    if not parts.count:
        return candidates.copy()
    kept = parts.sizes >= min_area * candidates.size * (1 - SLACK)
    kept &= parts.peaks(scores[planes]) >= min_peak
    return parts.keep(kept).reshape(candidates.shape)


def best_min_area(pairs: Iterable[tuple[npt.ArrayLike, npt.ArrayLike]]) -> float:
    """The ``min_area`` of the best mean Dice over a set of images.

    Parameters
    ----------
    pairs : iterable of (mask, truth)
        (M, N[, P]) each; read once. An empty mask of an empty truth counts as 1, any other of it
        as 0: on healthy images it is what dropping parts is for.

    Returns
    -------
    float
        0, or midway between two neighbouring sizes, as shares, of the parts of all images: the
        largest is never dropped. Of equally good ones the lowest; of very many sizes `SHARES`
        evenly ranked ones are tried.

    Raises
    ------
    ValueError
        If there is no image, or shapes differ.
    """
    from scipy import ndimage

    images = []
    for mask, truth in pairs:
        found, true = np.asarray(mask, dtype=bool), np.asarray(truth, dtype=bool)
        if found.shape != true.shape:
            raise ValueError(f"the mask is {found.shape}, the truth {true.shape}")
        labels, count = ndimage.label(found)
        sizes = np.bincount(labels.ravel(), minlength=count + 1)[1:]
        shared = np.bincount(labels[true], minlength=count + 1)[1:]
        images.append((sizes, shared, int(true.sum()), found.size))
    if not images:
        raise ValueError("pairs must hold at least one image, got none")
    shares = np.unique(np.concatenate([sizes / whole for sizes, _, _, whole in images]))
    cuts = np.concatenate([[0.0], (shares[:-1] + shares[1:]) / 2])
    if len(cuts) > SHARES:
        cuts = cuts[np.linspace(0, len(cuts) - 1, SHARES).round().astype(int)]
    total = np.zeros(len(cuts))
    for sizes, shared, area, whole in images:
        kept = sizes[None] >= cuts[:, None] * whole * (1 - SLACK)
        both = (kept * sizes).sum(1) + area
        twice = 2 * (kept * shared).sum(1)
        total += np.where(both > 0, twice / np.maximum(both, 1), 1.0)
    return float(cuts[total >= total.max() - SLACK][0])
