"""The outline of a network's mask at the grey level that its probability overlaps best."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from weakseg.masks.checks import Bools, Floats
from weakseg.masks.region import brightness
from weakseg.masks.screen import keep_large_parts

LEVELS = 32
"""Grey levels that are tried, of each of bright and dark."""

LEFT_OUT = 0.9
"""Share of the mask's pixels that a level leaves out at most."""

INSIDE = 0.2
"""Mean probability in a part below which it is none of the lesion: it has leaked."""

OVERLAP = 0.93
"""Of the mask's own overlap with the probability: what a level needs at least."""

ROUGHER = 2.5
"""How many times as rough as the mask's an outline may be; one of noise is rougher."""

SMALLEST_PART = 0.1
"""Parts of a level below this share of the largest are dropped: grains of noise."""

FINE = 512
"""Pixels: the side of a window above which it is looked at more coarsely."""


def level_mask(probability: npt.ArrayLike, image: npt.ArrayLike, mask: npt.ArrayLike) -> Bools:
    """Give a mask the outline that the image has at one grey level.

    A network that learnt from masks of heatmaps knows about where a lesion ends; where the lesion
    differs from what surrounds it the image tells where. Of the bright and the dark parts of the
    image at `LEVELS` grey levels those count that touch the mask and in which the probability is
    `INSIDE` in the mean; the level whose parts, holes filled, overlap the probability best (soft
    Dice) is taken, unless it overlaps less than `OVERLAP` of what the mask itself does, or its
    outline is more than `ROUGHER` times as rough (squared length by area), as where speckle and
    not an edge makes it.

    Parameters
    ----------
    probability : (M, N) array_like
        Of a lesion, in [0, 1].
    image : (M, N[, C]) array_like
        The image that it belongs to.
    mask : (M, N) array_like of bool
        Made of the probability. Where it leaves out what the probability marks, hand over a
        probability of 0 there.

    Returns
    -------
    (M, N) ndarray of bool
        The mask itself where no level is taken. Never empty but for an empty mask.

    Raises
    ------
    ValueError
        For shapes that do not go together.

    Notes
    -----
    Parts are joined by faces, and looked for in a window of thrice the mask's box; a level whose
    parts reach a border of it that the mask does not reach, or fill it, is not taken either. Parts
    below `SMALLEST_PART` of the largest are dropped; parts of the mask that the level's do not
    touch, as of lesions of the other tone, stay as they are. Windows of more than `FINE` pixels are
    looked at in blocks.
    """
    marked, grey = np.asarray(mask, dtype=bool), brightness(image)
    p = np.asarray(probability, dtype=np.float64)
    if not marked.shape == grey.shape == p.shape:
        raise ValueError(
            f"probability, image and mask must have one shape, got {p.shape}, {grey.shape} and "
            f"{marked.shape}"
        )
    if not marked.any():
        return marked
    window = _around(marked)
    step = max(1, -(-max(marked[window].shape) // FINE))
    own, within = marked[window], p[window]
    beyond = float(p.sum() - within.sum()) / step**2
    found = _best(
        _coarser(grey[window], step),
        _coarser(within, step),
        beyond,
        _coarser(own.astype(np.float64), step) >= 0.5 if step > 1 else own,
    )
    if found is None:
        return marked
    outline = np.zeros_like(marked)
    finer = found.repeat(step, 0).repeat(step, 1) if step > 1 else found
    outline[window] = finer[: own.shape[0], : own.shape[1]]
    return outline | _apart(marked, outline)


def _around(mask: Bools) -> tuple[slice, ...]:
    """A mask's box with as much again on every side, as far as the image reaches."""
    where = []
    for axis in range(2):
        hit = np.flatnonzero(mask.any(axis=1 - axis))
        low, high = int(hit[0]), int(hit[-1]) + 1
        more = high - low
        where.append(slice(max(0, low - more), min(mask.shape[axis], high + more)))
    return tuple(where)


def _coarser(values: Floats, step: int) -> Floats:
    """Means of blocks; those at the end repeat the last row and column."""
    if step == 1:
        return values
    rows, columns = (-n % step for n in values.shape)
    whole = np.pad(values, ((0, rows), (0, columns)), mode="edge")
    return whole.reshape(len(whole) // step, step, -1, step).mean(axis=(1, 3))


def _best(grey: Floats, p: Floats, beyond: float, mask: Bools) -> Bools | None:
    """The parts of the best level; None where none is good enough.

    ``beyond``: the sum of the probability outside the window.
    """
    if not mask.any():  # too thin to be seen so coarsely
        return None
    least, best = OVERLAP * _overlap(p, beyond, mask), None
    for parts in _levels(grey, p, mask):
        overlap = _overlap(p, beyond, parts)
        if overlap > least:
            least, best = overlap, parts
    if best is None or _leaks(best, mask) or _roughness(best) > ROUGHER * _roughness(mask):
        return None
    return best


def _apart(mask: Bools, parts: Bools) -> Bools:
    """The parts of a mask that others do not touch: of another tone than they."""
    from scipy import ndimage

    labels, count = ndimage.label(mask)
    kept = np.ones(count + 1, dtype=bool)
    kept[labels[parts]] = kept[0] = False
    untouched: Bools = kept[labels]
    return untouched


def _leaks(parts: Bools, mask: Bools) -> bool:
    """Whether parts fill the window, or reach a border of it that the mask does not reach."""
    ends = [(axis, at) for axis in range(2) for at in (0, -1)]
    beyond = any(parts.take(at, axis).any() and not mask.take(at, axis).any() for axis, at in ends)
    return beyond or bool(parts.all())


def _levels(grey: Floats, p: Floats, mask: Bools) -> Iterator[Bools]:
    """The parts of every level, bright ones first."""
    from scipy import ndimage

    for sign in (1.0, -1.0):
        tone = sign * grey
        for level in np.unique(np.quantile(tone[mask], np.linspace(0, LEFT_OUT, LEVELS))):
            labels, count = ndimage.label(tone >= level)
            touched = np.zeros(count + 1, dtype=bool)
            touched[labels[mask]] = True
            sizes = np.bincount(labels.ravel(), minlength=count + 1)
            mass = np.bincount(labels.ravel(), weights=p.ravel(), minlength=count + 1)
            kept = touched & (mass >= INSIDE * sizes)
            kept[0] = False
            if kept.any():
                yield keep_large_parts(kept[labels], SMALLEST_PART)


def _overlap(p: Floats, beyond: float, mask: Bools) -> float:
    """Soft Dice of a probability and a mask, over the whole image."""
    return 2 * float(p[mask].sum()) / (float(p.sum() + mask.sum()) + beyond)


def _roughness(mask: Bools) -> float:
    """The squared length of an outline, in pixels of the mask on it, by its area."""
    from scipy import ndimage

    edge = mask & ~ndimage.binary_erosion(mask)
    return float(edge.sum()) ** 2 / float(mask.sum())
