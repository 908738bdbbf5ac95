"""Every format that is read, in the order in which they are asked, and what else is recognised."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from weakseg.data.formats.base import Foreign, Format, Formats, magic
from weakseg.data.formats.bmp import BMP
from weakseg.data.formats.dicom.image import DICOM_IMAGE
from weakseg.data.formats.dicom.kind import holds_volume
from weakseg.data.formats.dicom.volume import DICOM_SERIES
from weakseg.data.formats.gif import GIF
from weakseg.data.formats.jpeg import JPEG
from weakseg.data.formats.nifti import NIFTI, Voxels, damaged_volume, is_analyze, is_half
from weakseg.data.formats.pixels import Pixels, damaged
from weakseg.data.formats.png import PNG
from weakseg.data.formats.tiff import TIFF
from weakseg.errors import DataError

_AS_VOLUME = (
    "list volumes (.nii, .nii.gz) in a manifest of volumes alone, or export their slices as 16-bit "
    "PNG or TIFF"
)
_FETCH = "fetch the file itself: git lfs pull"
_AGAIN = "if a download went wrong, fetch the file again"
_ONE_FILE = "save it as one file, .nii.gz"

IMAGES: Formats[Pixels] = Formats(
    2,
    "image",
    each=(PNG, JPEG, TIFF, BMP, GIF, DICOM_IMAGE),
    masks=PNG,
    damaged=damaged,
    remedy="save it as PNG",
    misplaced=("a 2D image", "list 2D images in a manifest of their own"),
)
VOLUMES: Formats[Voxels] = Formats(
    3,
    "volume",
    each=(NIFTI, DICOM_SERIES),
    masks=NIFTI,
    damaged=damaged_volume,
    remedy="convert it to NIfTI (.nii.gz)",
    misplaced=("a {} volume", _AS_VOLUME),
    packed=True,
    folders=True,
    has_range=False,
    sample="voxel",
    further=True,
    one_patient=True,
    alone=True,
)
FOREIGN = (
    Foreign("a Git LFS pointer", magic(b"version https://git-lfs"), _FETCH, _FETCH),
    Foreign("half of a NIfTI pair (.hdr and .img)", is_half, _AS_VOLUME, _ONE_FILE),
    Foreign(
        "an Analyze 7.5 header (.hdr), which does not tell left from right", is_analyze, _AS_VOLUME
    ),
    Foreign("gzip data, perhaps a NIfTI volume", magic(b"\x1f\x8b"), _AS_VOLUME),
    Foreign("a WebP or another RIFF file", magic(b"RIFF")),
    Foreign("a JPEG 2000", magic(b"\0\0\0\x0cjP  ")),
    Foreign("an NRRD file", magic(b"NRRD"), _AS_VOLUME),
    Foreign("a PDF", magic(b"%PDF")),
    Foreign("HTML or XML text", magic(b"<"), _AGAIN, _AGAIN),
)
"""What is no format of ours, and named nevertheless; after the formats, which come first."""


def formats_of(path: Path | str) -> Formats[Any]:
    """The formats of a file: volumes where its name ends as theirs, else images.

    What a name does not tell, a folder does that holds DICOM files, and a DICOM file of several
    frames that lie in a patient: these are volumes.
    """
    if VOLUMES.named(path):
        return VOLUMES
    named = IMAGES.named(path) and not str(path).lower().endswith(DICOM_IMAGE.suffixes)
    return VOLUMES if not named and holds_volume(str(path)) else IMAGES


def formats_of_dims(dims: int) -> Formats[Any]:
    """The formats of files with so many dimensions."""
    return next(f for f in (IMAGES, VOLUMES) if f.dims == dims)


def recognise(head: bytes, path: Path, wanted: Formats[Any]) -> Format[Any]:
    """The format of a file, by its content.

    Parameters
    ----------
    head : bytes
        The first `weakseg.data.formats.base.HEAD` bytes, or all of a shorter file.
    path : Path
    wanted : Formats
        Those that are taken.

    Raises
    ------
    DataError
        For a file of another kind, named for what it is; for a format whose optional package is
        missing.
    """
    for form in wanted.each:
        if form.guess(head, path):
            _refuse_missing(form, path)
            return form
    found, fix = _named(head, path, wanted)
    names = [f.name for f in wanted.each]
    listed = " or ".join([", ".join(names[:-1]), names[-1]] if names[:-1] else names)
    raise DataError(
        f"The file is not a {listed} {wanted.noun}.", where=str(path), found=found, fix=fix
    )


def _named(head: bytes, path: Path, wanted: Formats[Any]) -> tuple[str, str]:
    """What a file is that is none of the wanted formats, and the way out."""
    for others in (IMAGES, VOLUMES):
        for form in others.each:
            if others.dims != wanted.dims and form.guess(head, path):
                name, fix = others.misplaced
                return name.format(form.name), fix
    for foreign in FOREIGN:
        if foreign.guess(head):
            remedy = foreign.as_image if wanted.dims == 2 else foreign.as_volume
            return foreign.name, remedy or wanted.remedy
    return "a file of another kind", wanted.remedy


def _refuse_missing(form: Format[Any], path: Path) -> None:
    if form.missing:
        modules = " and ".join(p.module for p in form.missing)
        raise DataError(
            f"Files of the format {form.name} are read with the help of {modules}, which "
            f"{'is' if len(form.missing) == 1 else 'are'} not installed.",
            where=str(path),
            fix="; ".join(dict.fromkeys(p.install for p in form.missing)),
        )
