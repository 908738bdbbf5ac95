"""What the files of one row of a manifest hold, and what is wrong with them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from weakseg.config import DataConfig
from weakseg.data.cases import Labels
from weakseg.data.check_masks import HALF, NEARLY_FULL, MaskLook, edge_problems, look_at_mask
from weakseg.data.duplicates import thumbnail
from weakseg.data.formats.base import MISSING, Frame
from weakseg.data.formats.grids import Leeway
from weakseg.data.formats.reading import decode
from weakseg.data.images import MaskFile, is_grey, open_mask, shown
from weakseg.data.manifest import Problem, Row, Table
from weakseg.data.near_files import missing_fix
from weakseg.data.truth import union
from weakseg.errors import DataError

SMALLEST = 8
"""Pixels or voxels a side; less shows nothing."""


@dataclass(frozen=True)
class Seen:
    """What the files of one row hold.

    Attributes
    ----------
    problems : tuple of Problem
    digest : str or None
        A hash of the image's pixels; None where it cannot be read or is constant.
    small : (24, 24) ndarray or None
        The image's thumbnail, where patients are not known.
    frame : Frame or None
        Of a volume; None for an image, and for a volume that cannot be read.
    leeways : tuple of (str, str)
        What kind of file of a volume's row has another affine and still its voxels, and how so,
        see `weakseg.data.formats.grids.grid_leeway`.
    grey : bool
        False for an image that holds a colour.
    orientation : int
        By which tag the image was turned upright; 1 where by none.
    mask : MaskLook or None
        How the mask lies in its image; None without one that can be read.
    """

    problems: tuple[Problem, ...]
    digest: str | None = None
    small: np.ndarray | None = None
    frame: Frame | None = None
    leeways: tuple[tuple[str, Leeway], ...] = ()
    grey: bool = True
    orientation: int = 1
    mask: MaskLook | None = None


def look_at_files(
    row: Row,
    table: Table,
    data: DataConfig,
    labels: Labels | None,
    mask_is_image: bool,
    thumbnails: bool,
) -> Seen:
    """Decode the image and the mask of a row.

    Parameters
    ----------
    row : Row
    table : Table
    data : DataConfig
    labels : Labels or None
        None where the labels' meaning cannot be told.
    mask_is_image : bool
        Whether the mask's file is the image of some row.
    thumbnails : bool
        Whether a thumbnail is wanted.
    """
    if not row.image:
        return Seen(())
    problems: list[Problem] = []
    grey, turned = True, 1
    try:
        path = table.resolve(row.image)
        pixels = decode(path)
        image, turned = shown(pixels, path), pixels.orientation
    except DataError as e:
        problems.append(file_problem("image", row, row.image, table, e))
        shape = digest = small = None
    else:
        shape = (image.shape[0], image.shape[1])
        constant = bool((image == image[:1, :1]).all())
        problems += _image_problems(row, image, constant, data)
        grey = is_grey(image)
        flat = image[..., 0] if image.ndim == 3 and grey else image
        head = f"{flat.shape} {flat.dtype}".encode()
        # Black slices are alike, whoever they show; the warning says enough.
        digest = None if constant else hashlib.blake2b(head + flat.tobytes()).hexdigest()
        small = thumbnail(image) if thumbnails else None
    look = None
    if row.mask:
        look = _look_at_mask(row, table, data, labels, shape, mask_is_image, problems)
    return Seen(tuple(problems), digest, small, grey=grey, orientation=turned, mask=look)


def file_problem(what: str, row: Row, cell: str, table: Table, e: DataError) -> Problem:
    """The problem of a file that cannot be read; ``what`` it is begins the kind."""
    missing = e.what == MISSING
    details = [t for t in (e.found, f"expected {e.expected}" if e.expected else None) if t]
    about = f" ({'; '.join(details)})" if details else ""
    fix = e.fix or ""
    if missing:
        fix = missing_fix(what, cell, table)
    kind = f"{what}-missing" if missing else f"{what}-unreadable"
    return Problem(kind, row.line, cell, e.what.rstrip(".") + about, fix)


def _image_problems(
    row: Row, image: np.ndarray, constant: bool, data: DataConfig
) -> Iterator[Problem]:
    height, width = image.shape[:2]
    if min(height, width) < SMALLEST:
        yield Problem(
            "image-small",
            row.line,
            row.image,
            f"the image has {height} × {width} pixels, fewer than {SMALLEST} on a side",
            "replace it by the image itself, or delete the row",
        )
    if constant:
        yield Problem(
            "image-constant",
            row.line,
            row.image,
            f"every pixel of the image is {image.reshape(height * width, -1)[0].tolist()}",
            "look at it; if it shows nothing, delete the row",
            "warning",
        )
    if data.intensity == "dtype" and np.issubdtype(image.dtype, np.floating):
        low, high = float(image.min()), float(image.max())
        if low < 0 or high > 1:
            yield Problem(
                "image-range",
                row.line,
                row.image,
                f"the image holds floats from {low:g} to {high:g}, and data.intensity: dtype "
                "takes 0 to 1",
                "set data.intensity: percentile (or auto)",
            )


def _look_at_mask(
    row: Row,
    table: Table,
    data: DataConfig,
    labels: Labels | None,
    shape: tuple[int, int] | None,
    mask_is_image: bool,
    problems: list[Problem],
) -> MaskLook | None:
    """How the mask lies in its image, all files together; its problems are added."""

    def here(kind: str, message: str, fix: str, file: str = row.mask) -> Problem:
        return Problem(kind, row.line, file, message, fix)

    if mask_is_image:
        what = "the mask is the file of an image"
        problems.append(here("mask-is-image", what, "name the mask, or leave it blank"))
        return None
    masks: list[np.ndarray] = []
    files: list[MaskFile] = []
    cells = table.masks(row)
    for cell in cells:
        try:
            file = open_mask(table.resolve(cell))
            mask = file.marked(data.mask_rule)
        except DataError as e:
            problems.append(file_problem("mask", row, cell, table, e))
            continue
        masks.append(mask)
        files.append(file)
        if shape is None or mask.shape == shape:  # resizing is why edges of another size are soft
            problems += edge_problems(row, cell, file, mask, data.mask_rule)
        else:
            sizes = f"{mask.shape[0]} × {mask.shape[1]} pixels, its image {shape[0]} × {shape[1]}"
            fix = "export the mask on the image's own pixel grid"
            problems.append(here("mask-size", f"the mask has {sizes}", fix, cell))
    if not can_be_joined(masks, cells):
        return None
    whole = union(masks)
    values = all_values([f.values for f in files])
    problems += mask_content_problems(row, whole, values, data, labels)
    return look_at_mask(files, whole, data.mask_rule)


def can_be_joined(masks: Sequence[np.ndarray], files: Sequence[str]) -> bool:
    """Whether all files of a mask were read, and have one size."""
    return len(masks) == len(files) > 0 and len({m.shape for m in masks}) == 1


def all_values(held: Sequence[np.ndarray]) -> np.ndarray:
    """The distinct values of several masks, ascending, given those of each."""
    return held[0] if len(held) == 1 else np.unique(np.concatenate(held))


def mask_content_problems(
    row: Row,
    mask: np.ndarray,
    values: np.ndarray,
    data: DataConfig,
    labels: Labels | None,
    *,
    unit: str = "pixels",
) -> Iterator[Problem]:
    """What is wrong with a mask, given its distinct values and the row's label."""

    def here(kind: str, message: str, fix: str, warn: bool = False) -> Problem:
        return Problem(kind, row.line, row.mask, message, fix, "warning" if warn else "error")

    what = row.noun
    marked = int(np.count_nonzero(mask))
    share = marked / mask.size
    declared = labels is not None and row.label in labels.names
    lesion = declared and labels is not None and labels.is_lesion(row.label)
    if lesion and not marked:
        other = "correct the label or the mask"
        if (values != 0).any():
            other = "set data.mask_rule so that it takes the values of lesions"
        yield here(
            "lesion-without-mask",
            f"the label {row.label!r} means a lesion, but the mask is empty: it holds "
            f"{_list_values(values)}, and data.mask_rule is {data.mask_rule}",
            other,
        )
    if declared and not lesion and marked:
        yield here(
            "healthy-with-mask",
            f"the label {row.label!r} means healthy, but the mask marks {marked} {unit}: "
            f"it holds {_list_values(values)}, and data.mask_rule is {data.mask_rule}",
            "correct the label or the mask"
            + ("; if it is inverted, set data.mask_rule: dark" if share > HALF else ""),
        )
    if share > NEARLY_FULL:
        yield here(
            "mask-full",
            f"the mask marks {100 * share:.0f} % of the {what}: it holds {_list_values(values)}",
            "look at it; if it is inverted, save it the other way round, or set data.mask_rule: "
            "dark where all are",
            warn=True,
        )


def _list_values(values: np.ndarray) -> str:
    some = ", ".join(f"{v:g}" for v in values[:8].tolist())
    more = f" and {len(values) - 8} more" if len(values) > 8 else ""
    return f"the value{'s' if len(values) > 1 else ''} {some}{more}"
