"""How an image or a volume looks, in a few numbers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from weakseg.config import DataConfig
from weakseg.data.case_files import intensity_of, seen_and_stretched
from weakseg.data.cases import Case
from weakseg.data.images import scale_intensity, scaling
from weakseg.data.noise import noise_share, volume_noise
from weakseg.data.slices import slices_noise
from weakseg.data.volumes import read_volume
from weakseg.data.zscore import scaled_by, scales_of

Floats = NDArray[np.float64]

SIDE = 128
"""Longest side in pixels at which an image's detail is measured."""
CELLS = 4
COLOURED = 0.02
"""Mean difference of the highest and the lowest channel, in [0, 1], of an image in colour."""
VOLUME = "volume"
"""In the place of the samples' type: of whole volumes it does not count."""

WHITE = 2
"""The feature that is the share of an image that is as bright as can be."""

_QUANTILES = (5, 25, 50, 75, 95)
_FINENESS = (0.0, 1.0, 2.0, 4.0, 8.0)
GROUPS = {
    "brightness": (0, 8),
    "contrast": (8, 9),
    "fineness of detail": (9, 14),
    "place of bright and dark": (14, 14 + CELLS**2),
}
"""Features by what they tell: from where to where."""


@dataclass(frozen=True)
class Look:
    """How an image or a volume looks, in a few numbers.

    Attributes
    ----------
    scaled : {"dtype", "percentile", "zscore"}
        How its intensities reach the network, which depends on its bits.
    depth : str
        Its samples' type.
    coloured : bool
    longest : int
        Its longest side in pixels; 0 for volumes.
    spacing : tuple of float or None
        In mm, of volumes that tell it.
    orientation : str or None
        Of volumes that tell it, for instance LPS.
    features : tuple of float
        See `GROUPS`.
    noise : float or None
        See `weakseg.data.noise.noise_share`, and of a slice that of its volume; None where it
        cannot be told, and of what was looked at before it was.
    more_noise : tuple of float or None
        That of further modalities.
    """

    scaled: str
    depth: str
    coloured: bool
    longest: int
    spacing: tuple[float, ...] | None
    orientation: str | None
    features: tuple[float, ...]
    noise: float | None = None
    more_noise: tuple[float | None, ...] = ()

    @property
    def all_noise(self) -> tuple[float | None, ...]:
        """Of every modality."""
        return self.noise, *self.more_noise


def look_at_case(case: Case, data: DataConfig) -> Look:
    """How the image of a case looks; of a volume the first modality, and all of them for noise.

    Raises
    ------
    DataError
        If it cannot be read.
    """
    return _LOOKS[case.noun](case, data)


def _look_at_picture(case: Case, data: DataConfig) -> Look:
    image, stretched = seen_and_stretched(case, data)
    return look_at_image(image, intensity_of(case, data), stretched)


def _look_at_slice(case: Case, data: DataConfig) -> Look:
    """Noise is that of the whole volume: a slice at its end has little tissue to tell it by."""
    noise = slices_noise(case.image, data.intensity, data.window)
    return replace(_look_at_picture(case, data), noise=_told(noise))


def _look_at_volume(case: Case, data: DataConfig) -> Look:
    volume = read_volume(case.image)
    values, grid = volume.values, volume.frame
    scales = scales_of(values[None])
    middle = [np.take(values, n // 2, axis=k) for k, n in enumerate(values.shape)]
    # Three standard deviations on either side become 0 to 1.
    slices = [np.clip((scaled_by(s[None], scales)[0] + 3) / 6, 0, 1) for s in middle]
    return Look(
        "zscore",
        VOLUME,
        False,
        0,
        grid.spacing if grid.known_spacing else None,
        grid.orientation if grid.coded else None,
        _rounded(np.mean([features_of(s) for s in slices], axis=0)),
        _told(volume_noise(values)),
        tuple(_told(volume_noise(read_volume(path).values)) for path in case.more),
    )


_LOOKS: dict[str, Callable[[Case, DataConfig], Look]] = {
    "image": _look_at_picture,
    "slice": _look_at_slice,
    "volume": _look_at_volume,
}


def look_at_image(image: ArrayLike, intensity: str = "auto", stretched: bool | None = None) -> Look:
    """How an (M, N) or (M, N, 3) image looks, as `weakseg.data.images.read_image` gives it.

    Where it is ``stretched``, what is white in it is so by its own range alone, and not clipped; by
    default where ``intensity`` stretches it.
    """
    values = np.asarray(image)
    shown = scale_intensity(values, intensity)  # type: ignore[arg-type]
    colour = float((shown.max(2) - shown.min(2)).mean()) if shown.ndim == 3 else 0.0
    grey = shown.mean(axis=2) if shown.ndim == 3 else shown
    how = scaling(values, intensity)  # type: ignore[arg-type]
    if stretched is None:
        stretched = how == "percentile"
    return Look(
        how,
        f"{8 * values.dtype.itemsize} bits",
        colour > COLOURED,
        max(values.shape[:2]),
        None,
        None,
        _rounded(features_of(grey)),
        _told(noise_share(shown, stretched=stretched)),
    )


def features_of(grey: ArrayLike) -> Floats:
    """Brightness, contrast, fineness and layout of an (M, N) image in [0, 1], see `GROUPS`."""
    import cv2

    image = np.asarray(grey, dtype=np.float32)
    share = SIDE / max(image.shape)
    size = (max(1, round(image.shape[1] * share)), max(1, round(image.shape[0] * share)))
    small = np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA))
    blurred = [small if s == 0 else cv2.GaussianBlur(small, (0, 0), s) for s in _FINENESS]
    bands = [a - b for a, b in zip(blurred, [*blurred[1:], small.mean()], strict=True)]
    layout = cv2.resize(small, (CELLS, CELLS), interpolation=cv2.INTER_AREA)
    return np.array(
        [
            small.mean(),
            (small <= 0.02).mean(),
            (small >= 0.98).mean(),
            *np.percentile(small, _QUANTILES),
            small.std(),
            *(np.log(0.002 + band.std()) for band in bands),
            *layout.ravel(),
        ],
        dtype=np.float64,
    )


def _told(noise: float | None) -> float | None:
    return None if noise is None else round(noise, 4)


def _rounded(features: Floats) -> tuple[float, ...]:
    return tuple(round(float(f), 4) for f in features)
