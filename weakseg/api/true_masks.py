"""True masks as people hand them over: arrays, tensors, files, or none.

An array means what a file of its values means: each is read by the same rule.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from weakseg.api.inputs import is_tensor
from weakseg.data.images import read_mask
from weakseg.data.mask_rules import MaskRule, by_rule
from weakseg.errors import ArgumentError
from weakseg.runs import atomic_path

_SHORT = (np.uint8, np.uint16, np.int32)
"""Types that integers are kept in, the first that holds them: a range is that of its type."""


def is_missing(mask: Any) -> bool:
    """Whether a value says that there is no mask: None, False, blank text, NaN, or NA."""
    if mask is None or mask is False:
        return True
    if isinstance(mask, str):
        return not mask.strip()
    if isinstance(mask, float | np.floating):
        return bool(np.isnan(mask))
    return type(mask).__name__ in ("NAType", "NaTType")


def read_truth(
    truth: Any, shape: tuple[int, ...], rule: MaskRule = "nonzero", where: str = "truth"
) -> NDArray[np.bool_]:
    """A true mask of an array or a file, of a shape.

    Parameters
    ----------
    truth : (M, N) array_like, or str or Path of a mask
        Axes of one entry may come before.
    shape : tuple of int
        Of the image.
    rule : {"nonzero", "half", "dark"} or sequence of int, optional
        As `weakseg.data.images.read_mask` has it.
    where : str, optional
        What it is called in an error.

    Raises
    ------
    DataError
        If the file cannot be read, or the rule does not fit its values.
    ArgumentError
        If it is no mask of that shape.
    """
    if isinstance(truth, str | Path):
        marked = read_mask(truth, rule)
        if marked.shape != tuple(shape[:2]):
            raise _no_fit(f"a mask of shape {marked.shape}", shape, where)
        return marked
    values = _as_array(truth)
    squeezed = values.reshape(values.shape[-2:]) if values.size and _flat_axes(values) else values
    if squeezed.shape != tuple(shape[:2]) or not _is_numbers(values):
        raise _no_fit(_told(values), shape, where)
    return by_rule(_kept(squeezed), rule, Path(where))


def read_masks(
    masks: Sequence[Any], shapes: Sequence[tuple[int, ...]], rule: MaskRule
) -> list[NDArray[np.bool_] | None]:
    """True masks of arrays and files by a rule; None where there is none."""
    pairs = enumerate(zip(masks, shapes, strict=True))
    return [None if is_missing(m) else read_truth(m, s, rule, f"masks[{k}]") for k, (m, s) in pairs]


def write_array(mask: Any, folder: Path, name: str, where: str) -> Path:
    """Keep an array as a file of its own values, which ``data.mask_rule`` reads as the array.

    Booleans are a PNG of one bit, integers one of 8 or 16 bits where that holds them, and all else
    a TIFF.

    Raises
    ------
    ArgumentError
        If it is no mask.
    """
    values = _as_array(mask)
    if values.ndim != 2 or not values.size or not _is_numbers(values):
        raise ArgumentError(
            f"{where} is no mask.",
            where=where,
            found=_told(values),
            expected="an array (height, width), the path of one, or None",
        )
    kept = _kept(values)
    folder.mkdir(parents=True, exist_ok=True)
    if kept.dtype in (bool, np.uint8, np.uint16):
        from PIL import Image

        path = folder / f"{name}.png"
        with atomic_path(path, flushed=False) as part, part.open("wb") as f:
            Image.fromarray(kept).save(f, format="PNG")
        return path
    import tifffile

    path = folder / f"{name}.tif"
    with atomic_path(path, flushed=False) as part:
        tifffile.imwrite(part, kept)
    return path


def _as_array(value: Any) -> NDArray[Any]:
    return np.asarray(value.detach().cpu() if is_tensor(value) else value)


def _flat_axes(values: NDArray[Any]) -> bool:
    """Whether all axes before the last two have one entry."""
    return values.ndim > 2 and all(n == 1 for n in values.shape[:-2])


def _is_numbers(values: NDArray[Any]) -> bool:
    return values.dtype.kind in "biuf" and bool(np.isfinite(values).all())


def _told(values: NDArray[Any]) -> str:
    """An array for a message."""
    finite = values.dtype.kind not in "biuf" or bool(np.isfinite(values).all())
    return f"{values.dtype} of shape {values.shape}" + ("" if finite else ", with NaN or infinity")


def _no_fit(found: str, shape: tuple[int, ...], where: str) -> ArgumentError:
    return ArgumentError(
        "The true mask does not fit the image.",
        where=where,
        found=found,
        expected=f"a mask of shape {tuple(shape[:2])}, or the path of one",
    )


def _kept(values: NDArray[Any]) -> NDArray[Any]:
    """An array in the type of the file that keeps it, with the same values."""
    if values.dtype == bool:
        return values
    if values.dtype.kind == "f":
        return values.astype(np.float32 if values.dtype.itemsize <= 4 else np.float64)
    low, high = int(values.min()), int(values.max())
    fits = (t for t in _SHORT if np.iinfo(t).min <= low and high <= np.iinfo(t).max)
    return values.astype(next(fits, np.float64))
