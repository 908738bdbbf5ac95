"""Slices of volumes as images: read once a volume, scaled by the volume, laid back into it.

A slice lies across the third axis. Its rows are the second axis and its columns the first, as files
store them: nothing is turned or resampled.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from weakseg.data.formats.base import Frame
from weakseg.data.formats.dicom.identity import public_path
from weakseg.data.formats.reading import decode_volume, read_frame
from weakseg.data.formats.registry import VOLUMES
from weakseg.data.held import Held
from weakseg.data.images import (
    STRETCH,
    Intensity,
    narrowed,
    refuse_beyond_unit,
    refuse_not_finite,
    scaling,
)
from weakseg.data.mask_rules import MaskRule
from weakseg.data.noise import median_noise
from weakseg.data.volumes import read_volume_mask
from weakseg.data.windows import Window, ends_of
from weakseg.errors import DataError

AT_MOST = 2**29
"""Bytes of volumes that are held in memory at once; the last one is held whatever its size."""


@dataclass(frozen=True, eq=False)
class ScaledVolume:
    """A volume whose slices are scaled as they are asked for.

    Attributes
    ----------
    raw : (X, Y, Z) ndarray
        As stored.
    low, high : float
        Stored values that become 0 and 1.
    slope, inter : float
        The file's value is ``raw * slope + inter``.
    stretched : bool
        Whether ``low`` and ``high`` are of the volume's own range, so that white is not clipped.
    """

    raw: NDArray[Any]
    low: float
    high: float
    slope: float = 1.0
    inter: float = 0.0
    stretched: bool = False

    @property
    def nbytes(self) -> int:
        """Of the voxels."""
        return int(self.raw.nbytes)

    def value(self, stored: float) -> float:
        """The file's value of a stored number."""
        return stored * self.slope + self.inter

    def values(self) -> NDArray[np.float32]:
        """(X, Y, Z) values of the file."""
        return (self.raw * np.float64(self.slope) + self.inter).astype(np.float32)

    def plane(self, z: int) -> NDArray[np.float32]:
        """(Y, X) slice in [0, 1]."""
        stored = self.raw[:, :, z].T
        if self.high == self.low:
            return np.zeros(stored.shape, dtype=np.float32)
        if self.low == 0 and np.issubdtype(stored.dtype, np.integer):
            return np.clip(stored / np.float32(self.high), 0, 1, dtype=np.float32)
        scaled = (stored.astype(np.float64) - self.low) / (self.high - self.low)
        return np.clip(scaled, 0, 1).astype(np.float32)


def slice_image(
    path: Path, z: int, intensity: Intensity, window: Window = "auto"
) -> NDArray[np.float32]:
    """A slice in [0, 1], scaled by the range of its whole volume.

    Parameters
    ----------
    path : Path
        Of a volume.
    z : int
        Index along the third axis, from 0.
    intensity : {"auto", "dtype", "percentile"}
        As `weakseg.data.images.scale_intensity` has it, over the whole volume.
    window : {"auto", "file", "percentiles"} or (centre, width), optional
        Values of the file that become 0 and 1, in the place of its range; see `scaled_volume`.

    Returns
    -------
    (Y, X) ndarray of float32

    Raises
    ------
    DataError
        If the volume cannot be read, or has no such slice.
    """
    volume = held_volume(path, intensity, window)
    return volume.plane(_inside(path, z, volume.raw.shape[2]))


def slice_and_neighbours(
    path: Path, z: int, intensity: Intensity, window: Window = "auto"
) -> NDArray[np.float32]:
    """As `slice_image`, (Y, X, 3): the slice before, itself, the one behind.

    At an end of the volume the slice stands for the neighbour that it lacks.
    """
    volume = held_volume(path, intensity, window)
    last = volume.raw.shape[2] - 1
    _inside(path, z, last + 1)
    return np.stack([volume.plane(min(max(k, 0), last)) for k in (z - 1, z, z + 1)], axis=2)


