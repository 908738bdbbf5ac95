"""Images, labels, masks and patients as they are handed over, written as a manifest."""

from __future__ import annotations

import csv
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from weakseg.api.inputs import is_tensor, listed, read_picture
from weakseg.api.true_masks import is_missing, write_array
from weakseg.data.table import split_name
from weakseg.errors import ArgumentError, UserError
from weakseg.runs import atomic_path
from weakseg.settings import SPLITS

HEALTHY, LESION = "healthy", "lesion"
"""What yes and no are called as labels."""

MANIFEST, IMAGES, MASKS = "labels.csv", "images", "masks"
"""In the folder of a set."""


class Written(NamedTuple):
    """A set on disk.

    Attributes
    ----------
    manifest : Path
    labels : dict
        Label as text → as it was handed over.
    unit : bool
        Whether all images are float arrays in [0, 1], which are taken as they are.
    """

    manifest: Path
    labels: dict[str, Any]
    unit: bool


def write_set(
    folder: Path,
    images: Any,
    labels: Any,
    *,
    masks: Any = None,
    patients: Any = None,
    splits: Any = None,
    replaces: Path | None = None,
) -> Written:
    """Write ``labels.csv``, and as files what is none yet.

    The manifest names the folder's own files by where they lie in it, so that it can be moved.

    Parameters
    ----------
    folder : Path
        Gets the manifest; images and masks that are arrays.
    images, labels, masks, patients, splits
        As `weakseg.WeakSegmenter.fit`.
    replaces : Path, optional
        A folder that goes when this one is good: files in it are copied.

    Raises
    ------
    ArgumentError
        For what is not understood, or of another length than ``images``.
    """
    some, single = listed(images, stacked=True)
    if single:
        raise ArgumentError(
            "images is one image, and not several.",
            where="images",
            found=type(images).__name__,
            expected="paths, arrays, or an array (N, height, width[, 3])",
        )
    n = len(some)
    held = _column("labels", labels, n)
    written = [label_as_text(v, f"labels[{k}]") for k, v in enumerate(held)]
    columns: dict[str, list[str]] = {"image": [], "label": written}
    stacks = [one for _, one in some if not isinstance(one, str | Path)]
    unit = len(stacks) == n and all(map(_is_unit, map(_as_array, stacks)))
    for k, (_, one) in enumerate(some):
        name = f"image-{k:05d}"
        file = as_file(one, folder / IMAGES, name, f"images[{k}]")
        columns["image"].append(_named(file, folder, name, replaces))
    if masks is not None:
        of_each = _column("masks", masks, n)
        columns["mask"] = [_mask(m, folder, k, replaces) for k, m in enumerate(of_each)]
    if patients is not None:
        columns["patient"] = [
            _text(p, f"patients[{k}]") for k, p in enumerate(_column("patients", patients, n))
        ]
    if splits is not None:
        columns["split"] = [_split(s, k) for k, s in enumerate(_column("splits", splits, n))]
    manifest = folder / MANIFEST
    with atomic_path(manifest) as part, part.open("w", newline="", encoding="utf-8") as f:
        csv.writer(f).writerows([list(columns), *zip(*columns.values(), strict=True)])
    return Written(manifest, dict(zip(written, held, strict=True)), unit)


def as_file(image: Any, folder: Path, name: str, where: str) -> Path:
    """The file of an image; an array is written as PNG, of floats as TIFF.

    ``where`` names it in errors, if they name nothing themselves.
    """
    if isinstance(image, str | Path):
        return Path(image).absolute()
    try:
        values = read_picture(image)
    except UserError as e:
        place = e.where or where
        raise type(e)(e.what, where=place, found=e.found, expected=e.expected, fix=e.fix) from None
    folder.mkdir(parents=True, exist_ok=True)
    if values.dtype.kind == "f":
        import tifffile

        path = folder / f"{name}.tif"
        tifffile.imwrite(path, values)
        return path
    import cv2

    path = folder / f"{name}.png"
    cv2.imwrite(str(path), values[..., ::-1] if values.ndim == 3 else values)
    return path


def _named(path: Path, folder: Path, name: str, replaces: Path | None) -> str:
    """A file as the manifest of a folder names it."""
    if replaces is not None and path.is_relative_to(replaces) and path.is_file():
        there = folder / path.relative_to(replaces).parts[0] / (name + path.suffix)
        there.parent.mkdir(parents=True, exist_ok=True)
        path = Path(shutil.copy2(path, there))
    own = path.is_relative_to(folder)
    return path.relative_to(folder).as_posix() if own else str(path)


def _as_array(value: Any) -> NDArray[Any]:
    return np.asarray(value.detach().cpu() if is_tensor(value) else value)


def _is_unit(values: NDArray[Any]) -> bool:
    inside = values.dtype.kind == "f" and values.size > 0
    return inside and bool(values.min() >= 0 and values.max() <= 1)


def _column(name: str, given: Any, n: int) -> list[Any]:
    """One value an image."""
    given = given.tolist() if hasattr(given, "tolist") and _is_flat(given) else given
    if isinstance(given, str | bytes | dict) or not isinstance(given, Iterable):
        raise ArgumentError(
            f"{name} is no list.",
            where=name,
            found=type(given).__name__,
            expected=f"{n} values, one an image",
        )
    some = list(given)
    if len(some) != n:
        raise ArgumentError(
            f"{name} and images are of different lengths.",
            where=name,
            found=f"{len(some)} beside {n} images",
            expected="one value an image",
        )
    return some


def _is_flat(values: Any) -> bool:
    """Whether it is an array, tensor or column of single values, and not a stack of masks."""
    return getattr(values, "ndim", 1) == 1


def label_as_text(value: Any, where: str) -> str:
    """A label as the manifest holds it; yes is a lesion, no is healthy."""
    if isinstance(value, bool | np.bool_):
        return LESION if value else HEALTHY
    return _text(value, where)


def _text(value: Any, where: str) -> str:
    if isinstance(value, float | np.floating) and float(value).is_integer():
        value = int(value)
    if isinstance(value, str) and value.strip():
        return value
    if isinstance(value, int | np.integer) and not isinstance(value, bool):
        return str(int(value))
    raise ArgumentError(
        f"{where} is neither text nor a whole number.",
        where=where,
        found=f"{value!r}"[:60],
        expected="a name, such as 'tumour', or a number, such as 1",
    )


def _split(value: Any, k: int) -> str:
    name = split_name(str(value))
    if name not in SPLITS:
        raise ArgumentError(
            f"splits[{k}] is no split.",
            where="splits",
            found=f"{value!r}"[:60],
            expected=", ".join(SPLITS),
        )
    return name


def _mask(mask: Any, folder: Path, k: int, replaces: Path | None) -> str:
    name = f"mask-{k:05d}"
    if is_missing(mask):
        return ""
    if isinstance(mask, str | Path):
        return _named(Path(mask).absolute(), folder, name, replaces)
    return _named(write_array(mask, folder / MASKS, name, f"masks[{k}]"), folder, name, None)
