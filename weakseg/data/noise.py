"""How noisy an image is beside its tissue, and the same image with less noise.

A network that has learnt from quiet images hardly sees a lesion under more noise than theirs, and
says that nothing is there (reports/README.md, "Noise").
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from weakseg.data.images import narrowed, scale_intensity

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

_DIFFERENCE = np.array([1, -2, 1], dtype=np.float32) / np.float32(np.sqrt(6))
_MAD = 0.6745


def noise_share(shown: ArrayLike) -> float | None:
    """The standard deviation of an image's noise, as a share of its tissue's intensity.

    Its inverse is the ratio of signal to noise. Texture as fine as a pixel counts as noise.

    Parameters
    ----------
    shown : (M, N) or (M, N, 3) array_like
        In [0, 1].

    Returns
    -------
    float or None
        None where less than `LEAST_TISSUE` of it is tissue, or that is darker than `DARK`.

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
    tissue = _tissue(grey)
    if tissue.mean() < LEAST_TISSUE or (level := float(np.median(grey[tissue]))) < DARK:
        return None
    return _sd(grey, tissue) / level


def quieter(image: NDArray[Any], intensity: str = "auto") -> NDArray[Any]:
    """An image whose noise is smoothed by non-local means, as much as there is.

    Parameters
    ----------
    image : (M, N) or (M, N, 3) ndarray
        As `weakseg.data.images.read_image` gives it.
    intensity : {"auto", "dtype", "percentile"}
        How it is scaled, to tell what is tissue.

    Returns
    -------
    ndarray
        Of the same shape and range; of the same type, but that 8 bits in 16 become 8.

    References
    ----------
    Buades, Coll, Morel, "A non-local algorithm for image denoising", CVPR 2005, with the noise's
    variance taken off patches' differences.
    """
    from skimage.restoration import denoise_nl_means

    values = narrowed(image)
    tissue = _tissue(_grey(scale_intensity(values, intensity)))  # type: ignore[arg-type]
    plain = values.astype(np.float32)
    sd = _sd(_grey(plain), tissue) if tissue.any() else 0.0
    if sd == 0:
        return values
    how = {"patch_size": 5, "patch_distance": 6, "h": STRENGTH * sd, "sigma": sd}
    axis = 2 if plain.ndim == 3 else None
    made = denoise_nl_means(plain, fast_mode=True, channel_axis=axis, **how)
    if np.issubdtype(values.dtype, np.integer):
        ends = np.iinfo(values.dtype)
        made = np.rint(made).clip(ends.min, ends.max)
    return np.asarray(made, dtype=values.dtype).reshape(values.shape)  # one pixel wide as well


def _grey(image: NDArray[Any]) -> Floats:
    return image.mean(axis=2, dtype=np.float32) if image.ndim == 3 else image


def _tissue(grey: Floats) -> NDArray[np.bool_]:
    """Where an image is bright, and so is what is around it.

    Under strong noise that is nowhere so: it is looked for in a blurred copy then, with wider
    margins, for what lies beside an edge is bright there as well.
    """
    import cv2

    found = _bright(grey, BRIGHT, 3)
    if found.mean() >= LEAST_TISSUE:
        return found
    return _bright(cv2.GaussianBlur(np.ascontiguousarray(grey), (0, 0), 2.0), 0.5, 7)


def _bright(grey: NDArray[Any], share: float, around: int) -> NDArray[np.bool_]:
    import cv2

    bright = grey > max(share * float(np.percentile(grey, 99)), 0.0)
    ones = np.ones((around, around), np.uint8)
    return np.asarray(cv2.erode(bright.astype(np.uint8), ones), dtype=bool)


def _sd(grey: Floats, where: NDArray[np.bool_]) -> float:
    import cv2

    second = cv2.sepFilter2D(np.ascontiguousarray(grey), -1, _DIFFERENCE, _DIFFERENCE)
    return float(np.median(np.abs(second[where]))) / _MAD