def slices_noise(path: Path, intensity: Intensity, window: Window = "auto") -> float | None:
    """The noise of a volume whose slices are looked at, see `weakseg.data.noise.median_noise`."""

    def told() -> float | None:
        volume = held_volume(path, intensity, window)
        depth = volume.raw.shape[2]
        return median_noise(volume.plane, depth, stretched=volume.stretched)

    return _NOISE.get(path, _what(intensity, window), told)


def held_volume(path: Path, intensity: Intensity, window: Window = "auto") -> ScaledVolume:
    """`scaled_volume`, read once and held as long as there is room."""
    what = _what(intensity, window)
    return _HELD.get(path, what, lambda: scaled_volume(path, intensity, window))


def _what(intensity: Intensity, window: Window) -> tuple[str, ...]:
    return "image", intensity, repr(window)


def slice_mask(
    path: Path,
    z: int,
    rule: MaskRule = "nonzero",
    grid: Frame | None = None,
    *,
    image: Path | None = None,
) -> NDArray[np.bool_]:
    """A slice of a mask, (Y, X); see `weakseg.data.volumes.read_volume_mask`."""
    # That a mask lies on the grid of one image says nothing of another.
    on = "" if grid is None else f"{grid.shape} {[a.tolist() for a in grid.affines]}"
    what = ("mask", repr(rule), on)
    mask = _HELD.get(path, what, lambda: read_volume_mask(path, rule, grid, image=image))
    return np.ascontiguousarray(mask[:, :, _inside(path, z, mask.shape[2])].T)


def volume_frame(path: Path) -> Frame:
    """Where the voxels of a volume lie, from its header, which is read once."""
    return _FRAMES.get(path, ("frame",), lambda: read_frame(path, VOLUMES))


def slice_frame(frame: Frame, z: int) -> Frame:
    """The frame of one slice of a volume: of its size, and in its place."""
    affine = frame.affine.copy()
    affine[:3, 3] += z * affine[:3, 2]
    x, y, _ = frame.shape
    return Frame(
        (x, y, 1),
        affine,
        frame.spacing,
        frame.known_spacing,
        coded=frame.coded,
        placed=frame.placed,
    )


def stacked(
    shape: Sequence[int], indices: Sequence[int], planes: Sequence[NDArray[Any]]
) -> NDArray[Any]:
    """Slices laid back into a volume of a shape (X, Y, Z); what none of them fills is 0."""
    values = np.zeros(tuple(shape), dtype=planes[0].dtype if planes else bool)
    for z, plane in zip(indices, planes, strict=True):
        values[:, :, z] = plane.T
    return values


def scaled_volume(path: Path, intensity: Intensity, window: Window = "auto") -> ScaledVolume:
    """A volume and the range that its slices are scaled by.

    Parameters
    ----------
    path : Path
    intensity : {"auto", "dtype", "percentile"}
        Where no window counts.
    window : {"auto", "file", "percentiles"} or (centre, width), optional
        In the file's values; ``file``: of a DICOM series that of the slice in its middle, of NIfTI
        ``cal_min`` and ``cal_max``, and of a file without one what ``intensity`` says.

    Raises
    ------
    DataError
        As `weakseg.data.volumes.read_volume`, and as `refuse_beyond_unit`.
    """
    stored = decode_volume(path)
    refuse_not_finite(stored.raw, path)
    raw = narrowed(stored.raw)
    slope = 1.0 if stored.slope is None else stored.slope
    shown = stored.window if window == "file" else None
    shown = shown if isinstance(window, str) else ends_of(window)
    if shown is not None:
        ends = ((shown[0] - stored.inter) / slope, (shown[1] - stored.inter) / slope)
        return ScaledVolume(stored.raw, *ends, slope, stored.inter)
    intensity = "percentile" if window == "percentiles" else intensity
    if raw is not stored.raw:  # 8 bits that were widened
        slope *= float(stored.raw.max()) / max(1.0, float(raw.max()))
    if stored.slope is None and np.issubdtype(raw.dtype, np.integer):
        if scaling(raw, intensity) == "dtype":
            return ScaledVolume(raw, 0.0, float(np.iinfo(raw.dtype).max), slope, stored.inter)
    elif intensity == "dtype":
        refuse_beyond_unit(stored.scaled(), path)
        ends = (-stored.inter / slope, (1 - stored.inter) / slope)
        return ScaledVolume(stored.raw, *ends, slope, stored.inter)
    low, high = _stretch(raw)
    if high <= low:
        low, high = float(raw.min()), float(raw.max())
    ends = (high, low) if slope < 0 else (low, high)
    return ScaledVolume(raw, *ends, slope, stored.inter, stretched=True)


