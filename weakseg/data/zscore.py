"""Intensities shifted and scaled to mean 0 and standard deviation 1, channel by channel."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

Scale = tuple[float, float] | None
"""Mean and standard deviation of a channel; None of a constant one."""


def zscore(values: ArrayLike, region: ArrayLike | None = None) -> NDArray[np.float32]:
    """Each channel shifted and scaled to mean 0 and standard deviation 1 inside a region.

    Values outside of the region are shifted and scaled by the same numbers. A channel that is
    constant inside of it becomes 0 everywhere.

    Parameters
    ----------
    values : (C, *size) array_like
        Finite numbers; ``size`` of two or three dimensions.
    region : (*size) array_like of bool, optional
        Default: everything.

    Returns
    -------
    (C, *size) ndarray of float32

    Raises
    ------
    ValueError
        If the region has another shape, or holds nothing.
    """
    channels = np.asarray(values, dtype=np.float32)
    return scaled_by(channels, scales_of(channels, region))


def scales_of(channels: NDArray[np.float32], region: ArrayLike | None = None) -> tuple[Scale, ...]:
    """What `zscore` shifts and scales each channel by; with its errors."""
    inside = None if region is None else np.asarray(region, dtype=bool)
    if inside is not None and inside.shape != channels.shape[1:]:
        raise ValueError(f"a region of shape {inside.shape} in channels of {channels.shape[1:]}")
    if not (channels[0].size if inside is None else inside.any()):
        raise ValueError("the region holds nothing")
    scales: list[Scale] = []
    for channel in channels:
        low, high = _extremes(channel, inside)
        scales.append(None if low == high else _moments(channel, inside))
    return tuple(scales)


def scaled_by(
    channels: NDArray[np.float32], scales: Sequence[Scale], kind: DTypeLike = np.float32
) -> NDArray[Any]:
    """Channels shifted and scaled, in double precision, then single, then kept as ``kind``."""
    largest = float(np.finfo(np.float32).max)
    out = np.zeros(channels.shape, dtype=kind)
    for k, (channel, scale) in enumerate(zip(channels, scales, strict=True)):
        if scale is None:
            continue
        mean, deviation = scale
        for x, part in enumerate(channel):  # one by one, as all at once take four times the memory
            scaled = (part.astype(np.float64) - mean) / deviation
            out[k, x] = np.clip(scaled, -largest, largest).astype(np.float32)
    return out


def _chosen(
    channel: NDArray[np.float32], inside: NDArray[np.bool_] | None
) -> Iterator[NDArray[np.float32]]:
    """The values of a channel inside a region, a slab along the first axis at a time."""
    for x, part in enumerate(channel):
        values = part.ravel() if inside is None else part[inside[x]]
        if values.size:
            yield values


def _extremes(
    channel: NDArray[np.float32], inside: NDArray[np.bool_] | None
) -> tuple[float, float]:
    ends = [(float(v.min()), float(v.max())) for v in _chosen(channel, inside)]
    return min(e[0] for e in ends), max(e[1] for e in ends)


def _moments(channel: NDArray[np.float32], inside: NDArray[np.bool_] | None) -> tuple[float, float]:
    """Mean and standard deviation, in double precision."""
    sums = [(v.size, v.sum(dtype=np.float64)) for v in _chosen(channel, inside)]
    count = sum(n for n, _ in sums)
    mean = math.fsum(s for _, s in sums) / count
    squares = ((v.astype(np.float64) - mean) ** 2 for v in _chosen(channel, inside))
    return mean, math.sqrt(math.fsum(s.sum() for s in squares) / count)
