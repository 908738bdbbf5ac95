"""What the files of a case hold: its image, its truth, its frame, and how people look at it.

The formats of the files are asked here, so that nobody behind asks what a case is.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from weakseg.config import DataConfig
from weakseg.data.cases import Case
from weakseg.data.formats.base import Frame
from weakseg.data.formats.reading import read_frame
from weakseg.data.formats.registry import IMAGES
from weakseg.data.images import (
    Intensity,
    held_image,
    read_image,
    refuse_beyond_unit,
    scale_intensity,
    scaling,
)
from weakseg.data.mask_rules import MaskRule
from weakseg.data.noise import is_noisier, noise_share, quieter
from weakseg.data.slices import (
    file_values,
    held_volume,
    slice_and_neighbours,
    slice_frame,
    slice_image,
    slice_mask,
    stacked,
    stored_values,
    volume_frame,
)
from weakseg.data.truth import read_true_mask, union
from weakseg.data.volumes import read_case, read_modality
from weakseg.data.windows import windowed_and_stretched

__all__ = [
    "as_planes",
    "case_frame",
    "case_image",
    "case_mask",
    "case_plane",
    "case_spacing",
    "case_truth",
    "case_values",
    "fullest_plane",
    "intensity_of",
    "network_input",
    "on_file",
    "read_whole",
    "seen_and_stretched",
    "seen_image",
    "shown_intensity",
    "whole_spacing",
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
        As `weakseg.data.images.read_image` or `weakseg.data.volumes.read_volume` gives it; a slice
        (M, N) is scaled to [0, 1] already, see `weakseg.data.slices.slice_image`, and so is an
        image where ``data.window`` asks for it, see `weakseg.data.windows.windowed_image`. One
        that is noisier than ``case.smooth_above`` is smoothed, see `weakseg.data.noise.quieter`
        and, of whole volumes, `weakseg.data.noise.quieter_volume`.

    Raises
    ------
    DataError
        If it cannot be read.
    """
    return _IMAGE[case.noun](case, data)


def case_values(case: Case, data: DataConfig) -> NDArray[Any]:
    """As `case_image`, but that a whole volume of short integers stays one, see `file_values`."""
    if case.noun == "volume" and not case.smooth_above:
        return file_values(case.image, data.intensity, data.window)
    return case_image(case, data)


def network_input(case: Case, data: DataConfig) -> NDArray[Any]:
    """The image of a case as a 2D network gets it: with its neighbours where that is asked for.

    Returns
    -------
    (M, N) or (M, N, 3) ndarray
        Of a slice with ``data.neighbours`` the slice before, itself, and the one behind.
    """
    if case.slice is not None and data.neighbours:
        three = slice_and_neighbours(case.image, case.slice, data.intensity, data.window)
        if not case.smooth_above:
            return three
        (_, own), each = _slice(case, data), np.moveaxis(three, 2, 0)
        return np.stack([_smoothed(one, own, case, data) for one in each], axis=2)
    return seen_image(case, data)


def seen_image(case: Case, data: DataConfig) -> NDArray[Any]:
    """As `case_image`, not writeable: what others have just looked at is not read again."""
    return case_image(case, data) if case.noun == "volume" else seen_and_stretched(case, data)[0]


def seen_and_stretched(case: Case, data: DataConfig) -> tuple[NDArray[Any], bool]:
    """As `seen_image`, of an image or a slice, and whether its white is just its range's end."""
    read = _slice if case.noun == "slice" else partial(_picture, read=held_image)
    image, stretched = read(case, data)
    return _smoothed(image, stretched, case, data), stretched


def intensity_of(case: Case, data: DataConfig) -> Intensity:
    """How `weakseg.data.images.scale_intensity` has to scale a case's image for a network.

    Slices are scaled by the range of their volume before, and images where a window is asked for.
    """
    scaled = case.slice is not None or (case.formats is IMAGES and data.window != "auto")
    return "dtype" if scaled else data.intensity


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
    if case.slice is None:
        return read_true_mask(case.mask, data.mask_rule, case.image, grid)
    files = (case.mask,) if isinstance(case.mask, Path) else case.mask
    frame, z = volume_frame(case.image), case.slice
    return union([slice_mask(f, z, data.mask_rule, frame, image=case.image) for f in files])


def case_frame(case: Case) -> Frame:
    """Where the samples of a case lie, from its file's header.

    Of a slice the frame of that slice in its volume.

    Raises
    ------
    DataError
        As `weakseg.data.formats.reading.read_frame`.
    """
    if case.slice is None:
        return read_frame(case.image, case.formats)
    return slice_frame(volume_frame(case.image), case.slice)


def case_spacing(case: Case) -> tuple[float, ...] | None:
    """Distance in mm between neighbours along each axis; None where the file does not tell.

    The borders of 2D images are compared in pixels, also where DICOM tells the size of one: a set
    has one unit. What is measured by itself takes `Frame.spacing`, see `weakseg.methods.lesions`.
    """
    if case.formats is IMAGES:
        return None
    frame = case_frame(case)
    if not frame.known_spacing:
        return None
    x, y, z = frame.spacing
    return (x, y, z) if case.slice is None else (y, x)


