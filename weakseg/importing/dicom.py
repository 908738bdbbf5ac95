"""What a tree of DICOM files holds: volumes, pictures, and what is neither, with the reason."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from weakseg.data.formats.dicom.display import is_single_grey
from weakseg.data.formats.dicom.geometry import (
    SAME_DIRECTION,
    SAME_SPACING,
    Plane,
    order_along_normal,
    plane,
)
from weakseg.data.formats.dicom.header import (
    is_localiser,
    read_header,
    text,
    whole_number,
    why_no_image,
)
from weakseg.data.formats.dicom.series import Series, Slice, arranged, differing, slices_of
from weakseg.data.formats.dicom.signs import begins_as_dicom
from weakseg.errors import DataError
from weakseg.importing.tree import list_tree

if TYPE_CHECKING:
    from pydicom import Dataset

LOCALISER = "a localiser"
NOT_DICOM = "no DICOM file"
DAMAGED = "a DICOM file that is damaged"

Image = tuple[Path, "Dataset"]


@dataclass(frozen=True)
class Refused:
    """Files that are not imported.

    Attributes
    ----------
    file : Path
        The first of them.
    why : str
        Without what tells who.
    header : Dataset or None
        The file's, where it can be read.
    files : int
    """

    file: Path
    why: str
    header: Dataset | None = None
    files: int = 1


@dataclass
class Scan:
    """The image files of a tree by series, and what else there is.

    Attributes
    ----------
    groups : dict
        Identifiers of study and series → files.
    refused : list of Refused
    """

    groups: dict[tuple[str, str], list[Path]] = field(default_factory=dict)
    refused: list[Refused] = field(default_factory=list)


@dataclass(frozen=True)
class Picture:
    """One frame that becomes a picture.

    Attributes
    ----------
    file : Path
    index : int
        The frame in its file.
    number : int
        Its place in what it is part of, from 1; 0 of an image alone.
    header : Dataset
    """

    file: Path
    index: int
    number: int
    header: Dataset


@dataclass(frozen=True)
class Content:
    """What a series holds."""

    volumes: tuple[Series, ...] = ()
    pictures: tuple[Picture, ...] = ()
    refused: tuple[Refused, ...] = ()


def scan(folders: Sequence[Path], advance: Callable[..., object]) -> Scan:
    """Look into the header of every file of some trees.

    Parameters
    ----------
    folders : sequence of Path
    advance : callable
        Called after each file, with 1 and ``of=`` the number of all.

    Raises
    ------
    DataError
        For a folder that is not there.
    """
    series = Scan()
    trees = [list_tree(f) for f in folders]
    total = sum(len(t.files) for t in trees)
    for tree in trees:
        for name in tree.files:
            _look(tree.path(name), series)
            advance(1, of=total)
    return series


def _look(file: Path, found: Scan) -> None:
    def refuse(why: str, header: Dataset | None = None) -> None:
        found.refused.append(Refused(file, why, header))

    if not begins_as_dicom(file):
        refuse(NOT_DICOM)
        return
    try:
        with file.open("rb") as f:
            header = read_header(f)
        if why := why_no_image(header):
            refuse(why, header)
        elif is_localiser(header):
            refuse(LOCALISER, header)
        else:
            key = (text(header, "StudyInstanceUID"), text(header, "SeriesInstanceUID"))
            found.groups.setdefault(key, []).append(file)
    except (OSError, ValueError):
        refuse(DAMAGED)


def content_of(files: Sequence[Path], as_pictures: bool = False) -> Content:
    """What the files of a series hold.

    Grey slices that tell their place are parted by size, spacing and direction, and where several
    lie at each place by time, echo or what else tells them apart; two or more that make a grid
    are a volume. What tells no place, films, colours and single slices are pictures.

    Parameters
    ----------
    files : sequence of Path
        Of one series.
    as_pictures : bool
        Whether the slices of volumes become pictures as well.
    """
    volumes: list[Series] = []
    pictures: list[Picture] = []
    refused: list[Refused] = []
    for images in _parts(_without_copies(_headers(files))):
        if not _may_be_volume(images):
            pictures += _frames(images)
            continue
        for part in _volumes(images):
            if isinstance(part, Refused):
                refused.append(part)
            elif as_pictures:
                pictures += [
                    Picture(s.file, s.index, k, s.header) for k, s in enumerate(part.slices, 1)
                ]
            else:
                volumes.append(part)
    return Content(tuple(volumes), tuple(pictures), tuple(refused))


def _headers(files: Sequence[Path]) -> Iterator[Image]:
    for file in files:
        with file.open("rb") as f:
            yield file, read_header(f)


def _without_copies(images: Iterable[Image]) -> list[Image]:
    """Of files that are copies of one object the first."""
    distinct: dict[str, Image] = {}
    for k, (file, header) in enumerate(images):
        distinct.setdefault(text(header, "SOPInstanceUID") or str(k), (file, header))
    return list(distinct.values())


def _parts(images: Sequence[Image]) -> list[list[Image]]:
    """Images of one kind, size, spacing and direction together."""
    parts: dict[Any, list[tuple[Plane | None, list[Image]]]] = {}
    for file, header in images:
        try:
            where = plane(header, "")
        except DataError:  # told where its part is arranged
            where = None
        kind = (
            *(whole_number(header, k, 0) for k in ("Rows", "Columns")),
            text(header, "PhotometricInterpretation"),
            text(header, "FrameOfReferenceUID"),
            whole_number(header, "NumberOfFrames", 1) > 1 and str(file),
        )
        of_kind = parts.setdefault(kind, [])
        own = next((part for first, part in of_kind if _alike(first, where)), None)
        if own is None:
            of_kind.append((where, [(file, header)]))
        else:
            own.append((file, header))
    return [part for of_kind in parts.values() for _, part in of_kind]


def _alike(a: Plane | None, b: Plane | None) -> bool:
    """Whether two planes have one direction and spacing, but for rounding in their headers."""
    if a is None or b is None:
        return a is b
    apart = np.abs([a.along_row - b.along_row, a.down - b.down]).max()
    return bool(apart <= SAME_DIRECTION and np.allclose(a.spacing, b.spacing, rtol=SAME_SPACING))


def _may_be_volume(images: Sequence[Image]) -> bool:
    """Whether images are grey, and tell a place; one alone does where it has frames that do."""
    header = images[0][1]
    if not is_single_grey(header):
        return False
    if whole_number(header, "NumberOfFrames", 1) > 1:
        return "PerFrameFunctionalGroupsSequence" in header
    if len(images) < 2:
        return False
    return "ImagePositionPatient" in header and "ImageOrientationPatient" in header


def _frames(images: Sequence[Image]) -> Iterator[Picture]:
    for number, (file, header) in enumerate(images, 1):
        count = whole_number(header, "NumberOfFrames", 1)
        for k in range(count):
            yield Picture(file, k, k + 1 if count > 1 else number * (len(images) > 1), header)


def _volumes(images: Sequence[Image]) -> Iterator[Series | Refused]:
    """The volumes of some images of one size and direction."""
    try:
        yield arranged(images, "")
        return
    except DataError as e:
        error = e
    groups = _by_time(images)
    if len(groups) < 2:
        detail = f" ({error.found})" if error.found else ""
        why = error.what.rstrip(".") + detail
        yield Refused(images[0][0], why, images[0][1], len(images))
        return
    for group in groups:
        yield from _volumes(group)


def _by_time(images: Sequence[Image]) -> list[list[Image]]:
    """The images by the element that tells apart those at one place, where there is one."""
    try:
        slices: list[Slice] = [s for file, h in images for s in slices_of(file, h, "")]
    except DataError:
        return []
    if len(slices) != len(images):  # frames of one file stay together
        return []
    order = order_along_normal([s.plane for s in slices])
    ordered = [slices[k] for k in order]
    places = np.array([s.plane.position @ slices[0].plane.normal for s in ordered])
    times = len(slices) // max(1, 1 + int((np.diff(places) > 1e-3).sum()))
    element = differing(slices, times) if times > 1 else None
    if element is None:
        return []
    groups: dict[str, list[Image]] = {}
    for file, header in images:
        groups.setdefault(text(header, element[0]), []).append((file, header))
    return list(groups.values())
