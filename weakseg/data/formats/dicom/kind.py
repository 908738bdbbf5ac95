"""Whether a path leads to a DICOM volume, asked of many paths many times."""

from __future__ import annotations

import os
from functools import lru_cache
from pathlib import Path

from weakseg.data.formats.dicom.header import is_localiser, read_header, whole_number, why_no_image
from weakseg.data.formats.dicom.signs import begins_as_dicom, first_dicom


def holds_volume(path: str) -> bool:
    """Whether a folder holds DICOM files, or a DICOM file several frames that lie in a patient."""
    try:
        state = os.stat(path)  # noqa: PTH116
    except (OSError, ValueError):
        return False
    return _holds_volume(path, state.st_mtime_ns, state.st_size)


def why_no_dicom_image(path: Path) -> str | None:
    """What a DICOM file is that holds no image of a patient: a report, a localiser, ….

    None for images, for files that are damaged, and for those of other formats.
    """
    if not begins_as_dicom(path):
        return None
    try:
        with path.open("rb") as f:
            header = read_header(f)
        return why_no_image(header) or ("a localiser" if is_localiser(header) else None)
    except (OSError, ValueError):
        return None


@lru_cache(maxsize=2**16)
def _holds_volume(path: str, _time: int, _size: int) -> bool:
    """As `holds_volume`, of a file or folder as it was at a time."""
    file = Path(path)
    if file.is_dir():
        return first_dicom(file) is not None
    if not file.is_file() or not begins_as_dicom(file):
        return False
    try:
        with file.open("rb") as f:
            header = read_header(f)
        frames = whole_number(header, "NumberOfFrames", 1)
        return frames > 1 and "PerFrameFunctionalGroupsSequence" in header
    except (OSError, ValueError):  # whoever reads it tells
        return False
