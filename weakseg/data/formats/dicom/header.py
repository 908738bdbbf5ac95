"""The header of a DICOM file: what of it is needed, as numbers, and what is no image.

No message and no warning repeats a value of a header, as it may be a name, a date or an identifier.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING, Any

from weakseg.errors import DataError

if TYPE_CHECKING:
    from pydicom import Dataset

NO_PIXELS = "an object without pixels"
COPY_AGAIN = "export it again from the archive (PACS), or leave it out"

_NEEDED = (
    *("SOPClassUID", "SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID"),
    *("FrameOfReferenceUID", "Modality", "ImageType", "PatientID", "PatientName"),
    *("PatientBirthDate", "IssuerOfPatientID", "AccessionNumber", "StudyID", "StudyDate"),
    *("Rows", "Columns", "NumberOfFrames", "SamplesPerPixel", "PhotometricInterpretation"),
    *("BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation", "PlanarConfiguration"),
    *("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "ImagerPixelSpacing"),
    *("RescaleSlope", "RescaleIntercept", "InstanceNumber", "AcquisitionNumber", "EchoTime"),
    *("ModalityLUTSequence", "WindowCenter", "WindowWidth", "VOILUTFunction"),
    *("TemporalPositionIdentifier", "DiffusionBValue", "TriggerTime", "AcquisitionTime"),
    *("SeriesDescription", "BurnedInAnnotation", "PatientIdentityRemoved"),
    *("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"),
    *("DirectoryRecordSequence",),
)
"""The elements that are read of a header; all others are skipped."""

# SOP classes whose objects hold no image of a patient, by the beginning of their UID (PS3.4, B.5).
_NO_IMAGES = {
    "1.2.840.10008.1.3.10": "a DICOMDIR, the index of a medium",
    "1.2.840.10008.5.1.4.1.1.88.59": "a selection of key objects",
    "1.2.840.10008.5.1.4.1.1.88": "a structured report",
    "1.2.840.10008.5.1.4.1.1.11": "a presentation state",
    "1.2.840.10008.5.1.4.1.1.9": "a waveform",
    "1.2.840.10008.5.1.4.1.1.104": "an encapsulated document",
    "1.2.840.10008.5.1.4.1.1.66.4": "a segmentation",
    "1.2.840.10008.5.1.4.1.1.66": "raw data, a registration or a segmentation",
    "1.2.840.10008.5.1.4.1.1.481.2": "a radiotherapy dose",
    "1.2.840.10008.5.1.4.1.1.481.3": "contours of radiotherapy",
    "1.2.840.10008.5.1.4.1.1.481.1": "",  # an image of radiotherapy
    "1.2.840.10008.5.1.4.1.1.481": "a plan or a record of radiotherapy",
    "1.2.840.10008.5.1.4.1.1.4.2": "a spectrum",
    "1.2.840.10008.5.1.4.34": "a procedure step",
    "1.2.840.10008.5.1.4.38": "a hanging protocol",
    "1.2.840.10008.5.1.4.39": "a colour palette",
    "1.2.840.10008.5.1.4.43": "an implant template",
}


def read_header(f: IO[bytes], whole: bool = False, pixels: bool = True) -> Dataset:
    """The data set of a file, with or without preamble and file meta information.

    Parameters
    ----------
    f : binary file
        Open at its begin.
    whole : bool
        With all elements; else what the geometry and the kind of image need, without pixels.
    pixels : bool
        False for all elements but the pixels.

    Raises
    ------
    ValueError
        Where it cannot be parsed; without any value of it.
    """
    import pydicom
    from pydicom import config

    _be_quiet()
    config.settings.reading_validation_mode = config.IGNORE
    with no_values():
        data = pydicom.dcmread(
            f,
            force=True,
            stop_before_pixels=not (whole and pixels),
            specific_tags=None if whole else list(_NEEDED),
        )
        if not hasattr(data, "file_meta") or "TransferSyntaxUID" not in data.file_meta:
            _name_syntax(data)
    return data


def _be_quiet() -> None:
    """No warning of pydicom reaches a terminal or a log: some repeat what they warn of."""
    import logging

    warnings.filterwarnings("ignore", module=r"pydicom(\..*)?")
    logging.getLogger("pydicom").setLevel(logging.CRITICAL + 1)


def _name_syntax(data: Dataset) -> None:
    """Without file meta information, the first element has told how the file is written."""
    from pydicom.dataset import FileMetaDataset
    from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

    implicit, little = data.original_encoding
    data.file_meta = getattr(data, "file_meta", FileMetaDataset())
    explicit = ExplicitVRLittleEndian if little else ExplicitVRBigEndian
    data.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian if implicit else explicit


@contextmanager
def no_values() -> Iterator[None]:
    """What a parser says of a file may repeat its content: only the kind of error is told."""
    try:
        yield
    except (DataError, ImportError, MemoryError):
        raise
    except Exception as e:
        raise ValueError(f"what it holds cannot be parsed ({type(e).__name__})") from None


def why_no_image(data: Dataset) -> str | None:
    """What a data set is that holds no image; None of an image."""
    meta = getattr(data, "file_meta", {})
    kind = str(data.get("SOPClassUID") or meta.get("MediaStorageSOPClassUID") or "")
    for uid, what in _NO_IMAGES.items():
        if kind == uid or kind.startswith(f"{uid}."):
            if what:
                return what
            break
    if "DirectoryRecordSequence" in data:
        return "a DICOMDIR, the index of a medium"
    return None if data.get("Rows") and data.get("Columns") else NO_PIXELS


def is_cut(data: Dataset) -> bool:
    """Whether an object that should be an image lacks the size of one: its file may be cut."""
    meta = getattr(data, "file_meta", {})
    kind = str(data.get("SOPClassUID") or meta.get("MediaStorageSOPClassUID") or "")
    standard = kind.startswith("1.2.840.10008.") or not kind
    return why_no_image(data) == NO_PIXELS and standard


def is_localiser(data: Dataset) -> bool:
    """Whether an image was made to plan others (a scout, a topogram)."""
    with no_values():
        kinds = data.get("ImageType") or ()
        kinds = [kinds] if isinstance(kinds, str) else list(kinds)
        return any(str(k).upper() in ("LOCALIZER", "SCOUT", "TOPOGRAM") for k in kinds)


def refuse_no_image(data: Dataset, where: str) -> None:
    """Raise a DataError for an object that holds no image."""
    what = why_no_image(data)
    if what is None:
        return
    index = "DICOMDIR" in what
    raise DataError(
        "The DICOM file holds no image.",
        where=where,
        found=what,
        expected="an image: CT, MR, CR, US and the like",
        fix="`weakseg import dicom` with the folder that it stands in finds the images"
        if index
        else "leave it out; `weakseg import dicom` lists what in a folder is an image",
    )


def numbers(data: Dataset, keyword: str, count: int, where: str) -> tuple[float, ...] | None:
    """The finite numbers of an element; None where it is missing or empty.

    Raises
    ------
    DataError
        For another count, or what is no finite number.
    """
    try:
        value = data.get(keyword)
        if value is None or value == "":
            return None
        values = tuple(float(v) for v in (value if count > 1 else [value]))
        if len(values) == count and all(math.isfinite(v) for v in values):
            return values
        if not values:
            return None
        found = f"{len(values)} values" if len(values) != count else "infinity or NaN"
    except Exception:
        found = "something else"
    raise DataError(
        f"The DICOM element {keyword} cannot be used.",
        where=where,
        found=found,
        expected=f"{count} finite number{'s' if count > 1 else ''}",
        fix=COPY_AGAIN,
    )


def whole_number(data: Dataset, keyword: str, default: int) -> int:
    """A count of an element, ``default`` where it is missing.

    Raises
    ------
    ValueError
        For what is no number.
    """
    with no_values():
        value = data.get(keyword)
        return default if value is None or value == "" else int(value)


def text(data: Dataset, keyword: str) -> str:
    """An element as text; empty where it is missing."""
    with no_values():
        value: Any = data.get(keyword)
        return "" if value is None else str(value).strip(" \0")
