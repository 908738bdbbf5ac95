"""Images by a window: which of their values become black and white."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from weakseg.data.formats.base import opened
from weakseg.data.formats.dicom.image import decode_shown
from weakseg.data.formats.dicom.signs import begins_as_dicom
from weakseg.data.formats.registry import IMAGES
from weakseg.data.images import (
    Intensity,
    read_image,
    refuse_beyond_unit,
    scale_intensity,
    scaling,
    shown,
)

Window = Literal["auto", "file", "percentiles"] | tuple[float, float]
"""As `weakseg.config.DataConfig.window` has it."""


def ends_of(window: tuple[float, float]) -> tuple[float, float]:
    """The values that become black and white, of a centre and a width."""
    centre, width = window
    return centre - width / 2, centre + width / 2


def windowed_image(path: Path, window: Window, intensity: Intensity) -> NDArray[np.float32]:
    """An image in [0, 1] by a window.

    Parameters
    ----------
    path : Path
    window : {"file", "percentiles"} or (centre, width)
        Values of the file: of DICOM rescaled, of others as stored. Colours of DICOM have no window.
    intensity : {"auto", "dtype", "percentile"}
        How it is scaled where the file has no window, see `weakseg.data.images.scale_intensity`.

    Returns
    -------
    (M, N) or (M, N, 3) ndarray of float32

    Raises
    ------
    DataError
        As `weakseg.data.images.read_image`.
    """
    return windowed_and_stretched(path, window, intensity)[0]


def windowed_and_stretched(
    path: Path, window: Window, intensity: Intensity
) -> tuple[NDArray[np.float32], bool]:
    """As `windowed_image`, and whether 1 is the end of the image's own range, not of a window's."""
    how: Intensity = "percentile" if window == "percentiles" else intensity
    if begins_as_dicom(path):
        kind = "file" if window in ("auto", "file") else "none"
        limits = kind if isinstance(window, str) else ends_of(window)
        with opened(path, IMAGES.damaged, IMAGES.packed) as f:
            pixels, mapped = decode_shown(f, path, limits)  # type: ignore[arg-type]
        return _scaled(shown(pixels, path), "dtype" if mapped else how, path)
    image = read_image(path)
    if isinstance(window, str):
        return _scaled(image, how, path)
    return by_window(image, window, how), False


def by_window(image: NDArray[Any], window: Window, intensity: Intensity) -> NDArray[np.float32]:
    """An image that has no window of its own in [0, 1], as `windowed_image` does it.

    Parameters
    ----------
    image : (M, N) or (M, N, 3) ndarray
        The values that ``window`` speaks of.
    window, intensity
        See `windowed_image`.
    """
    if isinstance(window, str):
        return scale_intensity(image, "percentile" if window == "percentiles" else intensity)
    low, high = ends_of(window)
    return np.clip((image.astype(np.float64) - low) / (high - low), 0, 1).astype(np.float32)


def _scaled(image: NDArray[Any], how: Intensity, path: Path) -> tuple[NDArray[np.float32], bool]:
    if how == "dtype":
        refuse_beyond_unit(image, path)
    return scale_intensity(image, how), scaling(image, how) == "percentile"
