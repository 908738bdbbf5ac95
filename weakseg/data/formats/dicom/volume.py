"""A series of DICOM files, or an enhanced object of several frames, read as a volume."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from weakseg.data.formats.base import Format, Frame
from weakseg.data.formats.dicom.codecs import frames, stored_range
from weakseg.data.formats.dicom.display import has_table, rescaled, window_ends
from weakseg.data.formats.dicom.header import read_header, text
from weakseg.data.formats.dicom.identity import shown_path, told_of
from weakseg.data.formats.dicom.series import Series, read_series, series_type
from weakseg.data.formats.dicom.signs import is_dicom
from weakseg.data.formats.grids import shape_words
from weakseg.data.formats.nifti import Voxels, damaged_volume, refuse_large

if TYPE_CHECKING:
    from pydicom import Dataset


def inspect_series(_: IO[bytes], path: Path) -> Frame:
    """The frame of a series, from the headers of all its files."""
    with told_of(shown_path(path), damaged_volume):
        return _read(path).frame


def decode_series(_: IO[bytes], path: Path) -> Voxels:
    """The voxels of a series."""
    with told_of(shown_path(path), damaged_volume):
        return voxels_of(_read(path))


def _read(path: Path) -> Series:
    series = read_series(path)
    refuse_large(series.frame.shape, series_type(series).itemsize, series.where)
    return series


def voxels_of(series: Series) -> Voxels:
    """The voxels of a series whose headers have been read, in its order."""
    slices = series.slices
    columns, rows, count = series.frame.shape
    scales = {(s.slope, s.intercept) for s in slices}
    kind = series_type(series) if len(scales) == 1 else np.dtype(np.float32)
    whole = np.empty((count, rows, columns), kind)
    for k, values in _samples(series):
        if values.shape != (rows, columns):
            raise ValueError(f"a slice of {shape_words(values.shape)} samples")
        if values.dtype.kind == "f" and whole.dtype.kind != "f":
            whole = whole.astype(values.dtype)
        s = slices[k]
        whole[k] = values if len(scales) == 1 else values * np.float64(s.slope) + s.intercept
    slope, inter = next(iter(scales)) if len(scales) == 1 else (1.0, 0.0)
    raw = np.ascontiguousarray(whole.transpose(2, 1, 0))
    same = None if (slope, inter) == (1.0, 0.0) else slope
    return Voxels(raw, same, inter, series.frame, _window(series))


def _window(series: Series) -> tuple[float, float] | None:
    """The window of the slice in the middle, in the values of the volume."""
    s = series.slices[len(series.slices) // 2]
    ends = window_ends(s.header)
    if ends is None or text(s.header, "PhotometricInterpretation") != "MONOCHROME1":
        return ends
    if s.by_table:
        return None
    whole = s.slope * sum(stored_range(s.header)) + 2 * s.intercept  # values are turned round in it
    return whole - ends[1], whole - ends[0]


def _samples(series: Series) -> Iterator[tuple[int, NDArray[Any]]]:
    """The place of each slice in the series and its samples, file by file; bright is large."""
    place = {(s.file, s.index): k for k, s in enumerate(series.slices)}
    of_file: dict[Path, list[int]] = {}
    for file, index in place:
        of_file.setdefault(file, []).append(index)
    for file, wanted in of_file.items():
        where = f"{series.where}, slice {place[file, wanted[0]] + 1} of {len(place)} by its place"
        with told_of(where, damaged_volume), file.open("rb") as f:
            data = read_header(f, whole=True)
            inverse = text(data, "PhotometricInterpretation") == "MONOCHROME1"
            of_values = _by_table if has_table(data) else _inverted if inverse else _as_they_are
            for index, values in enumerate(frames(data, where)):
                if (file, index) in place:
                    yield place[file, index], of_values(data, values)


def _as_they_are(_: Dataset, values: NDArray[Any]) -> NDArray[Any]:
    return values


def _by_table(data: Dataset, values: NDArray[Any]) -> NDArray[Any]:
    """What the modality LUT makes of samples, turned round where they are stored so."""
    made = np.asarray(rescaled(data, values, ""), dtype=np.float32)
    if text(data, "PhotometricInterpretation") != "MONOCHROME1":
        return made
    return np.float32(rescaled(data, np.array([stored_range(data)]), "").sum()) - made


def _inverted(data: Dataset, values: NDArray[Any]) -> NDArray[Any]:
    low, high = stored_range(data)
    return (low + high - values).astype(values.dtype)


DICOM_SERIES: Format[Voxels] = Format(
    "DICOM",
    (),
    guess=lambda head, _: is_dicom(head),
    inspect=inspect_series,
    read=decode_series,
)
