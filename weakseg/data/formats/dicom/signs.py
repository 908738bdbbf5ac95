"""How DICOM files are recognised, and folders that stand where an image was wanted."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from weakseg.errors import DataError

SERIES_FIX = (
    "list it in a manifest of volumes, which may name the folder of a series, or write its slices "
    "as images with `weakseg import dicom`"
)

_LOOKED_AT = 2000  # files of a folder
_SYSTEM = ("thumbs.db", "desktop.ini")
# Value representations of DICOM PS3.5, table 6.2-1, that data sets begin with.
_VR = frozenset(b"UL UI SH LO CS DA TM ST LT PN IS DS US SL SS OB UN AE AS DT".split())
_GROUPS = (2, 8)  # file meta information, and identification, of which no file lacks both


def is_dicom(head: bytes) -> bool:
    """Whether a file is DICOM, with a preamble or, as old archives and PACS write it, without.

    Parameters
    ----------
    head : bytes
        At least its first 132 bytes.

    Notes
    -----
    Without a preamble a file begins with the first data element: of group 2 or 8, its element
    number low, and then its value representation (explicit) or a short even length (implicit).
    """
    if head[128:132] == b"DICM":
        return True
    if len(head) < 8:
        return False
    for order in ("little", "big"):
        group, element = (int.from_bytes(head[k : k + 2], order) for k in (0, 2))
        if group not in _GROUPS or element > 0x0100:
            continue
        if head[4:6] in _VR:
            return True
        length = int.from_bytes(head[4:8], "little")
        if order == "little" and length <= 256 and length % 2 == 0 and _plausible(head, length):
            return True
    return False


def _plausible(head: bytes, length: int) -> bool:
    """Whether a further element of the same group or the next follows an implicit first one."""
    following = head[8 + length : 12 + length]
    group, element = (int.from_bytes(following[k : k + 2], "little") for k in (0, 2))
    return len(following) == 4 and group in (*_GROUPS, 0x10) and (group, element) != (0, 0)


def folder_error(path: Path) -> DataError:
    """The error for a folder in the place of an image: a series of DICOM files is named."""
    files = files_in(path)
    if _dicom_files(files):
        return DataError(
            "An image was expected, but the path is a folder of DICOM files, a series.",
            where=str(path),
            found=folder_content(files),
            expected="one image file",
            fix=SERIES_FIX,
        )
    inner = 0 if files else sum(p.is_dir() for p in path.iterdir())
    return DataError(
        "An image was expected, but the path is a folder.",
        where=str(path),
        found=f"{inner} folders and no file" if inner else folder_content(files),
        expected="one image file, or the folder of a DICOM series",
        fix="name the image file itself",
    )


def folder_content(files: Sequence[Path]) -> str:
    """What files of a folder are, counted: DICOM by content, others by their endings."""
    if not files:
        return "an empty folder"
    dicom = _dicom_files(files)
    parts = [f"{len(dicom)} DICOM file{'s' if len(dicom) > 1 else ''}"] if dicom else []
    rest = Counter(_ending(f) for f in files if f not in dicom)
    parts += [f"{n} {ending}" for ending, n in rest.most_common(4)]
    parts += ["others"] if len(rest) > 4 else []
    return ", ".join(parts)


def _ending(file: Path) -> str:
    return file.suffix.lower() if re.fullmatch(r"\.\w{1,8}", file.suffix) else "without an ending"


def files_in(folder: Path) -> list[Path]:
    """The files of a folder by name, without hidden ones and those of an operating system."""
    try:
        files = sorted(p for p in folder.iterdir() if p.is_file())
    except OSError:
        return []
    return [p for p in files if not p.name.startswith(".") and p.name.lower() not in _SYSTEM]


def first_dicom(folder: Path) -> Path | None:
    """The first DICOM file of a folder, by name; None where it has none, or is no folder."""
    return next(filter(begins_as_dicom, files_in(folder)[:_LOOKED_AT]), None)


def _dicom_files(files: Sequence[Path]) -> set[Path]:
    return {f for f in files[:_LOOKED_AT] if begins_as_dicom(f)}


def begins_as_dicom(file: Path) -> bool:
    """Whether a file's content is DICOM, whatever its name."""
    try:
        with file.open("rb") as f:
            return is_dicom(f.read(512))
    except OSError:
        return False
