"""How noisy an image or a volume is beside its tissue, and the same with less noise.

A network that has learnt from quiet images hardly sees a lesion under more noise than theirs, and
says that nothing is there (reports/README.md, "Noise").
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from weakseg.data.images import STRETCH, narrowed, scale_intensity, scaling

Floats = NDArray[np.float32]

SIDE = 256
"""Longest side in pixels at which noise is told: larger images are shrunk to it by areas' means."""
BRIGHT = 0.3
"""Tissue is what is brighter than this share of the brightest percentile."""
LEAST_TISSUE = 0.05
"""Share of the image below which there is too little tissue to tell its noise."""
DARK = 0.05
"""Intensity, in [0, 1], of tissue so dark that 8 bits alone are noise enough."""
STRENGTH = 0.6
"""Patches whose root mean square difference is this many sd of the noise count 1/e as much."""
PLANES = 15
"""Planes of a volume, evenly spaced, whose noise is looked at."""
PROCEDURE = 5
"""Of how noise is told and smoothed: counted up with every change of what comes out."""

_DIFFERENCE = np.array([1, -2, 1], dtype=np.float32) / np.float32(np.sqrt(6))
_MAD = 0.6745
_STEP_OF_8_BITS = 1 / 255
_WHITE = 1 - 1.01 * _STEP_OF_8_BITS
_STEP = 1e-4  # between values that are one; of 8 bits they are 40 times as far apart
_DIGITS = 4  # of a share that runs remember
_SAMPLES = 2**20  # of a volume, for the ends of its range


def noise_share(shown: ArrayLike, *, stretched: bool = False) -> float | None:
    """The standard deviation of an image's noise, as a share of its tissue's intensity.

    Its inverse is the ratio of signal to noise. Texture as fine as a pixel counts as noise. Pixels
    of which most around have the image's highest value are left out: clipping took their noise.
    Where that is not white, and what is left has no noise either, they are tissue without noise.

    Parameters
    ----------
    shown : (M, N) or (M, N, 3) array_like
        In [0, 1].
    stretched : bool, optional
        Whether 1 is the end of its own range, and white only by that.

    Returns
    -------
    float or None
        None where less than `LEAST_TISSUE` of it is tissue that is not clipped, or that is darker
        than `DARK`.

    References
    ----------
    Immerkær, "Fast noise variance estimation", Computer Vision and Image Understanding 1996: second
    differences along both axes, which edges and slopes along either leave out. Donoho, "De-noising
    by soft-thresholding", 1995: their median, as if they were normal.
    """
    import cv2

    grey = _grey(np.asarray(shown, dtype=np.float32))
    if (share := SIDE / max(grey.shape)) < 1:
        size = (max(1, round(grey.shape[1] * share)), max(1, round(grey.shape[0] * share)))
        grey = np.asarray(cv2.resize(grey, size, interpolation=cv2.INTER_AREA))
    tissue = _tissue(grey, stretched=stretched)
    if tissue.mean() < LEAST_TISSUE or (level := float(np.median(grey[tissue]))) < DARK:
        return None
    return _sd(grey, tissue) / level


def is_noisier(noise: float | None, limit: float | None) -> bool:
    """Whether a `noise_share` is above a limit; what is not known never is."""
    return noise is not None and limit is not None and round(noise, _DIGITS) > limit


def median_noise(
    plane: Callable[[int], ArrayLike], count: int, *, stretched: bool = False
) -> float | None:
    """The median `noise_share` of planes of a volume, in which there is enough tissue.

    Parameters
    ----------
    plane : callable
        Index → (M, N) in [0, 1], by the range of the whole volume.
    count : int
        How many there are; at most `PLANES` of them are looked at.
    stretched : bool, optional
        See `noise_share`.

    Returns
    -------
    float or None
        None where no plane tells.
    """
    told = [noise_share(plane(k), stretched=stretched) for k in _evenly(count)]
    known = [t for t in told if t is not None]
    return float(np.median(known)) if known else None


