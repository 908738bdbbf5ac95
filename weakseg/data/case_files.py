"""What the files of a case hold: its image, its truth, its frame, and how people look at it.

The formats of the files are asked here, so that nobody behind asks what a case is.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from weakseg.config import DataConfig
from weakseg.data.cases import Case
from weakseg.data.formats.base import Frame
from weakseg.data.formats.reading import read_frame
from weakseg.data.formats.registry import IMAGES, VOLUMES
from weakseg.data.formats.writing import write_like
from weakseg.data.images import Intensity, read_image, write_grey
from weakseg.data.patches import IGNORE
from weakseg.data.truth import read_true_mask
from weakseg.data.volumes import read_case, read_volume

__all__ = [
    "as_planes",
    "case_frame",
    "case_image",
    "case_mask",
    "case_spacing",
    "case_truth",
    "fullest_plane",
    "read_whole",
    "shown_intensity",
    "write_target",
]


def case_image(case: Case, data: DataConfig) -> NDArray[Any]:
    """The image of a case on its own grid; of several modalities the first.

    Parameters
    ----------
    case : Case
    data : DataConfig

    Returns
    -------
    (M, N), (M, N, 3) or (X, Y, Z) ndarray
        As `weakseg.data.images.read_image` or `weakseg.data.volumes.read_volume` gives it.

    Raises
    ------
    DataError
        If it cannot be read.
    """
    return _IMAGE[case.formats.noun](case, data)


def case_truth(case: Case, data: DataConfig, grid: Frame | None = None) -> NDArray[np.bool_] | None:
    """The true mask of a case on its own grid; None where the manifest names none.

    Parameters
    ----------
    case : Case
    data : DataConfig
        What mask values mean.
    grid : Frame, optional
        Where given, every file of a volume's mask has to lie on it.

    Raises
    ------
    DataError
        As `weakseg.data.truth.read_true_mask`.
    """
    if case.mask is None:
        return None
    return read_true_mask(case.mask, data.mask_rule, case.image, grid)


def case_frame(case: Case) -> Frame:
    """Where the samples of a case lie, from its file's header.

    Raises
    ------
    DataError
        As `weakseg.data.formats.reading.read_frame`.
    """
    return read_frame(case.image, case.formats)


def case_spacing(case: Case) -> tuple[float, ...] | None:
    """Distance in mm between neighbours along each axis; None where the file does not tell.

    2D images are measured in pixels, also where DICOM tells the size of one.
    """
    if case.formats is IMAGES:
        return None
    frame = case_frame(case)
    return frame.spacing if frame.known_spacing else None


def case_mask(case: Case, path: Path) -> NDArray[np.bool_]:
    """A mask that weakseg wrote beside a case, on the case's own grid.

    Raises
    ------
    DataError
        If it cannot be read.
    """
    return read_true_mask(path, "nonzero", case.image)


def read_whole(case: Case) -> None:
    """Read every file of a case but its mask.

    Raises
    ------
    DataError
        If one cannot be read, or lies on another grid than the image.
    """
    _WHOLE[case.formats.noun](case)


def write_target(path: Path, case: Case, target: NDArray[np.uint8]) -> None:
    """Write what a network is told of a case: 0, 255, and 128 where it is told nothing.

    Parameters
    ----------
    path : Path
        Ends as the masks of such cases.
    case : Case
    target : ndarray of uint8
        0, 1 and `weakseg.data.patches.IGNORE`, on the case's own grid.
    """
    grey = np.select([target == 1, target == IGNORE], [255, 128], 0).astype(np.uint8)
    _WRITE_GREY[case.formats.noun](path, grey, case.image)


def as_planes(case: Case, values: NDArray[Any]) -> NDArray[Any]:
    """What lies on the grid of a case as the planes that people look at; of an image there is one.

    Parameters
    ----------
    case : Case
    values : (M, N), (M, N, 3) or (X, Y, Z) ndarray

    Returns
    -------
    (P, m, n) or (P, m, n, 3) ndarray
        A view. Those of a volume are its slices along the third axis: X to the right, Y upwards.
    """
    return _PLANES[case.formats.noun](values)


def fullest_plane(case: Case, mask: NDArray[np.bool_]) -> int:
    """The index of the plane with most of a mask; the first of equal ones."""
    return int(as_planes(case, mask).sum(axis=(1, 2)).argmax())


def shown_intensity(case: Case, data: DataConfig) -> Intensity:
    """How `weakseg.data.images.scale_intensity` has to scale a case's image for the eye.

    Volumes have no range of their own.
    """
    return data.intensity if case.formats.has_range else "percentile"


def _slices(values: NDArray[Any]) -> NDArray[Any]:
    return np.moveaxis(np.rot90(values), 2, 0)


_IMAGE: dict[str, Callable[[Case, DataConfig], NDArray[Any]]] = {
    "image": lambda case, data: read_image(case.image),
    "volume": lambda case, data: read_volume(case.image).values,
}
_WHOLE: dict[str, Callable[[Case], object]] = {
    "image": lambda case: read_image(case.image),
    "volume": read_case,
}
_WRITE_GREY: dict[str, Callable[[Path, NDArray[np.uint8], Path], None]] = {
    "image": lambda path, grey, image: write_grey(path, grey),
    "volume": lambda path, grey, image: write_like(path, grey, image, VOLUMES),
}
_PLANES: dict[str, Callable[[NDArray[Any]], NDArray[Any]]] = {
    "image": lambda values: values[None],
    "volume": _slices,
}
