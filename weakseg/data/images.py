"""Images and masks as arrays, of any format and bit depth, judged by their content.

`weakseg.data.formats` turns a file into raw samples; here they become images and masks.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from weakseg.data.colours import (
    all_hidden,
    as_displayed,
    contrast,
    is_grey,
    one_channel,
    top,
    visible,
)
from weakseg.data.formats.dicom.identity import public_path
from weakseg.data.formats.pixels import Pixels
from weakseg.data.formats.reading import decode
from weakseg.data.held import Held
from weakseg.data.mask_rules import MaskRule, by_rule, distinct
from weakseg.data.soft import has_soft_edges
from weakseg.disk import as_path
from weakseg.errors import DataError
from weakseg.runs import atomic_path

__all__ = [
    "MaskFile",
    "is_grey",
    "mask_values",
    "open_mask",
    "read_image",
    "read_mask",
    "scale_intensity",
]

Intensity = Literal["auto", "dtype", "percentile"]

STRETCH = (0.5, 99.5)
"""Percentiles that ``percentile`` maps to 0 and 1."""

HELD = Held(2**26, most=1024)
"""Images that several looks follow each other at; see `held_image`."""

_AT_ONCE = 2**22  # samples that are looked at together: of large volumes a look takes memory


def read_image(path: Path | str) -> NDArray[Any]:
    """An image as it is displayed.

    The orientation tag is applied, transparency is laid over black, a palette becomes its colours
    (or one channel where all colours in use are grey), and 1-, 2- and 4-bit grey is spread over 0
    to 255. Nothing is scaled otherwise.

    Parameters
    ----------
    path : Path
        Of a format in `weakseg.data.formats.registry.IMAGES`; the content counts, not the name.

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
    path = as_path(path)
    return shown(decode(path), path)


def held_image(path: Path) -> NDArray[Any]:
    """`read_image`, not writeable, and read once for several looks that follow each other."""

    def read() -> NDArray[Any]:
        image = read_image(path).view()
        image.flags.writeable = False
        return image

    return HELD.get(path, (), read)


def shown(pixels: Pixels, path: Path) -> NDArray[Any]:
    """As `read_image`, of a file that has been decoded."""
    values = as_displayed(pixels)
    if values.dtype not in (np.uint8, np.uint16, np.float32):
        with np.errstate(over="ignore"):
            values = values.astype(np.float32)
    refuse_not_finite(values, path)
    return values


@dataclass(frozen=True)
class MaskFile:
    """A mask's file that is decoded once, and may be read by several rules.

    Attributes
    ----------
    path : Path
    pixels : Pixels
    """

    path: Path
    pixels: Pixels

    @property
    def orientation(self) -> int:
        """By which tag it was turned upright; 1 where by none."""
        return self.pixels.orientation

    @property
    def one_channel(self) -> bool:
        """Whether it is grey, or has a palette; not of several colours."""
        return self.stored.ndim == 2

    def marked(self, rule: MaskRule) -> NDArray[np.bool_]:
        """(M, N) pixels that are lesion by a rule of `read_mask`, and with its errors."""
        if rule == "dark":
            return self._dark()
        if isinstance(rule, str):
            return by_rule(contrast(self.pixels), rule, self.path)
        if not self.one_channel:
            raise DataError(
                "The mask is a colour image, so a list of mask values does not tell lesion from "
                "background.",
                where=str(self.path),
                expected="a mask of one channel, or with a palette",
                fix="save the mask as a grey image, or set data.mask_rule: nonzero",
            )
        return by_rule(self.stored, rule, self.path)

    @cached_property
    def values(self) -> NDArray[Any]:
        """The distinct values as stored, ascending; of all channels together in colour images."""
        return distinct(self.stored)

    @property
    def lossy(self) -> bool:
        """Whether the file's JPEG may have changed values, which it does unless all are extreme."""
        if not self.pixels.lossy:
            return False
        grey = contrast(self.pixels)
        return bool(((grey != 0) & (grey != top(grey))).any())

    @property
    def soft(self) -> bool:
        """Whether its edges hold values in between, see `has_soft_edges`."""
        if self.pixels.alpha is None and len(self.values) <= 2:
            return False
        return has_soft_edges(contrast(self.pixels))

    @cached_property
    def stored(self) -> NDArray[Any]:
        """Samples, indices of a palette; 0 where they cannot be seen."""
        values, seen = one_channel(self.pixels.values), visible(self.pixels)
        if seen is None or self.pixels.colours is not None:
            return values
        return np.where(seen if values.ndim == 2 else seen[..., None], values, 0)

    def _dark(self) -> NDArray[np.bool_]:
        dark, seen = by_rule(as_displayed(self.pixels), "dark", self.path), visible(self.pixels)
        dark = np.asarray(dark.any(axis=2) if dark.ndim == 3 else dark)
        return dark if seen is None else dark & seen