def volume_noise(values: NDArray[Any]) -> float | None:
    """The noise of a volume: `median_noise` of its planes.

    Parameters
    ----------
    values : (X, Y, Z) ndarray
        Finite. Planes lie across the axis with the fewest voxels, of equal ones the last, as
        slices of thick layers do.
    """
    planes, (low, high) = _planes(values), _ends(values)
    return median_noise(lambda k: _scaled(planes[k], low, high), len(planes), stretched=True)


def quieter_volume(values: NDArray[Any]) -> Floats:
    """A volume whose noise is smoothed by non-local means, plane by plane, see `volume_noise`.

    The noise of all planes is taken to be the same: the median of that of planes with tissue.

    Parameters
    ----------
    values : (X, Y, Z) ndarray
        Finite.

    Returns
    -------
    (X, Y, Z) ndarray of float32
        A voxel of the same value as the first of all stays as it is: so does what was painted
        over, from which the body is told by that value.
    """
    planes, (low, high) = _planes(values), _ends(values)
    out = np.empty(values.shape, dtype=np.float32)
    made = _planes(out)
    made[:] = planes
    found = []
    for k in _evenly(len(planes)):
        tissue = _tissue(_scaled(planes[k], low, high), stretched=True)
        if tissue.mean() >= LEAST_TISSUE:
            found.append(_sd(made[k], tissue))
    sd = float(np.median(found)) if found else 0.0
    if sd == 0:
        return out
    for k, plane in enumerate(planes):
        if plane.min() == plane.max():  # beside the body
            continue
        made[k] = np.where(plane == values[0, 0, 0], made[k], _smooth(made[k], sd))
    return out


def quieter(
    image: NDArray[Any], intensity: str = "auto", *, stretched: bool | None = None
) -> NDArray[Any]:
    """An image whose noise is smoothed by non-local means, as much as there is.

    Parameters
    ----------
    image : (M, N) or (M, N, 3) ndarray
        As `weakseg.data.images.read_image` gives it.
    intensity : {"auto", "dtype", "percentile"}
        How it is scaled, to tell what is tissue.
    stretched : bool, optional
        See `noise_share`; by default whether it is stretched here.

    Returns
    -------
    ndarray
        Of the same shape and range; of the same type, but that 8 bits in 16 become 8.

    References
    ----------
    Buades, Coll, Morel, "A non-local algorithm for image denoising", CVPR 2005, with the noise's
    variance taken off patches' differences.
    """
    values = narrowed(image)
    shown = scale_intensity(values, intensity)  # type: ignore[arg-type]
    if stretched is None:
        stretched = scaling(values, intensity) == "percentile"  # type: ignore[arg-type]
    tissue = _tissue(_grey(shown), stretched=stretched)
    plain = values.astype(np.float32)
    sd = _sd(_grey(plain), tissue) if tissue.any() else 0.0
    if sd == 0:
        return values
    made = _smooth(plain, sd)
    if np.issubdtype(values.dtype, np.integer):
        ends = np.iinfo(values.dtype)
        made = np.rint(made).clip(ends.min, ends.max)
    return np.asarray(made, dtype=values.dtype)


def _smooth(plain: Floats, sd: float) -> Floats:
    from skimage.restoration import denoise_nl_means

    how = {"patch_size": 5, "patch_distance": 6, "h": STRENGTH * sd, "sigma": sd}
    axis = 2 if plain.ndim == 3 else None
    made = denoise_nl_means(plain, fast_mode=True, channel_axis=axis, **how)
    return np.asarray(made, dtype=np.float32).reshape(plain.shape)  # one pixel wide as well


def _planes(values: NDArray[Any]) -> NDArray[Any]:
    """A view with the axis of the fewest voxels first."""
    fewest = min(range(3), key=lambda k: (values.shape[k], -k))
    return np.moveaxis(values, fewest, 0)


