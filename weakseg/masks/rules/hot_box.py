"""The part of a large volume that a rule has to look at: where there is heat, and around it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from weakseg.masks.checks import AT_ONCE, Bools, Floats, finite, heat_of, numbers_of
from weakseg.masks.region import brightness
from weakseg.masks.rules.arguments import heat_and_grey
from weakseg.masks.rules.tone_planes import Planes
from weakseg.masks.thresholds import is_flat

Mark = Callable[[Floats, Floats, list[float]], Bools]
"""Heat over its maximum, greys, and the smoothing's standard deviation along each axis → mask."""

_TRUNCATE = 4.0
"""SciPy's Gaussian ends at so many standard deviations."""


def in_hot_box(
    heatmap: npt.ArrayLike,
    image: npt.ArrayLike,
    mark: Mark,
    mark_planes: Callable[[Planes], Bools],
    *,
    above: float,
    blur: float,
) -> Bools:
    """What a rule marks where nothing counts but what is hot, and the image around it.

    Of more than `AT_ONCE` samples the rule gets the box of what is hot, wide enough for the
    smoothing, and of a volume it gets that plane by plane; doubles of a whole large volume, and
    its smoothed copy, would take many times its memory. The mask is the same.

    Parameters
    ----------
    heatmap : (M, N) or (X, Y, Z) array_like
        Raw heat.
    image : (M, N[, C]) or (X, Y, Z[, C]) array_like
    mark : callable
        Marks nothing outside the box of heat above the share.
    mark_planes : callable
        The same of the box of a large volume.
    above : float
        Share of the heat's maximum; below 0 where all counts.
    blur : float
        Standard deviation of the smoothing, as a share of the longer side; of a volume within its
        slices, which lie further apart than pixels do.

    Returns
    -------
    (M, N) or (X, Y, Z) ndarray of bool

    Raises
    ------
    ValueError
        For shapes that differ.
    """
    heat = numbers_of(heatmap)
    sd = smoothing(heat.shape, blur)
    if heat.size <= AT_ONCE:
        whole, grey = heat_and_grey(heatmap, image)
        return mark(whole, grey, sd)
    values = np.asarray(image)
    if values.shape[: heat.ndim] != heat.shape:
        raise ValueError(f"the heatmap is {heat.shape}, the image {values.shape}")
    finite("heatmap", heat)
    mask = np.zeros(heat.shape, dtype=bool)
    if is_flat(heat):
        return mask
    peak = np.float64(heat.max())
    box = box_above(heat, peak, above, sd)
    if heat.ndim == 3:
        mask[box] = mark_planes(Planes(heat[box], values[box], peak, (sd[0], sd[1])))
        return mask
    hot = np.maximum(heat_of(heat[box]), 0.0)
    hot /= peak
    mask[box] = mark(hot, brightness(values[box], heat.ndim), sd)
    return mask


def smoothing(shape: Sequence[int], blur: float) -> list[float]:
    """Standard deviation along each axis; see `in_hot_box`."""
    return [blur * max(shape[:2])] * 2 + [0.0] * (len(shape) - 2)


def box_above(
    heat: npt.NDArray[np.floating],
    peak: np.float64,
    above: float,
    sd: Sequence[float],
    further: int = 0,
) -> tuple[slice, ...]:
    """The box of heat above a share of its peak, wider by some samples on every side, and by what
    the smoothing of its edge sees."""
    first = np.zeros(heat.shape[0], dtype=bool)
    other = np.zeros(heat.shape[1:], dtype=bool)
    for x, part in enumerate(heat):
        hot = np.maximum(heat_of(part), 0.0) / peak > above
        first[x] = hot.any()
        other |= hot
    axes = range(other.ndim)
    marks = [first, *(other.any(axis=tuple(a for a in axes if a != k)) for k in axes)]
    box = []
    for marked, s in zip(marks, sd, strict=True):
        around, at = int(_TRUNCATE * s + 0.5) + further, np.flatnonzero(marked)
        box.append(slice(max(int(at[0]) - around, 0), int(at[-1]) + around + 1))
    return tuple(box)