def open_mask(path: Path | str) -> MaskFile:
    """Decode a mask's file.

    Raises
    ------
    DataError
        As `read_image`; and for a file that holds something, but is transparent everywhere.
    """
    path = as_path(path)
    pixels = decode(path)
    refuse_not_finite(pixels.values, path)
    if all_hidden(pixels):
        raise DataError(
            "The mask is transparent everywhere, though something is stored in it.",
            where=str(path),
            expected="a layer that is opaque where the lesion was painted, or no transparency",
            fix="save the mask without transparency (without its alpha channel)",
        )
    return MaskFile(path, pixels)


def read_mask(path: Path | str, rule: MaskRule = "nonzero") -> NDArray[np.bool_]:
    """A mask as booleans, read by what it shows and not by how it is stored.

    Parameters
    ----------
    path : Path
        As for `read_image`. Opacity counts where it differs within the image: on a layer where only
        the lesion was painted, the painted part is the lesion, whatever its colour; elsewhere
        what is transparent is background.
    rule : {"nonzero", "half", "dark"} or sequence of int
        Which pixels are lesion. ``nonzero``: every value but 0; in colour images in any channel;
        with a palette every colour but that of the ground (`weakseg.data.colours.ground`: black,
        if it occurs). ``half``: those that stand out of it by more than half of the type's range
        (127.5 of 8 bits, 0.5 of a float) in any channel; of layers, half of the largest opacity.
        ``dark``: at most half of the range in any channel, as for a lesion that is drawn dark, or
        in a colour, on white. A list: the raw values (with a palette the indices) that it holds.
        Raw values of 1-, 2- and 4-bit images are 0 to 1, 3 and 15.

    Returns
    -------
    (M, N) ndarray of bool

    Raises
    ------
    DataError
        As `open_mask`; for a list of values and a mask of several colours; and for ``half`` or
        ``dark`` and a float mask with values above 1, whose range is not known.
    """
    return open_mask(path).marked(rule)


def mask_values(path: Path) -> NDArray[Any]:
    """The distinct raw values of a mask, ascending; of all channels together in colour images.

    Raises
    ------
    DataError
        As `open_mask`.
    """
    return open_mask(path).values


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
        becomes 0. ``auto``: ``dtype`` for 8 bits, also where 16 hold them, see `narrowed`;
        ``percentile`` for deeper images.

    Returns
    -------
    ndarray of float32
        Same shape, in [0, 1].

    Raises
    ------
    DataError
        For an image that holds NaN or infinity; for ``dtype`` and a float image that leaves
        [0, 1].
    """
    values = np.asarray(image)
    refuse_not_finite(values)
    if how == "auto":
        values, how = narrowed(values), scaling(values)
    if how == "dtype":
        if np.issubdtype(values.dtype, np.integer):
            return (values / np.float32(np.iinfo(values.dtype).max)).astype(np.float32)
        refuse_beyond_unit(values)
        return values.astype(np.float32)
    return _stretch(values)


def refuse_beyond_unit(values: NDArray[Any], path: Path | None = None) -> None:
    """Raise a DataError for floats, of a file or not, that leave 0 to 1: ``dtype`` takes none."""
    if not np.issubdtype(values.dtype, np.floating):
        return
    low, high = float(values.min()), float(values.max())
    if low < 0 or high > 1:
        raise DataError(
            "A float image has no range of its own, and leaves 0 to 1.",
            where=None if path is None else public_path(path),
            found=f"values from {low:g} to {high:g}",
            fix="set data.intensity: percentile (or auto)",
        )


def scaling(image: ArrayLike, how: Intensity = "auto") -> Literal["dtype", "percentile"]:
    """How `scale_intensity` scales an image."""
    if how != "auto":
        return how
    return "dtype" if narrowed(np.asarray(image)).dtype == np.uint8 else "percentile"


def narrowed(image: NDArray[Any]) -> NDArray[Any]:
    """The 8-bit image that a 16-bit one holds, where programs have widened it; else the image.

    All of its values are multiples of 257 then (255 has become 65535), or of 256. The same
    picture gets the same answer from a network in either type.
    """
    if image.dtype != np.uint16:
        return image
    for factor in (257, 256):
        # A look at a few values spares most deep images the division of all.
        if not (image.ravel(order="K")[:64] % factor).any() and not (image % factor).any():
            return (image // factor).astype(np.uint8)
    return image


def write_grey(path: Path, values: ArrayLike) -> None:
    """Write (M, N) of uint8 as grey PNG, whole or not at all."""
    from PIL import Image

    with atomic_path(path, flushed=False) as part, part.open("wb") as f:
        Image.fromarray(np.asarray(values, dtype=np.uint8)).save(f, format="PNG")


def refuse_not_finite(values: NDArray[Any], path: Path | None = None) -> None:
    """Raise a DataError for an image or volume, of a file or not, that holds NaN or infinity."""
    if not np.issubdtype(values.dtype, np.floating):
        return
    step = max(1, len(values) * _AT_ONCE // max(1, values.size)) if values.ndim else 1
    parts = [values[k : k + step] for k in range(0, len(values), step)] if values.ndim else [values]
    bad = sum(int(np.count_nonzero(~np.isfinite(part))) for part in parts)
    if bad:
        raise DataError(
            "The image holds values that are no numbers (NaN or infinity).",
            where=None if path is None else public_path(path),
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
