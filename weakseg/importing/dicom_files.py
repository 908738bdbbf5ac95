"""From what a DICOM series holds to files: a NIfTI volume, or a PNG picture a frame."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from weakseg.data.formats.dicom.codecs import frames
from weakseg.data.formats.dicom.display import Window, shown_samples
from weakseg.data.formats.dicom.header import read_header
from weakseg.data.formats.dicom.series import Series
from weakseg.data.formats.dicom.volume import voxels_of
from weakseg.data.formats.nifti import Voxels, refuse_large, write_nifti
from weakseg.runs import write_bytes


def write_volume(path: Path, series: Series) -> None:
    """Write the values of a series with its place; whole numbers as such, which loses nothing."""
    refuse_large(series.frame.shape, 2, series.where)
    write_nifti(path, _whole_numbers(voxels_of(series)), series.frame)


def _whole_numbers(voxels: Voxels) -> NDArray[Any]:
    """The values of voxels, as short integers where that loses nothing; else as float32."""
    slope, inter, raw = 1.0 if voxels.slope is None else voxels.slope, voxels.inter, voxels.raw
    if raw.dtype.kind in "iu" and slope == round(slope) and inter == round(inter):
        ends = [int(v) * int(slope) + int(inter) for v in (raw.min(), raw.max())]
        for kind in (np.int16, np.uint16, np.int32):
            info = np.iinfo(kind)
            if info.min <= min(ends) and max(ends) <= info.max:
                if (slope, inter) == (1, 0):
                    return raw.astype(kind, copy=False)
                return (raw.astype(np.int64) * int(slope) + int(inter)).astype(kind)
    return voxels.scaled()


def write_pictures(file: Path, paths: Mapping[int, Path], window: Window) -> None:
    """Write frames of a file as a viewer shows them.

    Parameters
    ----------
    file : Path
    paths : mapping of int to Path
        The frame → where it is written.
    window : {"file", "none"} or (low, high)
        See `weakseg.data.formats.dicom.display.shown_samples`.
    """
    with file.open("rb") as f:
        data = read_header(f, whole=True)
    for k, values in enumerate(frames(data, "")):
        if k in paths:
            _write_png(paths[k], _deep(shown_samples(data, values, "", window)))


def _write_png(path: Path, values: NDArray[Any]) -> None:
    """Write (M, N) or (M, N, 3) values of 8 or 16 bits, whole or not at all."""
    import cv2

    ordered = values if values.ndim == 2 else np.ascontiguousarray(values[..., ::-1])
    _, png = cv2.imencode(".png", ordered)
    write_bytes(path, png.tobytes(), flushed=False)


def _deep(values: NDArray[Any]) -> NDArray[Any]:
    """Values of 8 or 16 bits as they are, others from the least to the largest in 16 bits."""
    if values.dtype in (np.uint8, np.uint16):
        return values
    low, high = float(values.min()), float(values.max())
    if not np.isfinite((low, high)).all():
        raise ValueError("values that are no numbers")
    step = 65535 / (high - low) if high > low else 0.0
    return np.rint((values.astype(np.float64) - low) * step).astype(np.uint16)
