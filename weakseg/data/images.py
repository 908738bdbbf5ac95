"""Images and masks as arrays: PNG, JPEG and TIFF of any bit depth, judged by their content.

`weakseg.data.decoding` turns a file into raw samples; here they become images and masks.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from weakseg.data.decoding import IMAGE_SUFFIXES, MAX_PIXELS, Pixels, decode, image_size
from weakseg.errors import DataError
from weakseg.runs import atomic_path

__all__ = [
    "IMAGE_SUFFIXES",
    "MAX_PIXELS",
    "image_size",
    "inspect_mask",
    "is_grey",
    "mask_values",
    "read_image",
    "read_mask",
    "scale_intensity",
    "write_mask",
]

MaskRule = Literal["nonzero", "half"] | Sequence[int]
Intensity = Literal["auto", "dtype", "percentile"]

STRETCH = (0.5, 99.5)
"""Percentiles that ``percentile`` maps to 0 and 1."""


def read_image(path: Path) -> NDArray[Any]:
    """An image as it is displayed.

    The orientation tag is applied, transparency is laid over black, a palette becomes its colours
    (or one channel where all colours in use are grey), and 1-, 2- and 4-bit grey is spread over 0
    to 255. Nothing is scaled otherwise.

    Parameters
    ----------
    path : Path
        PNG, JPEG or TIFF; the content counts, not the file's name.

    Returns
    -------
    (M, N) or (M, N, 3) ndarray
        uint8, uint16 or float32. Signed, wider and other floating types become float32.

    Raises
    ------
    DataError
        If the file is missing, empty, damaged, no image, a stack of slices, larger than
        `MAX_PIXELS`, or holds NaN or infinity.
    """
    pixels = decode(path)
    values = _as_displayed(pixels)
    if values.dtype not in (np.uint8, np.uint16, np.float32):
        with np.errstate(over="ignore"):
            values = values.astype(np.float32)
    refuse_not_finite(values, path)
    return values


def read_mask(path: Path, rule: MaskRule = "nonzero") -> NDArray[np.bool_]:
    """A mask as booleans.

    Parameters
    ----------
    path : Path
        PNG, JPEG or TIFF. Transparency is ignored.
    rule : {"nonzero", "half"} or sequence of int
        Which pixels are lesion. ``nonzero``: every raw value but 0; in colour images any channel;
        with a palette the index. ``half``: above half of the type's range (127.5 of 8 bits, 0.5
        of a float), after a palette is replaced by its colours; in colour images any channel. A
        list: the raw values (with a palette the indices) that it holds. Raw values of 1-, 2- and
        4-bit images are 0 to 1, 3 and 15.

    Returns
    -------
    (M, N) ndarray of bool

    Raises
    ------
    DataError
        As `read_image`; for a list of values and a mask of several colours; and for ``half`` and
        a float mask with values above 1, whose range is not known.
    """
    pixels = decode(path)
    return _lesion(pixels, _raw_mask(pixels, path), rule, path)


def mask_values(path: Path) -> NDArray[Any]:
    """The distinct raw values of a mask, ascending; of all channels together in colour images.

    Raises
    ------
    DataError
        As `read_image`.
    """
    return distinct(_raw_mask(decode(path), path))


def inspect_mask(path: Path, rule: MaskRule) -> tuple[NDArray[np.bool_], NDArray[Any]]:
    """`read_mask` and `mask_values` of a file that is decoded once."""
    pixels = decode(path)
    raw = _raw_mask(pixels, path)
    return _lesion(pixels, raw, rule, path), distinct(raw)


def is_grey(image: NDArray[Any]) -> bool:
    """Whether an (M, N) or (M, N, 3) image holds no colour: one channel, or three equal ones."""
    if image.ndim == 2:
        return True
    first = image[..., :1]
    return bool((image[..., 1:] == first).all())


def scale_intensity(image: ArrayLike, how: Intensity = "auto") -> NDArray[np.float32]:
    """Intensities in [0, 1].

    Parameters
    ----------
    image : (M, N) or (M, N, 3) array_like
        As `read_image` gives it.
    how : {"auto", "dtype", "percentile"}
        ``dtype``: divide by the type's maximum; a float image must lie in [0, 1] already.
        ``percentile``: stretch between the 0.5th and 99.5th percentile, over all channels
        together, and clip; where both are equal, between minimum and maximum; a constant image
        becomes 0. ``auto``: ``dtype`` for 8 bits, ``percentile`` for deeper images.

    Returns
    -------
    ndarray of float32
        Same shape, in [0, 1].

    Raises
    ------
    DataError
        For ``dtype`` and a float image that leaves [0, 1].
    """
    values = np.asarray(image)
    if how == "auto":
        how = "dtype" if values.dtype == np.uint8 else "percentile"
    if how == "dtype":
        if np.issubdtype(values.dtype, np.integer):
            return (values / np.float32(np.iinfo(values.dtype).max)).astype(np.float32)
        low, high = float(values.min()), float(values.max())
        if low < 0 or high > 1:
            raise DataError(
                "A float image has no range of its own, and leaves 0 to 1.",
                found=f"values from {low:g} to {high:g}",
                fix="set data.intensity: percentile (or auto)",
            )
        return values.astype(np.float32)
    return _stretch(values)


def write_mask(path: Path, mask: ArrayLike) -> None:
    """Write a mask as 8-bit PNG, 0 and 255, whole or not at all.

    Parameters
    ----------
    path : Path
        Ends in ``.png``; its folder is made where it is missing.
    mask : (M, N) array_like of bool
        Numbers count as lesion unless they are 0.

    Raises
    ------
    ValueError
        If ``mask`` is not two-dimensional, or holds no pixel.
    """
    import cv2

    lesion = np.asarray(mask) != 0
    if lesion.ndim != 2 or not lesion.size:
        raise ValueError(f"a mask has the shape (M, N), not {lesion.shape}")
    _, png = cv2.imencode(".png", np.where(lesion, np.uint8(255), np.uint8(0)))
    with atomic_path(path) as part:
        part.write_bytes(png.tobytes())


def write_target(path: Path, target: ArrayLike, ignored: int) -> None:
    """Write what a network is told of an image as 8-bit PNG: 0, 255, and 128 where it is told
    nothing.

    Parameters
    ----------
    path : Path
    target : (M, N) array_like of uint8
        0, 1 and ``ignored``.
    ignored : int
    """
    from PIL import Image

    values = np.asarray(target)
    grey = np.select([values == 1, values == ignored], [255, 128], 0).astype(np.uint8)
    with atomic_path(path) as part:
        Image.fromarray(grey).save(part, format="PNG")


def _raw_mask(pixels: Pixels, path: Path) -> NDArray[Any]:
    values = pixels.values
    refuse_not_finite(values, path)
    return values[..., 0] if values.ndim == 3 and is_grey(values) else values


def distinct(raw: NDArray[Any]) -> NDArray[Any]:
    """The values that an array holds, ascending."""
    if raw.dtype in (np.uint8, np.uint16):
        return np.flatnonzero(np.bincount(raw.ravel())).astype(raw.dtype)
    return np.unique(raw)


def _lesion(pixels: Pixels, raw: NDArray[Any], rule: MaskRule, path: Path) -> NDArray[np.bool_]:
    if not isinstance(rule, str) and raw.ndim == 3:
        raise DataError(
            "The mask is a colour image, so a list of mask values does not tell lesion from "
            "background.",
            where=str(path),
            expected="a mask of one channel, or with a palette",
            fix="save the mask as a grey image, or set data.mask_rule: nonzero",
        )
    hot = by_rule(_as_displayed(pixels) if rule == "half" else raw, rule, path)
    return np.asarray(hot.any(axis=2) if hot.ndim == 3 else hot)


def by_rule(values: NDArray[Any], rule: MaskRule, path: Path) -> NDArray[np.bool_]:
    """Which samples of a mask are lesion by a rule of `read_mask`, whatever their dimensions.

    Raises
    ------
    DataError
        For ``half`` and floats above 1, whose range is not known.
    """
    if not isinstance(rule, str):
        return np.isin(values, np.asarray(rule))
    return np.asarray(values > _half_of_range(values, path) if rule == "half" else values != 0)


def _as_displayed(pixels: Pixels) -> NDArray[Any]:
    values, alpha = pixels.values, pixels.alpha
    if pixels.colours is not None:
        colours, used = pixels.colours, np.unique(values)
        if used[-1] >= len(colours):  # some writers leave out the end of the palette: black
            colours = np.pad(colours, ((0, int(used[-1]) + 1 - len(colours)), (0, 0)))
        if is_grey(colours[used][None]):
            colours = colours[:, 0]
        return colours[values]
    if pixels.bits < 8:
        values = values.astype(np.uint8) * np.uint8(255 // (2**pixels.bits - 1))
    if alpha is None:
        return values
    share = alpha if values.ndim == 2 else alpha[..., None]
    if values.dtype not in (np.uint8, np.uint16):
        return values * (share / _top(alpha))
    # 65535² + 32767 still fits into 32 bits.
    top = np.uint32(_top(alpha))
    return ((values.astype(np.uint32) * share + top // 2) // top).astype(values.dtype)


def _top(values: NDArray[Any]) -> float:
    return np.iinfo(values.dtype).max if np.issubdtype(values.dtype, np.integer) else 1.0


def _half_of_range(values: NDArray[Any], path: Path) -> float:
    if np.issubdtype(values.dtype, np.floating) and values.max() > 1:
        raise DataError(
            "Half of this mask's range is not known: it holds floats above 1.",
            where=str(path),
            found=f"values up to {float(values.max()):g}",
            fix="save the mask with 8 bits, or set data.mask_rule: nonzero",
        )
    return _top(values) / 2


def refuse_not_finite(values: NDArray[Any], path: Path) -> None:
    """Raise a DataError for an image or volume that holds NaN or infinity."""
    if not np.issubdtype(values.dtype, np.floating):
        return
    bad = int((~np.isfinite(values)).sum())
    if bad:
        raise DataError(
            "The image holds values that are no numbers (NaN or infinity).",
            where=str(path),
            found=f"{bad} of {values.size} values",
            fix="replace them before saving the image, for instance by the background's value",
        )


def _stretch(values: NDArray[Any]) -> NDArray[np.float32]:
    low, high = (float(v) for v in np.percentile(values, STRETCH))
    if high <= low:
        low, high = float(values.min()), float(values.max())
    if high <= low:
        return np.zeros(values.shape, dtype=np.float32)
    stretched = (values.astype(np.float64) - low) / (high - low)
    return np.clip(stretched, 0, 1).astype(np.float32)
