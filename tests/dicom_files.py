"""DICOM files that are made up: slices, series, enhanced objects, and what is no image.

Each holds a patient who is nobody, and `TELLING` what of it must never be written anywhere.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sequence import Sequence as Items
from pydicom.uid import ExplicitVRLittleEndian

CT, MR, US = (f"1.2.840.10008.5.1.4.1.1.{k}" for k in ("2", "4", "6.1"))
CR, ENHANCED_MR, SR, PR = (f"1.2.840.10008.5.1.4.1.1.{k}" for k in ("1", "4.1", "88.11", "11.1"))
ROOT = "1.2.826.0.1.3680043.9.7433.1.3"

NAME, PATIENT, BIRTH = "Zimmermannova^Ottilie", "MRN-48213377", "19470312"
STUDY_DATE, ACCESSION, HOSPITAL = "20240229", "ACC-7719926", "Sankt Hedwig Spital"
TELLING = ("Zimmermannova", "Ottilie", "48213377", BIRTH, STUDY_DATE, "7719926", "Hedwig", ROOT)
"""Pieces of every name, number, date and UID that the files below hold."""


def header(kind: str = CT, *, series: int = 1, number: int = 1, **elements: Any) -> Dataset:
    """The elements of an object without pixels."""
    data = Dataset()
    data.SOPClassUID, data.SOPInstanceUID = kind, f"{ROOT}.4.{series}.{number}"
    data.StudyInstanceUID, data.SeriesInstanceUID = f"{ROOT}.1.1", f"{ROOT}.2.{series}"
    data.FrameOfReferenceUID = f"{ROOT}.3.1"
    data.PatientName, data.PatientID, data.PatientBirthDate = NAME, PATIENT, BIRTH
    data.PatientSex, data.StudyDate, data.ContentDate = "F", STUDY_DATE, STUDY_DATE
    data.StudyTime = data.ContentTime = "101500"
    data.AccessionNumber, data.StudyID = ACCESSION, "55120"
    data.ReferringPhysicianName, data.InstitutionName = NAME, HOSPITAL
    data.Modality = {CT: "CT", MR: "MR", US: "US", CR: "CR", SR: "SR", PR: "PR"}.get(kind, "MR")
    data.SeriesNumber, data.InstanceNumber = series, number
    data.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    for name, value in elements.items():
        setattr(data, name, value)
    return data


def with_pixels(data: Dataset, values: np.ndarray, photometric: str | None = None) -> Dataset:
    """The object with its pixels: (M, N), (M, N, 3), or (frames, M, N)."""
    colours = values.ndim == 3 and values.shape[-1] == 3
    data.Rows, data.Columns = values.shape[:2] if colours else values.shape[-2:]
    if values.ndim == 3 and not colours:
        data.NumberOfFrames = len(values)
    data.SamplesPerPixel = 3 if colours else 1
    data.PhotometricInterpretation = photometric or ("RGB" if colours else "MONOCHROME2")
    if colours:
        data.PlanarConfiguration = 0
    bits = values.dtype.itemsize * 8
    data.BitsAllocated, data.BitsStored, data.HighBit = bits, bits, bits - 1
    data.PixelRepresentation = int(values.dtype.kind == "i")
    raw = values.tobytes()
    data.PixelData = raw + b"\0" * (len(raw) % 2)
    data["PixelData"].VR = "OB" if bits == 8 else "OW"
    return data


def placed(
    data: Dataset,
    position: Sequence[float],
    *,
    orientation: Sequence[float] = (1, 0, 0, 0, 1, 0),
    spacing: Sequence[float] = (0.8, 0.7),
) -> Dataset:
    """The object with its place in the patient."""
    data.ImagePositionPatient = [f"{v:.8g}" for v in position]
    data.ImageOrientationPatient = [f"{v:.8g}" for v in orientation]
    data.PixelSpacing = [f"{v:.8g}" for v in spacing]
    return data


def save(path: Path, data: Dataset, *, syntax: str = ExplicitVRLittleEndian) -> Path:
    """Write an object with preamble and file meta information."""
    path.parent.mkdir(parents=True, exist_ok=True)
    data.file_meta = FileMetaDataset()
    data.file_meta.TransferSyntaxUID = syntax
    data.file_meta.MediaStorageSOPClassUID = data.SOPClassUID
    data.file_meta.MediaStorageSOPInstanceUID = data.SOPInstanceUID
    data.save_as(path, enforce_file_format=True)
    return path


def slices(
    voxels: np.ndarray,
    *,
    kind: str = CT,
    series: int = 1,
    step: float = 2.5,
    origin: Sequence[float] = (-20.0, -30.0, 40.0),
    orientation: Sequence[float] = (1, 0, 0, 0, 1, 0),
    slope: float = 1,
    intercept: float = 0,
    **elements: Any,
) -> list[Dataset]:
    """Slices of (slices, rows, columns) voxels, ascending along their normal."""
    row, down = np.array(orientation[:3], float), np.array(orientation[3:], float)
    normal = np.cross(row, down)
    made = []
    for k, values in enumerate(voxels):
        data = with_pixels(header(kind, series=series, number=k + 1, **elements), values)
        placed(data, np.array(origin) + k * step * normal, orientation=orientation)
        data.RescaleSlope, data.RescaleIntercept = slope, intercept
        made.append(data)
    return made


def save_series(folder: Path, data: Iterable[Dataset], names: str = "{:02}.dcm") -> Path:
    """Write the files of a series so that their order by name is not that of their places."""
    held = list(data)
    for k, one in enumerate(held):
        save(folder / names.format((k * 7 + 3) % len(held) if len(held) % 7 else k), one)
    return folder


def voxels(count: int = 9, rows: int = 12, columns: int = 10, seed: int = 1) -> np.ndarray:
    """(count, rows, columns) int16 voxels without any symmetry."""
    values = np.random.default_rng(seed).integers(-1000, 2000, (count, rows, columns))
    return values.astype(np.int16)


def enhanced(values: np.ndarray, *, step: float = 2.5, **elements: Any) -> Dataset:
    """An Enhanced MR object of (frames, rows, columns), its frames in descending order of place."""
    data = with_pixels(header(ENHANCED_MR, **elements), values)
    shared, measures, turned = Dataset(), Dataset(), Dataset()
    measures.PixelSpacing, measures.SliceThickness = ["0.8", "0.7"], "2.5"
    turned.ImageOrientationPatient = ["1", "0", "0", "0", "1", "0"]
    change = Dataset()
    change.RescaleSlope, change.RescaleIntercept, change.RescaleType = "2", "-5", "US"
    shared.PixelMeasuresSequence = Items([measures])
    shared.PlaneOrientationSequence = Items([turned])
    shared.PixelValueTransformationSequence = Items([change])
    data.SharedFunctionalGroupsSequence = Items([shared])
    frames = []
    for k in range(len(values)):
        frame, place = Dataset(), Dataset()
        place.ImagePositionPatient = ["-20", "-30", f"{40 - step * k:g}"]
        frame.PlanePositionSequence = Items([place])
        frames.append(frame)
    data.PerFrameFunctionalGroupsSequence = Items(frames)
    return data