def _evenly(count: int) -> list[int]:
    at = np.linspace(0, count - 1, min(count, PLANES)).round().astype(int)
    return [int(k) for k in at]


def _ends(values: NDArray[Any]) -> tuple[float, float]:
    """What becomes 0 and 1, as `scale_intensity` stretches a deep image."""
    step = max(1, round((values.size / _SAMPLES) ** (1 / 3)))
    some = values[::step, ::step, ::step]
    low, high = (float(v) for v in np.percentile(some, STRETCH))
    return (low, high) if low < high else (float(values.min()), float(values.max()))


def _scaled(plane: NDArray[Any], low: float, high: float) -> Floats:
    if high <= low:
        return np.zeros(plane.shape, dtype=np.float32)
    shown = (plane.astype(np.float64) - low) / (high - low)
    return np.clip(shown, 0, 1).astype(np.float32)


def _grey(image: NDArray[Any]) -> Floats:
    return image.mean(axis=2, dtype=np.float32) if image.ndim == 3 else image


def _tissue(grey: Floats, *, stretched: bool = False) -> NDArray[np.bool_]:
    """Where an image is bright, and so is what is around it; but for a ground of one value, and
    what is clipped: a highest value that is white, or beside which there is noise.

    Under strong noise that is nowhere so: it is looked for in a blurred copy then, with wider
    margins, for what lies beside an edge is bright there as well.
    """
    import cv2

    clipped, bright = _clipped(grey), _bright(grey, BRIGHT, 3)
    found = bright & ~clipped
    if found.mean() < LEAST_TISSUE:
        white = not stretched and grey.max() >= _WHITE
        if not white and not _is_noisy_beside(clipped, grey, bright):
            clipped[:] = False
            found = bright
        if found.mean() < LEAST_TISSUE:
            soft = cv2.GaussianBlur(np.ascontiguousarray(grey), (0, 0), 2.0)
            found = _bright(soft, 0.5, 7) & ~clipped
    return _beside_ground(grey, found)


def _clipped(grey: Floats) -> NDArray[np.bool_]:
    """Where most pixels of 3 × 3 have the highest value of all."""
    import cv2

    highest = (grey >= grey.max() - _STEP).astype(np.float32)
    return np.asarray(cv2.blur(highest, (3, 3)) > 0.5)


def _is_noisy_beside(clipped: NDArray[np.bool_], grey: Floats, bright: NDArray[np.bool_]) -> bool:
    """Whether what is bright has noise apart from what may be clipped, and from its edge."""
    import cv2

    near = cv2.dilate(clipped.astype(np.uint8), np.ones((5, 5), np.uint8))
    rest = bright & (near == 0)
    return bool(rest.any()) and _sd(grey, rest) > _STEP_OF_8_BITS


def _beside_ground(grey: Floats, found: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Less what has one value in more than half of it, and has no noise for that.

    So does a background that was painted over, and is as bright as tissue where intensities are
    shifted, as z-scores are.
    """
    import cv2

    if not found.any():
        return found
    ground = np.isclose(grey, np.median(grey[found]), rtol=1e-5, atol=0)
    if np.count_nonzero(ground & found) <= found.sum() / 2:
        return found
    near = cv2.dilate(ground.astype(np.uint8), np.ones((3, 3), np.uint8))
    rest = found & (near == 0)
    return rest if rest.mean() >= LEAST_TISSUE else found


def _bright(grey: NDArray[Any], share: float, around: int) -> NDArray[np.bool_]:
    import cv2

    bright = grey > max(share * float(np.percentile(grey, 99)), 0.0)
    ones = np.ones((around, around), np.uint8)
    return np.asarray(cv2.erode(bright.astype(np.uint8), ones), dtype=bool)


def _sd(grey: Floats, where: NDArray[np.bool_]) -> float:
    import cv2

    second = cv2.sepFilter2D(np.ascontiguousarray(grey), -1, _DIFFERENCE, _DIFFERENCE)
    return float(np.median(np.abs(second[where]))) / _MAD