def case_mask(case: Case, path: Path, rule: MaskRule = "nonzero") -> NDArray[np.bool_]:
    """A mask that weakseg wrote beside a case, on the case's own grid.

    Parameters
    ----------
    case : Case
    path : Path
    rule : "nonzero" or sequence of int
        What of it is marked, as for `weakseg.data.truth.read_true_mask`.

    Raises
    ------
    DataError
        If it cannot be read.
    """
    if case.slice is None:
        return read_true_mask(path, rule, case.image)
    return slice_mask(path, case.slice, rule)


def on_file(cases: Sequence[Case], arrays: Sequence[NDArray[Any]]) -> NDArray[Any]:
    """What lies on the grids of the cases of one file, as one array on the grid of the file.

    Parameters
    ----------
    cases : sequence of Case
        One whole image or volume, or slices of one volume.
    arrays : sequence of ndarray
        One a case, of one type.

    Returns
    -------
    ndarray
        The array itself of a whole file; of slices (X, Y, Z), 0 where there is none.
    """
    if cases[0].slice is None:
        return arrays[0]
    at = [int(c.slice) for c in cases if c.slice is not None]
    return stacked(volume_frame(cases[0].image).shape, at, arrays)


def read_whole(case: Case, data: DataConfig | None = None) -> None:
    """Read every file of a case but its mask, as it is read later.

    Raises
    ------
    DataError
        If one cannot be read, or lies on another grid than the image.
    """
    _WHOLE[case.noun](case, data or DataConfig())


def whole_spacing(case: Case) -> tuple[float, ...] | None:
    """As `case_spacing`, of the whole file: of a slice, of its volume."""
    return case_spacing(replace(case, slice=None))


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
    return _PLANES[case.noun](values)


def case_plane(case: Case, data: DataConfig, at: int) -> NDArray[Any]:
    """A plane of a case's image as `as_planes` has it; no copy of a whole volume is made."""
    if case.noun != "volume":
        return np.asarray(as_planes(case, case_image(case, data))[at])
    raw, slope, inter = stored_values(case.image, data.intensity, data.window)
    return (np.rot90(raw[:, :, at]) * slope + inter).astype(np.float32)


def fullest_plane(case: Case, mask: NDArray[np.bool_]) -> int:
    """The index of the plane with most of a mask; the first of equal ones."""
    return int(as_planes(case, mask).sum(axis=(1, 2)).argmax())


def shown_intensity(case: Case, data: DataConfig) -> Intensity:
    """How `weakseg.data.images.scale_intensity` has to scale a case's image for the eye.

    Volumes have no range of their own.
    """
    scaled = case.slice is not None or case.formats.has_range
    return intensity_of(case, data) if scaled else "percentile"


def _smoothed(image: NDArray[Any], stretched: bool, case: Case, data: DataConfig) -> NDArray[Any]:
    """An image or a slice, which are of one modality."""
    if not case.smooth_above:
        return image
    how = intensity_of(case, data)
    noise = noise_share(scale_intensity(image, how), stretched=stretched)
    louder = is_noisier(noise, case.smooth_above[0])
    return quieter(image, how, stretched=stretched) if louder else image


def _slices(values: NDArray[Any]) -> NDArray[Any]:
    return np.moveaxis(np.rot90(values), 2, 0)


def _picture(
    case: Case, data: DataConfig, read: Callable[[Path], NDArray[Any]] = read_image
) -> tuple[NDArray[Any], bool]:
    if data.window == "auto":
        image = read(case.image)
        if data.intensity == "dtype":
            refuse_beyond_unit(image, case.image)
        return image, scaling(image, data.intensity) == "percentile"
    return windowed_and_stretched(case.image, data.window, data.intensity)


def _slice(case: Case, data: DataConfig) -> tuple[NDArray[Any], bool]:
    plane = slice_image(case.image, int(case.slice or 0), data.intensity, data.window)
    return plane, held_volume(case.image, data.intensity, data.window).stretched


_IMAGE: dict[str, Callable[[Case, DataConfig], NDArray[Any]]] = {
    "image": lambda case, data: _smoothed(*_picture(case, data), case, data),
    "slice": lambda case, data: _smoothed(*_slice(case, data), case, data),
    "volume": lambda case, data: read_modality(case, 0).values,
}
_WHOLE: dict[str, Callable[[Case, DataConfig], object]] = {
    "image": lambda case, data: _picture(case, data, held_image),
    "slice": _slice,
    "volume": lambda case, data: read_case(case),
}
_PLANES: dict[str, Callable[[NDArray[Any]], NDArray[Any]]] = {
    "image": lambda values: values[None],
    "slice": lambda values: values[None],
    "volume": _slices,
}
