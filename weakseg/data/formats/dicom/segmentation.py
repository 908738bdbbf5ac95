"""A mask as a DICOM segmentation (SEG), which a viewer lays over the series that it belongs to.

By highdicom. The object refers to the slices by their UIDs and repeats the patient and the study of
their headers, without which no archive files it: it is as confidential as the series.
"""

from __future__ import annotations

import hashlib
import importlib.util
import io
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from weakseg.data.formats.dicom.codecs import INSTALL
from weakseg.data.formats.dicom.geometry import plane
from weakseg.data.formats.dicom.header import read_header, refuse_no_image, text
from weakseg.data.formats.dicom.identity import shown_path
from weakseg.data.formats.dicom.series import read_series
from weakseg.errors import DataError, UserError, lacks_memory, note_file
from weakseg.runs import write_bytes

if TYPE_CHECKING:
    from pydicom import Dataset

SUFFIX = ".seg.dcm"
_SERIES_NUMBER = 9001
_NAME = "Lesion"


def refuse_without_highdicom() -> None:
    """Raise a UserError where highdicom is not installed."""
    if importlib.util.find_spec("highdicom") is None:
        raise UserError(
            "DICOM segmentations are written with the help of highdicom, which is not installed.",
            fix=INSTALL,
        )


def write_segmentation(path: Path, mask: ArrayLike, image: Path, algorithm: str) -> None:
    """Write a mask as a binary segmentation of one segment, whole or not at all.

    Parameters
    ----------
    path : Path
    mask : (X, Y, Z) or (M, N) array_like of bool
        Of a series, or of a DICOM image that tells its place.
    image : Path
        The folder of the series, or the file.
    algorithm : str
        What has made the mask.

    Raises
    ------
    DataError
        If the series cannot be read, an image tells no place, or its headers lack what a
        segmentation repeats.
    ValueError
        If the mask has another shape.
    """
    refuse_without_highdicom()
    marked = np.asarray(mask, dtype=bool)
    seen = _series(image, marked) if marked.ndim == 3 else _single(image, marked)
    try:
        made = _segmentation(seen, algorithm)
    except Exception as e:  # what it says may repeat the header
        if lacks_memory(e):
            note_file(e, seen.where)
            raise
        raise DataError(
            "The headers do not hold what a DICOM segmentation repeats of them.",
            where=seen.where,
            found=type(e).__name__,
            fix="export the series as its scanner wrote it, or do without --dicom-seg",
        ) from None
    buffer = io.BytesIO()
    made.save_as(buffer)
    write_bytes(path, buffer.getvalue(), flushed=False)


@dataclass(frozen=True)
class _Marked:
    """The files that a mask belongs to, and its frames in their order.

    Attributes
    ----------
    sources : list of Dataset
    frames : (slices, rows, columns) ndarray of bool
    where : str
    """

    sources: list[Dataset]
    frames: NDArray[np.bool_]
    where: str


def _series(image: Path, mask: NDArray[np.bool_]) -> _Marked:
    series = read_series(image)
    if mask.shape != series.frame.shape:
        raise ValueError(f"a mask of {mask.shape} for a series of {series.frame.shape}")
    planes = mask.transpose(2, 1, 0)
    slices = series.slices
    files = list(dict.fromkeys(s.file for s in slices))
    if len(files) == 1:  # an enhanced object has its own order
        planes = planes[np.argsort([s.index for s in slices])]
    sources = [_described(f, series.frame.spacing[2]) for f in files]
    return _Marked(sources, planes, series.where)


def _single(image: Path, mask: NDArray[np.bool_]) -> _Marked:
    data = _described(image)
    where = shown_path(image, data)
    refuse_no_image(data, where)
    if plane(data, where) is None:
        raise DataError(
            "The image does not tell its place in the patient, which a DICOM segmentation needs.",
            where=where,
            fix="do without --dicom-seg: the mask is a PNG file",
        )
    if mask.shape != (data.Rows, data.Columns):
        raise ValueError(f"a mask of {mask.shape} for an image of {data.Rows} × {data.Columns}")
    return _Marked([data], mask[None], where)


def _described(file: Path, step: float = 1.0) -> Dataset:
    """All of a header; with the distance of slices, where it does not tell their thickness."""
    with file.open("rb") as f:
        data = read_header(f, whole=True, pixels=False)
    if "NumberOfFrames" not in data:
        for keyword in ("SliceThickness", "SpacingBetweenSlices"):
            if not data.get(keyword):
                setattr(data, keyword, f"{step:.8g}")
    return data


def _segmentation(seen: _Marked, algorithm: str) -> Any:
    import highdicom as hd
    from pydicom.sr.codedict import codes
    from pydicom.uid import generate_uid

    from weakseg import __version__

    made_by = hd.AlgorithmIdentificationSequence(
        name=algorithm[:64], version=__version__, family=codes.DCM.ArtificialIntelligence
    )
    lesion = hd.seg.SegmentDescription(
        segment_number=1,
        segment_label=_NAME,
        segmented_property_category=codes.SCT.MorphologicallyAbnormalStructure,
        segmented_property_type=codes.SCT.Lesion,
        algorithm_type=hd.seg.SegmentAlgorithmTypeValues.AUTOMATIC,
        algorithm_identification=made_by,
    )
    # The same mask of the same series by the same method is the same object.
    series = text(seen.sources[0], "SeriesInstanceUID")
    entropy = [series, algorithm, hashlib.sha256(seen.frames.tobytes()).hexdigest()]
    return hd.seg.Segmentation(
        source_images=seen.sources,
        pixel_array=seen.frames.astype(np.uint8),
        segmentation_type=hd.seg.SegmentationTypeValues.BINARY,
        segment_descriptions=[lesion],
        series_instance_uid=generate_uid(entropy_srcs=[*entropy, "series"]),
        series_number=_SERIES_NUMBER,
        sop_instance_uid=generate_uid(entropy_srcs=[*entropy, "object"]),
        instance_number=1,
        manufacturer="weakseg",
        manufacturer_model_name="weakseg",
        software_versions=__version__,
        device_serial_number="none",
        content_label="LESION",
        series_description=f"weakseg: {algorithm}"[:64],
        omit_empty_frames=False,  # with gaps, ITK finds no grid
    )
