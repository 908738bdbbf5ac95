"""A heatmap on disk: raw scores with all that is needed to lay them over the image."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from weakseg.data.geometry import Letterbox, letterbox, to_original
from weakseg.data.volume_grid import VolumeBox, heat_planes
from weakseg.errors import RunError, first_line, lacks_memory, note_file
from weakseg.heatmaps.npz import pack, unpack
from weakseg.masks.thresholds import is_flat
from weakseg.runs import write_bytes

MOST = 2**16
"""Pixels that a side of an image has at most."""


@dataclass(frozen=True)
class Heatmap:
    """The heatmap of one image, or of one whole volume.

    Attributes
    ----------
    raw : (h, w) or (d, h, w) ndarray of float32
        Signed scores on the grid of the network's layer; of a volume slices, rows and columns.
    shape : tuple of int
        (height, width) of the original image; (X, Y, Z) of a volume.
    size : int
        Side of the square that the network saw.
    layer, method, target : str
        What was explained, and how.
    probability : float
        The classifier's probability of a lesion.
    input_scale : float
        How many times enlarged the network saw the image; 1 where maps of several scales were
        averaged.
    depth : int, optional
        Of a volume: slices that the network saw.
    """

    raw: np.ndarray
    shape: tuple[int, ...]
    size: int
    layer: str
    method: str
    target: str
    probability: float
    input_scale: float = 1.0
    depth: int | None = None

    @property
    def box(self) -> Letterbox:
        """Where the image lay in the network's square."""
        height, width = self.shape
        return letterbox((height, width), self.size)

    def full(self) -> np.ndarray:
        """Positive heat at the image's own resolution, float32, not normalised.

        As in Grad-CAM, the ReLU comes before the bilinear enlargement. A map with a value that is
        no number shows nothing: its heat is 0 throughout.

        Returns
        -------
        (H, W) or (X, Y, Z) ndarray
        """
        if self.depth is None:
            return to_original(self._positive, self.box)
        heat = np.empty(self.shape, dtype=np.float32)
        for z, plane in enumerate(self.planes()):
            heat[:, :, z] = plane.T
        return heat

    def planes(self) -> Iterator[np.ndarray]:
        """`full` of a volume, slice by slice along its third axis: (Y, X) each."""
        assert self.depth is not None
        x, y, z = self.shape
        return heat_planes(self._positive, VolumeBox((x, y, z), self.size, self.depth))

    @property
    def _positive(self) -> np.ndarray:
        finite = np.isfinite(self.raw).all()
        return np.maximum(self.raw, 0) if finite else np.zeros_like(self.raw)

    @property
    def flat(self) -> bool:
        """Whether it shows nothing: no positive heat, or not a number."""
        return is_flat(self.raw)


def _packed(raw: np.ndarray) -> tuple[np.ndarray, float]:
    """Half-precision values between -1 and 1, and their scale."""
    raw = np.asarray(raw, dtype=np.float32)
    finite = np.abs(raw[np.isfinite(raw)])
    scale = float(finite.max()) if finite.size and finite.max() > 0 else 1.0
    return (raw / scale).astype(np.float16), scale


def _unpacked(values: np.ndarray, scale: float) -> np.ndarray:
    return values.astype(np.float32) * np.float32(scale)


def as_stored(heatmap: Heatmap) -> Heatmap:
    """A heatmap rounded as `save_heatmap` rounds it: one of a file gives no other mask."""
    return replace(heatmap, raw=_unpacked(*_packed(heatmap.raw)))


def save_heatmap(path: Path, heatmap: Heatmap) -> None:
    """Write a heatmap: half-precision values between -1 and 1, times a scale."""
    values, scale = _packed(heatmap.raw)
    about = {
        "scale": scale,
        "shape": [int(n) for n in heatmap.shape],
        "size": int(heatmap.size),
        "layer": heatmap.layer,
        "method": heatmap.method,
        "target": heatmap.target,
        "probability": float(heatmap.probability),
        "input_scale": float(heatmap.input_scale),
    } | ({} if heatmap.depth is None else {"depth": int(heatmap.depth)})
    # All words and numbers in one entry: an entry takes longer to write than a map.
    entries = {"values": values, "about": np.asarray(json.dumps(about))}
    write_bytes(path, pack(entries), flushed=False)


def _check(heat: Heatmap) -> None:
    dims = 2 if heat.depth is None else 3
    if heat.raw.ndim != dims or len(heat.shape) != dims or not heat.raw.size:
        raise ValueError(f"values of the shape {heat.raw.shape} for an image of {heat.shape}")
    if not all(0 < n <= MOST for n in (*heat.shape, heat.size, heat.depth or 1)):
        raise ValueError(f"an image of {heat.shape}, seen at {heat.size} pixels")
    # Heatmaps of several lesion labels once held a sum that passed 1 in its last bit.
    if not 0 <= heat.probability <= 1 + 1e-6:
        raise ValueError(f"a probability of {heat.probability}")
    if not 0 < heat.input_scale < MOST:
        raise ValueError(f"an image enlarged {heat.input_scale} times")


def _entries(path: Path) -> dict[str, Any]:
    """The arrays of a file."""
    data = path.read_bytes()
    ours = unpack(data)
    if ours is not None:
        return ours
    with np.load(io.BytesIO(data), allow_pickle=False) as z:
        return dict(z)


def load_heatmap(path: Path) -> Heatmap:
    """Read a heatmap.

    Raises
    ------
    RunError
        If the file is missing or damaged.
    """
    try:
        z = _entries(path)
        # Files from before had an entry for each.
        about = json.loads(str(z["about"])) if "about" in z else z
        heat = Heatmap(
            raw=_unpacked(z["values"], about["scale"]),
            shape=tuple(int(v) for v in about["shape"]),
            size=int(about["size"]),
            layer=str(about["layer"]),
            method=str(about["method"]),
            target=str(about["target"]),
            probability=float(about["probability"]),
            input_scale=float(about["input_scale"]) if "input_scale" in about else 1.0,
            depth=int(about["depth"]) if "depth" in about else None,
        )
        _check(heat)
        return heat
    except FileNotFoundError:
        raise RunError(
            "A heatmap is missing.",
            where=str(path),
            fix="make the heatmaps again: weakseg heatmap-segment CONFIG --force",
        ) from None
    except Exception as e:  # numpy and zipfile raise many kinds
        if lacks_memory(e):
            note_file(e, path)
            raise
        raise RunError(
            "A heatmap file is damaged.",
            where=str(path),
            found=first_line(e),
            fix="make the heatmaps again: weakseg heatmap-segment CONFIG --force",
        ) from None
