"""The tone of a lesion in a large volume, plane by plane: doubles of all of it take memory."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from weakseg.masks.checks import Bools, Floats, heat_of
from weakseg.masks.region import brightness

EVEN = 1e-6
"""An image is even where its range is at most this share of its largest magnitude."""


@dataclass(frozen=True, eq=False)
class Planes:
    """A volume's heat and brightness, a plane of the first two axes at a time.

    Attributes
    ----------
    heat : (X, Y, Z) ndarray
        Raw heat of any type.
    image : (X, Y, Z[, C]) ndarray
    peak : float
        Of the heat's maximum.
    sd : sequence of float
        Standard deviation of the image's smoothing along both axes of a plane.
    """

    heat: npt.NDArray[Any]
    image: npt.NDArray[Any]
    peak: np.float64
    sd: tuple[float, float]

    @property
    def count(self) -> int:
        """How many planes there are."""
        return int(self.heat.shape[2])

    def hot(self, z: int) -> Floats:
        """(X, Y) heat of a plane over the volume's maximum."""
        return np.asarray(np.maximum(heat_of(self.heat[..., z]), 0.0) / self.peak)

    def smooth(self, z: int) -> Floats:
        """(X, Y) smoothed brightness of a plane."""
        from scipy import ndimage

        return np.asarray(ndimage.gaussian_filter(brightness(self.image[:, :, z]), self.sd))

    def above(self, share: float) -> Bools:
        """(X, Y, Z) mask of what is hotter than a share of the maximum."""
        mask = np.zeros(self.heat.shape, dtype=bool)
        for z in range(self.count):
            mask[..., z] = self.hot(z) > share
        return mask


def tone_of_planes(planes: Planes, *, warm: float, above: float) -> Bools:
    """`weakseg.masks.rules.two_tone.warm_tone` of a large volume.

    Parameters
    ----------
    planes : Planes
    warm : float
        Share of the maximum above which the volume is warm; something is.
    above : float
        At most ``warm``; below 0 for all of the volume.

    Returns
    -------
    (X, Y, Z) ndarray of bool
        What is of the tone and hotter than ``above``; all that is warm where the image is even
        there.
    """
    from skimage.filters import threshold_otsu

    def warm_tones() -> Iterator[Floats]:
        for z in range(planes.count):
            region = planes.hot(z) > warm
            if region.any():
                yield planes.smooth(z)[region]

    ends = [(tones.min(), tones.max()) for tones in warm_tones()]
    low, high = min(e[0] for e in ends), max(e[1] for e in ends)
    if not high - low > EVEN * max(abs(low), abs(high)):
        return planes.above(warm)
    counts, edges = np.zeros(256, dtype=np.int64), np.zeros(257)
    for tones in warm_tones():
        found, edges = np.histogram(tones, bins=256, range=(low, high))
        counts += found
    at = threshold_otsu(hist=(counts, (edges[:-1] + edges[1:]) / 2.0))
    tone = np.zeros(planes.heat.shape, dtype=bool)
    heats, light = np.zeros(2), 0
    for z in range(planes.count):
        hot = planes.hot(z)
        within = hot > above
        if not within.any():
            continue
        bright = planes.smooth(z) > at
        tone[..., z] = bright & within
        region = hot > warm
        heats += [hot[region & bright].sum(), hot[region & ~bright].sum()]
        light += int(np.count_nonzero(region & bright))
    if heats[0] / light >= heats[1] / (int(counts.sum()) - light):
        return tone
    for z in range(planes.count):
        tone[..., z] = (planes.hot(z) > above) & ~tone[..., z]
    return tone