def stored_values(
    path: Path, intensity: Intensity, window: Window = "auto"
) -> tuple[NDArray[Any], float, float]:
    """(X, Y, Z) numbers of a volume, and the slope and intercept that make its values of them.

    Those of `held_volume` where it is in memory; else they are read, and not kept.
    """
    scaled: ScaledVolume | None = _HELD.peek(path, _what(intensity, window))
    if scaled is not None:
        return scaled.raw, scaled.slope, scaled.inter
    stored = decode_volume(path)
    return stored.raw, 1.0 if stored.slope is None else stored.slope, stored.inter


def file_values(path: Path, intensity: Intensity, window: Window = "auto") -> NDArray[Any]:
    """(X, Y, Z) values of a volume, as `weakseg.data.volumes.read_volume` gives them.

    Short integers where those are the values, else float32: of large volumes singles take memory.
    Nothing is read of one that `held_volume` has in memory as its file has it.
    """
    held: ScaledVolume | None = _HELD.peek(path, _what(intensity, window))
    if held is not None and (same := _as_they_are(held.raw, held.slope, held.inter)) is not None:
        return same
    stored = decode_volume(path)
    refuse_not_finite(stored.raw, path)
    same = _as_they_are(stored.raw, 1.0 if stored.slope is None else stored.slope, stored.inter)
    if same is not None:
        return same
    values = stored.scaled()
    refuse_not_finite(values, path)
    return values


def _as_they_are(raw: NDArray[Any], slope: float, inter: float) -> NDArray[Any] | None:
    """Stored numbers whose values fit into a type that is as short; None of others."""
    short = np.iinfo(np.int16)
    if slope != 1 or (inter and inter != round(inter)):
        return None
    if not inter and (raw.dtype == np.float32 or (raw.dtype.kind in "iu" and raw.itemsize <= 2)):
        return raw
    if raw.dtype.kind not in "iu" or raw.itemsize > 2:
        return None
    if int(raw.min()) + inter < short.min or int(raw.max()) + inter > short.max:
        return None
    return np.add(raw, int(inter), dtype=np.int16, casting="unsafe")


def _stretch(raw: NDArray[Any]) -> tuple[float, float]:
    """The percentiles of `STRETCH`; of short integers by counting, as sorting takes a copy."""
    if raw.dtype.kind not in "iu" or raw.dtype.itemsize > 2:
        low, high = (float(v) for v in np.percentile(raw, STRETCH))
        return low, high
    first = int(np.iinfo(raw.dtype).min)
    counts = np.zeros(2 ** (8 * raw.dtype.itemsize), dtype=np.int64)
    for part in raw:
        counts += np.bincount(part.ravel().astype(np.int64) - first, minlength=len(counts))
    up_to = np.cumsum(counts)
    ends = []
    for q in STRETCH:  # linear between the two values that the rank lies between
        rank = q / 100 * (raw.size - 1)
        below = int(np.searchsorted(up_to, int(rank), side="right")) + first
        above = int(np.searchsorted(up_to, min(int(rank) + 1, raw.size - 1), side="right")) + first
        ends.append(below + (above - below) * (rank - int(rank)))
    return ends[0], ends[1]


def _inside(path: Path, z: int, count: int) -> int:
    if not 0 <= z < count:
        raise DataError(
            "The volume has no such slice.",
            where=public_path(path),
            found=f"slice {z}",
            expected=f"0 to {count - 1}: an index along the third axis",
            fix="correct the column `slice` (the first slice is 0)",
        )
    return z


_HELD, _FRAMES, _NOISE = Held(AT_MOST), Held(2**22), Held(2**20)
