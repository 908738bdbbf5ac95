"""A DICOM file of one frame, read as a picture: as a viewer shows it.

A slice of a CT or MR series, a radiograph, an ultrasound image in colours. Its samples are mapped
by the first window or VOI LUT of the file; without one they stay as they are.
"""

from __future__ import annotations

from pathlib import Path
from typing import IO, TYPE_CHECKING

import numpy as np

from weakseg.data.formats.base import Format, Frame, image_frame
from weakseg.data.formats.dicom.codecs import frames, sample_type
from weakseg.data.formats.dicom.display import (
    Window,
    has_window,
    is_single_grey,
    shown_samples,
)
from weakseg.data.formats.dicom.geometry import plane_affine
from weakseg.data.formats.dicom.header import numbers, read_header, refuse_no_image, whole_number
from weakseg.data.formats.dicom.identity import shown_path, told_of
from weakseg.data.formats.dicom.signs import is_dicom
from weakseg.data.formats.pixels import Pixels, check_file_size, check_size, damaged
from weakseg.errors import DataError

if TYPE_CHECKING:
    from pydicom import Dataset


def inspect_image(f: IO[bytes], path: Path) -> Frame:
    """The frame, from the header; with spacing and place where the file tells them."""
    with told_of(shown_path(path), damaged):
        data = read_header(f)
    where = shown_path(path, data)
    with told_of(where, damaged):
        return _frame(data, where)


def decode_image(f: IO[bytes], path: Path) -> Pixels:
    """The samples as a viewer shows them."""
    return decode_shown(f, path, "file")[0]


def decode_shown(f: IO[bytes], path: Path, window: Window) -> tuple[Pixels, bool]:
    """The samples by a window, and whether one has mapped them to the range of their type.

    Parameters
    ----------
    f : binary file
    path : Path
    window : {"file", "none"} or (low, high)
        See `weakseg.data.formats.dicom.display.shown_samples`.
    """
    check_file_size(f, Path(shown_path(path)))
    f.seek(0)
    with told_of(shown_path(path), damaged):
        data = read_header(f, whole=True)
    where = shown_path(path, data)
    with told_of(where, damaged):
        _frame(data, where)
        values = shown_samples(data, next(frames(data, where)), where, window)
        pixels = Pixels(np.ascontiguousarray(values), values.dtype.itemsize * 8, lossy=_lossy(data))
        mapped = window != "none" and (window != "file" or has_window(data))
        return pixels, mapped and is_single_grey(data)


def _frame(data: Dataset, where: str) -> Frame:
    refuse_no_image(data, where)
    rows, columns = (whole_number(data, k, 0) for k in ("Rows", "Columns"))
    samples = whole_number(data, "SamplesPerPixel", 1)
    check_size(Path(where), (rows, columns), samples, sample_type(data).itemsize)
    if samples not in (1, 3):
        raise ValueError(f"{samples} samples a pixel")
    count = whole_number(data, "NumberOfFrames", 1)
    if count != 1:
        raise DataError(
            "The file is a stack of several frames.",
            where=where,
            found=f"{count} frames",
            expected="one two-dimensional image",
            fix="`weakseg import dicom` writes each frame as a PNG file, and slices of a volume as "
            "one NIfTI file",
        )
    spacing = numbers(data, "PixelSpacing", 2, where)
    if spacing is None or min(spacing) <= 0:
        return image_frame(rows, columns)
    place = plane_affine(data, where)
    affine = np.diag([*spacing, 1.0, 1.0]) if place is None else place
    return Frame(
        (rows, columns, 1),
        affine,
        (spacing[0], spacing[1], 1.0),
        True,
        coded=place is not None,
        placed=place is not None,
    )


def _lossy(data: Dataset) -> bool:
    return str(data.file_meta.TransferSyntaxUID) in (
        "1.2.840.10008.1.2.4.50",
        "1.2.840.10008.1.2.4.51",
        "1.2.840.10008.1.2.4.81",
    )


DICOM_IMAGE: Format[Pixels] = Format(
    "DICOM",
    (".dcm", ".dicom"),
    guess=lambda head, _: is_dicom(head),
    inspect=inspect_image,
    read=decode_image,
)
