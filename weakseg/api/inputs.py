"""Images as people hand them over: files, arrays, tensors, pictures of PIL; one or several."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from weakseg.data.colours import as_displayed, one_channel
from weakseg.data.formats.pixels import Pixels
from weakseg.data.images import read_image, scale_intensity
from weakseg.errors import ArgumentError, DataError

COLOURS = (1, 3)
OPAQUE = 4
"""Entries of a last axis whose last one is opacity."""


def listed(images: Any, *, stacked: bool = False) -> tuple[list[tuple[str, Any]], bool]:
    """Each image with a name, and whether a single one was handed over.

    An array or tensor of four axes is several images; so is one of three of which neither the
    first nor the last has as many entries as an image has colours. With ``stacked`` the first axis
    is never taken for colours. A row of texts or objects is a list of them.
    """
    if isinstance(images, np.ndarray) and images.ndim == 1 and images.dtype.kind in "OU":
        images = images.tolist()
    if is_tensor(images) or isinstance(images, np.ndarray):
        of_grey = images.ndim == 3 and images.shape[2] not in (*COLOURS, OPAQUE)
        of_grey = of_grey and (stacked or images.shape[0] not in COLOURS)
        if images.ndim == 4 or (of_grey and isinstance(images, np.ndarray)):
            return [(f"image {k}", one) for k, one in enumerate(images)], False
    whole = isinstance(images, str | Path | bytes | np.ndarray) or is_tensor(images)
    if whole or not isinstance(images, Iterable):
        return [(_name(images, "image"), images)], True
    some = [(_name(one, f"image {k}"), one) for k, one in enumerate(images)]
    if not some:
        raise ArgumentError("images is empty.", where="images", expected="one image or several")
    return some, False


def is_tensor(value: Any) -> bool:
    """Whether it is one of torch, told without loading torch."""
    return type(value).__module__.partition(".")[0] == "torch" and hasattr(value, "detach")


def _name(image: Any, other: str) -> str:
    return Path(image).name if isinstance(image, str | Path) and str(image) else other


def read_picture(given: Any) -> NDArray[Any]:
    """A picture (M, N) or (M, N, 3) of whatever was handed over.

    A picture of PIL has the pixels that its file has, upright; opacity, of such a picture or the
    fourth entry of an array (M, N, 4), is laid over black, as that of files is.

    Raises
    ------
    DataError
    """
    if isinstance(given, str | Path):
        return read_image(given)
    if type(given).__module__.startswith("PIL."):
        return _from_pil(given)
    values = given.detach().cpu().numpy() if is_tensor(given) else given
    if not isinstance(values, np.ndarray) or values.dtype.kind not in "uif":
        found = values.dtype if isinstance(values, np.ndarray) else type(given).__name__
        raise _no_picture(str(found))
    shape = values.shape
    if values.ndim == 3 and shape[2] not in COLOURS and shape[0] in COLOURS:
        values = np.moveaxis(values, 0, 2)
    if values.ndim == 3 and values.shape[2] == 1:
        values = values[..., 0]
    if values.ndim not in (2, 3) or 0 in shape:
        raise _no_picture(f"an array of shape {shape}")
    if values.ndim == 3 and values.shape[2] == OPAQUE:
        values = _over_black(values)
    if values.ndim == 3 and values.shape[2] != 3:
        raise _no_picture(f"an array of shape {shape}")
    values = np.ascontiguousarray(values)
    if values.dtype.kind == "f" or values.dtype not in (np.uint8, np.uint16):
        values = values.astype(np.float32)
    scale_intensity(values, "percentile")  # refuses what is no number
    return values


def _over_black(values: NDArray[Any]) -> NDArray[Any]:
    """Colours and their opacity, (M, N, 4), or greys and theirs, (M, N, 2)."""
    alpha = values[..., -1]
    if values.dtype not in (np.uint8, np.uint16):
        values = values.astype(np.float32)
        if not (alpha.min() >= 0 and alpha.max() <= 1):
            raise _no_picture(f"an opacity from {alpha.min():g} to {alpha.max():g}")
    shown = values[..., 0] if values.shape[-1] == 2 else values[..., :-1]
    return as_displayed(Pixels(shown, 8 * shown.dtype.itemsize, values[..., -1]))


def _from_pil(picture: Any) -> NDArray[Any]:
    from PIL import ImageOps

    upright = ImageOps.exif_transpose(picture)
    if upright.mode in ("I", "F", "I;16", "I;16B", "I;16L"):
        values = np.asarray(upright)
        short = upright.mode == "I" and values.size and values.min() >= 0 and values.max() < 2**16
        return read_picture(values.astype(np.uint16) if short else values)
    clear = upright.has_transparency_data
    if upright.mode in ("1", "L", "LA", "La"):
        values = np.asarray(upright.convert("LA" if clear else "L"))
    else:
        values = np.asarray(upright.convert("RGBA" if clear else "RGB"))
    shown = _over_black(values) if clear else values
    return read_picture(one_channel(shown) if upright.mode in ("P", "PA") else shown)


def _no_picture(found: str) -> DataError:
    return DataError(
        "This is no image.",
        where="images",
        found=found,
        expected="the path of a file, a picture of PIL, or an array (M, N), (M, N, 3), or with "
        "opacity (M, N, 4), from 0 to its type's largest value (of floats 1)",
    )
