"""The part of an image that shows the body, apart from a dark background."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from weakseg.masks.checks import Bools

_FLOOR = 0.02
_SMALLEST_PART = 0.1
_BACKGROUND_LEVEL = 0.10
_BORDER = 0.4
_CORNER = 0.05
_LEAST_BODY = 0.02


def body_region(image: npt.ArrayLike, dims: int = 2) -> Bools:
    """Find the body: what is brighter than the background, with its holes filled.

    Otsu's threshold of the logarithm of the smoothed brightness parts dark from not dark (of the
    brightness itself it would part fat from brain); parts smaller than a tenth of the largest are
    dropped, and what they enclose, air and fluid, belongs to the body.

    Parameters
    ----------
    image : (M, N) or (M, N, C) array_like
        Any integer, float or boolean type; channels are averaged. Non-finite values count as
        dark.
    dims : {2, 3}, optional
        3 for a volume (X, Y, Z): slice by slice along its third axis.

    Returns
    -------
    (M, N) or (X, Y, Z) ndarray of bool
        The entire image where there is no dark background: the image is constant, or what is
        left over is not dark (its median lies above 10 % of the image's 99th percentile, both
        measured from the image's minimum), or holds less than 40 % of the image's border or
        fewer than three of its corners (the shadow at the foot of an ultrasound image is not
        background), or hardly anything is left (under 2 %).

    Raises
    ------
    ValueError
        When the image has another number of dimensions, or no pixel.

    References
    ----------
    N. Otsu, "A Threshold Selection Method from Gray-Level Histograms", IEEE Trans. SMC 9(1), 1979.
    """
    return plane_by_plane(_body, image, dims)


def plane_by_plane(
    mark: Callable[[npt.ArrayLike], Bools], image: npt.ArrayLike, dims: int
) -> Bools:
    """The mask of an image, or of a volume slice by slice along its third axis.

    Parameters
    ----------
    mark : callable
        From an image, (M, N) or (M, N, C), to its (M, N) mask.
    image : (M, N[, C]) or (X, Y, Z) array_like
    dims : {2, 3}
        An array of three axes does not tell colours from slices.

    Returns
    -------
    (M, N) or (X, Y, Z) ndarray of bool
    """
    if dims == 2:
        return mark(image)
    return np.stack([mark(s) for s in np.moveaxis(np.asarray(image), 2, 0)], axis=2)


def _body(image: npt.ArrayLike) -> Bools:
    from scipy import ndimage
    from skimage.filters import threshold_otsu

    grey = brightness(image)
    whole = np.ones(grey.shape, dtype=bool)
    finite = np.isfinite(grey)
    if not finite.any():
        return whole
    grey = np.where(finite, grey, grey[finite].min())
    smooth = ndimage.gaussian_filter(grey, max(grey.shape) / 150)
    smooth -= smooth.min()
    top = np.percentile(smooth, 99)
    if not np.isfinite(top) or top <= 1e-6 * np.abs(grey).max():
        return whole
    # The floor keeps the noise of a black background from being spread out by the logarithm.
    level = np.log(_FLOOR + smooth / top)
    body = _solid(level > threshold_otsu(level))
    if _is_background(~body, smooth / top):
        return body
    return whole


def brightness(image: npt.ArrayLike, dims: int = 2) -> npt.NDArray[np.float64]:
    """An image's grey values: its channels' mean.

    Parameters
    ----------
    image : (M, N) or (M, N, C) array_like
        With ``dims`` 3 a volume, (X, Y, Z) or (X, Y, Z, C).
    dims : {2, 3}, optional

    Returns
    -------
    (M, N) or (X, Y, Z) ndarray of float64

    Raises
    ------
    ValueError
        When the image has another number of dimensions, or no pixel.
    """
    values = np.asarray(image)
    if values.ndim not in (dims, dims + 1) or values.size == 0:
        axes = ", ".join({2: "MN", 3: "XYZ"}[dims])
        raise ValueError(
            f"image must be ({axes}) or ({axes}, C) with at least one pixel, got shape "
            f"{values.shape}"
        )
    values = values.astype(np.float64)
    return values.mean(axis=dims) if values.ndim > dims else values


def unit_range(grey: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Values from 0 to 1; zeros where they are all equal."""
    span = float(np.ptp(grey))
    return (grey - grey.min()) / span if span > 0 else np.zeros_like(grey)


def _solid(mask: npt.NDArray[np.bool_]) -> Bools:
    """The large parts of a mask, with their holes filled."""
    from scipy import ndimage

    labels, _ = ndimage.label(mask)
    sizes = np.bincount(labels.ravel())
    sizes[0] = 0
    keep = (sizes > 0) & (sizes >= _SMALLEST_PART * sizes.max())
    filled: npt.NDArray[np.bool_] = ndimage.binary_fill_holes(keep[labels])
    return filled


def _is_background(rest: npt.NDArray[np.bool_], level: npt.NDArray[np.float64]) -> bool:
    if not rest.any() or rest.mean() > 1 - _LEAST_BODY:
        return False
    border = np.ones_like(rest)
    border[1:-1, 1:-1] = False
    m, n = (max(1, round(_CORNER * side)) for side in rest.shape)
    corners = (rest[:m, :n], rest[:m, -n:], rest[-m:, :n], rest[-m:, -n:])
    return bool(
        np.median(level[rest]) <= _BACKGROUND_LEVEL
        and rest[border].mean() >= _BORDER
        and sum(c.mean() > 0.5 for c in corners) >= 3
    )
