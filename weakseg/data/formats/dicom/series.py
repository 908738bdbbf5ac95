"""A series of DICOM files, or the frames of one: sorted by place, and one grid, or refused.

The order is that of the slices' positions along their normal; names and instance numbers do not
count.

One room for what a series is and for every reason to refuse one.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from weakseg.data.formats.base import Frame
from weakseg.data.formats.dicom.codecs import sample_type
from weakseg.data.formats.dicom.display import has_table, is_single_grey, slope_of
from weakseg.data.formats.dicom.geometry import (
    SAME_DIRECTION,
    SAME_SPACING,
    Plane,
    Vector,
    grid_affine,
    order_along_normal,
    plane,
    repeated,
)
from weakseg.data.formats.dicom.header import (
    COPY_AGAIN,
    is_cut,
    is_localiser,
    no_values,
    numbers,
    read_header,
    refuse_no_image,
    text,
    whole_number,
    why_no_image,
)
from weakseg.data.formats.dicom.identity import shown_path
from weakseg.data.formats.dicom.signs import files_in, is_dicom
from weakseg.errors import DataError

if TYPE_CHECKING:
    from pydicom import Dataset

SPLIT_HINT = "`weakseg import dicom` parts such folders into volumes"

# By which element the images differ that lie at one place, and what it is called.
_DIFFER = (
    ("TemporalPositionIdentifier", "times"),
    ("EchoTime", "echoes"),
    ("DiffusionBValue", "diffusion weightings"),
    ("TriggerTime", "trigger times"),
    ("AcquisitionNumber", "acquisitions"),
    ("AcquisitionTime", "acquisitions"),
    ("ImageType", "kinds of image"),
)


@dataclass(frozen=True, eq=False)
class Slice:
    """One frame of a series.

    Attributes
    ----------
    file : Path
    index : int
        The frame in its file, from 0.
    plane : Plane
    slope, intercept : float
        A value is ``sample * slope + intercept``; 1 and 0 where a table says what it is.
    header : Dataset
        The file's.
    by_table : bool
        Whether a modality LUT says what a sample is.
    """

    file: Path
    index: int
    plane: Plane
    slope: float
    intercept: float
    header: Dataset
    by_table: bool = False


@dataclass(frozen=True, eq=False)
class Series:
    """The slices of one volume, in order.

    Attributes
    ----------
    slices : tuple of Slice
        Ascending along their normal.
    frame : Frame
        Of (columns, rows, slices).
    where : str
        As messages name it.
    """

    slices: tuple[Slice, ...]
    frame: Frame
    where: str


def read_series(path: Path) -> Series:
    """The series of a folder, or of a file of several frames.

    Objects that are no image (reports, presentation states and the like), and localisers beside
    other images, are left out.

    Raises
    ------
    DataError
        For anything but one series of one grid, see `arranged`.
    """
    if path.is_dir():
        return arranged(list(images_of(path)), shown_path(path))
    with path.open("rb") as f:
        header = read_header(f)
    where = shown_path(path, header)
    refuse_no_image(header, where)
    return arranged([(path, header)], where)


def images_of(folder: Path) -> Iterator[tuple[Path, Dataset]]:
    """The files of a folder that hold an image, by name, with their headers.

    Raises
    ------
    DataError
        For an empty file, one that is named as DICOM and is not, and a header that is damaged: it
        may be a slice.
    """
    files = files_in(folder)
    for k, file in enumerate(files):
        where = f"{shown_path(folder)}, file {k + 1} of {len(files)} by name"
        with file.open("rb") as f:
            head = f.read(540)
            if not is_dicom(head):
                if head and file.suffix.lower() not in (".dcm", ".dicom"):
                    continue
                raise DataError(
                    "A file of the series is no DICOM file.",
                    where=where,
                    found="0 bytes" if not head else "another content",
                    fix=f"{COPY_AGAIN}; a slice may be lost",
                )
            f.seek(0)
            try:
                header = read_header(f)
                wanted = why_no_image(header) is None
                if is_cut(header):
                    raise ValueError("a header without the size of the image")
            except ValueError as e:
                raise DataError(
                    "A file of the series is damaged.", where=where, found=str(e), fix=COPY_AGAIN
                ) from None
        if wanted:
            yield file, header


def arranged(images: Sequence[tuple[Path, Dataset]], where: str) -> Series:
    """The slices of some images, in order, and their grid.

    Parameters
    ----------
    images : sequence of (Path, Dataset)
        Files and their headers.
    where : str
        The series, for messages.

    Raises
    ------
    DataError
        Where there is no image or one slice alone, images of several series, patients or sizes,
        colours, slices without a place, not parallel, missing, at one place or uneven, and a
        slope of 0.
    """
    images = _without_localisers(images)
    if not images:
        raise DataError(
            "The folder holds no DICOM image.",
            where=where,
            expected="the slices of one series",
            fix="name the folder in which its files stand; `weakseg import dicom` searches a tree",
        )
    where = shown_path(Path(where), images[0][1])
    _refuse_several(images, where)
    slices = _without_copies([s for file, h in images for s in slices_of(file, h, where)])
    if len(slices) < 2:
        raise DataError(
            "The series has one slice.",
            where=where,
            expected="two slices or more",
            fix="name the folder in which all files of the series stand, or list this one as a 2D "
            "image",
        )
    _refuse_mixed(slices, where)
    order = order_along_normal([s.plane for s in slices])
    slices = [slices[k] for k in order]
    planes = [s.plane for s in slices]
    if (times := repeated(planes)) > 1:
        raise _four_dimensional(slices, times, where)
    affine = grid_affine(planes, where)
    header = slices[0].header
    shape = (whole_number(header, "Columns", 0), whole_number(header, "Rows", 0), len(slices))
    x, y, z = (float(f"{v:.6g}") for v in np.linalg.norm(affine[:3, :3], axis=0))
    return Series(tuple(slices), Frame(shape, affine, (x, y, z), True), where)


def _without_localisers(images: Sequence[tuple[Path, Dataset]]) -> list[tuple[Path, Dataset]]:
    """Without the images that only planned the others; all where there are no others."""
    rest = [(file, header) for file, header in images if not is_localiser(header)]
    return rest or list(images)


def _refuse_several(images: Sequence[tuple[Path, Dataset]], where: str) -> None:
    """Images of several series, patients or frames of reference are no volume."""
    for keyword, what in (
        ("PatientID", "patients"),
        ("SeriesInstanceUID", "series"),
        ("FrameOfReferenceUID", "frames of reference"),
    ):
        counts = Counter(text(header, keyword) for _, header in images)
        if len(counts) > 1:
            raise DataError(
                f"The folder holds images of {len(counts)} {what}.",
                where=where,
                found=f"{', '.join(str(n) for _, n in counts.most_common(6))} files of each"
                + (", …" if len(counts) > 6 else ""),
                expected="one series",
                fix=f"give each a folder of its own; {SPLIT_HINT}",
            )


def slices_of(file: Path, header: Dataset, where: str) -> Iterator[Slice]:
    """The frames of one file."""
    if not is_single_grey(header):
        raise DataError(
            "The series holds colours.",
            where=where,
            expected="one grey value a sample",
            fix="list its files as 2D images",
        )
    count = whole_number(header, "NumberOfFrames", 1)
    own = header.get("PerFrameFunctionalGroupsSequence") or ()
    shared = tuple(header.get("SharedFunctionalGroupsSequence") or ())[:1]
    if count > 1 and len(own) != count:
        raise DataError(
            "The frames of the file have no place in the patient.",
            where=where,
            found=f"{count} frames, and the places of {len(own)}",
            expected="an enhanced object, which tells the place of each frame",
            fix="a film is no volume: `weakseg import dicom` writes its frames as PNG files",
        )
    for k in range(count):
        groups = (*((own[k],) if own else ()), *shared)
        with no_values():
            place = plane(header, where, groups)
            by_table = has_table(header)
            slope, intercept = (1.0, 0.0) if by_table else _slope(header, groups, where)
        if place is None:
            raise DataError(
                "The slices do not tell their place in the patient.",
                where=where,
                found="no ImagePositionPatient, ImageOrientationPatient or PixelSpacing",
                fix="export the original series, or list its files as 2D images",
            )
        yield Slice(file, k, place, slope, intercept, header, by_table)


def _slope(header: Dataset, groups: tuple[Any, ...], where: str) -> tuple[float, float]:
    for group in groups:
        items = group.get("PixelValueTransformationSequence")
        if items and numbers(items[0], "RescaleSlope", 1, where) is not None:
            return slope_of(items[0], where)
    return slope_of(header, where)


def _refuse_mixed(slices: Sequence[Slice], where: str) -> None:
    """Slices of different size, spacing, direction or kind are no grid."""
    first = slices[0]
    kinds = Counter(text(s.header, "PhotometricInterpretation") for s in slices)
    sizes = Counter(
        (whole_number(s.header, "Rows", 0), whole_number(s.header, "Columns", 0)) for s in slices
    )
    apart = [s for s in slices if _differ(s.plane.normal, first.plane.normal)]
    turned = [s for s in slices if _differ(s.plane.along_row, first.plane.along_row)]
    spacings = Counter(f"{s.plane.spacing[0]:.4g} × {s.plane.spacing[1]:.4g}" for s in slices)
    fix = f"leave out what does not belong to the volume; {SPLIT_HINT}"
    if len(sizes) > 1:
        counts = ", ".join(f"{n} of {r} × {c} pixels" for (r, c), n in sizes.most_common(4))
        raise DataError("The slices differ in size.", where=where, found=counts, fix=fix)
    if apart or turned:
        n = len(apart or turned)
        raise DataError(
            "The slices are not parallel." if apart else "The slices are turned in their plane.",
            where=where,
            found=f"{n} of {len(slices)} have another orientation than the first",
            fix=fix,
        )
    if any(
        not np.allclose(s.plane.spacing, first.plane.spacing, rtol=SAME_SPACING) for s in slices
    ):
        counts = ", ".join(f"{n} of {v} mm" for v, n in spacings.most_common(4))
        raise DataError("The slices differ in spacing.", where=where, found=counts, fix=fix)
    if len(kinds) > 1:
        raise DataError(
            "Some slices are stored inverted.",
            where=where,
            found=f"{' and '.join(map(str, kinds.values()))} of MONOCHROME1 and MONOCHROME2",
            fix=fix,
        )


def _differ(a: Vector, b: Vector) -> bool:
    return bool(np.abs(a - b).max() > SAME_DIRECTION)


def _without_copies(slices: Sequence[Slice]) -> list[Slice]:
    """Of files that are copies of one, by the identifier of the object, the first by name."""
    distinct: dict[tuple[str, int], Slice] = {}
    for k, s in enumerate(slices):
        distinct.setdefault((text(s.header, "SOPInstanceUID") or str(k), s.index), s)
    return list(distinct.values())


def _four_dimensional(slices: Sequence[Slice], times: int, where: str) -> DataError:
    what = differing(slices, times)
    return DataError(
        f"The series is 4D: it holds {times} images at each place.",
        where=where,
        found=f"{len(slices)} images at {len(slices) // times} places"
        + (f", of {times} {what[1]}" if what else ""),
        expected="one image at each place",
        fix=f"give each its own folder; {SPLIT_HINT}"
        if what
        else "give each its own folder, as nothing in the headers parts them",
    )


def differing(slices: Sequence[Slice], times: int) -> tuple[str, str] | None:
    """The element by which a series of several images at each place falls into volumes."""
    for keyword, what in _DIFFER:
        counts = Counter(text(s.header, keyword) for s in slices)
        if len(counts) == times and len(set(counts.values())) == 1:
            return keyword, what
    return None


def series_type(series: Series) -> np.dtype[Any]:
    """The type that holds the samples of all slices, or what tables make of them."""
    if any(s.by_table for s in series.slices):
        return np.dtype(np.float32)
    return np.result_type(*{sample_type(s.header) for s in series.slices})
