"""Images as people hand them over: files, arrays, tensors, pictures of PIL; one or several."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from weakseg.data.images import read_image, scale_intensity
from weakseg.errors import ArgumentError, DataError

COLOURS = (1, 3)


def listed(images: Any, *, stacked: bool = False) -> tuple[list[tuple[str, Any]], bool]:
    """Each image with a name, and whether a single one was handed over.

    An array or tensor of four axes is several images; so is one of three of which neither the
    first nor the last has as many entries as an image has colours. With ``stacked`` the first axis
    is never taken for colours.
    """
    if is_tensor(images) or isinstance(images, np.ndarray):
        of_grey = images.ndim == 3 and images.shape[2] not in COLOURS
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
    if values.ndim == 3 and shape[2] not in (1, 3) and shape[0] in (1, 3):
        values = np.moveaxis(values, 0, 2)
    if values.ndim == 3 and values.shape[2] == 1:
        values = values[..., 0]
    if values.ndim not in (2, 3) or 0 in shape or (values.ndim == 3 and values.shape[2] != 3):
        raise _no_picture(f"an array of shape {shape}")
    values = np.ascontiguousarray(values)
    if values.dtype.kind == "f" or values.dtype not in (np.uint8, np.uint16):
        values = values.astype(np.float32)
    scale_intensity(values, "percentile")  # refuses what is no number
    return values


def _from_pil(picture: Any) -> NDArray[Any]:
    wide = picture.mode in ("I", "F", "I;16", "I;16B", "I;16L")
    grey = picture.mode in ("1", "L", "LA")
    return read_picture(np.asarray(picture if wide else picture.convert("L" if grey else "RGB")))


def _no_picture(found: str) -> DataError:
    return DataError(
        "This is no image that could be explained.",
        where="images",
        found=found,
        expected="the path of a file, a picture (M, N) or (M, N, 3), or a float tensor "
        "(channels, height, width) as the network takes it",
    )
