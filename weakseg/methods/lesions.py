"""Rows of ``lesions.csv``: each connected lesion of a mask, measured where it lies."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from weakseg.config import DataConfig
from weakseg.data.case_files import case_frame
from weakseg.data.cases import Case
from weakseg.data.formats.dicom.image import DICOM_IMAGE
from weakseg.data.formats.registry import IMAGES
from weakseg.data.images import held_image
from weakseg.data.slices import stored_values
from weakseg.masks.measure import Lesion, measure_lesions
from weakseg.masks.region import brightness

ROWS_VERSION = 2
"""Of what rows mean: since 2, lesions of images whose files tell their spacing are in mm."""

Values = tuple[NDArray[Any], float, float]
"""Numbers on a case's grid, and the slope and intercept that make the file's values of them."""

COLUMNS: tuple[str, ...] = (
    *("file", "lesion", "pixels", "size", "diameter", "unit", "x", "y", "z", "key_slice"),
    *("mean_intensity", "mean_heat", "lesion_probability"),
)


def rows_version(cases: Iterable[Case]) -> list[int]:
    """What stands in the key of a stage that writes rows of some cases.

    Empty where a version has changed nothing: of slices, volumes, and images of formats that tell
    no spacing.
    """
    return [ROWS_VERSION] if any(_may_tell_spacing(c) for c in cases) else []


def _may_tell_spacing(case: Case) -> bool:
    plain = tuple(s for f in IMAGES.each if f is not DICOM_IMAGE for s in f.suffixes)
    return not case.image.name.lower().endswith(plain) and case.noun == "image"


def lesion_rows(
    case: Case,
    mask: NDArray[np.bool_],
    heat: NDArray[Any],
    probability: Callable[[int], float | None],
    values: Callable[[], Values],
) -> list[dict[str, Any]]:
    """The lesions of a mask, the largest first.

    Parameters
    ----------
    case : Case
        A whole image or volume.
    mask, heat : ndarray
        On its grid.
    probability : callable
        Slice → the classifiers' probability of a lesion in it; of an image or of a whole volume
        the same for all.
    values : callable
        Gives the numbers of the case, see `lesion_values`; asked where there is a lesion.

    Returns
    -------
    list of dict
        `COLUMNS`. ``size`` is an area or a volume in ``unit`` squared or cubed, which is mm where
        the file tells its spacing, as volumes and DICOM images do; ``x``, ``y``,
        ``z`` the centre in mm, in the directions right, anterior, superior, and of images the
        column and the row; the intensity is the file's own, of a colour image the mean over its
        colours.
    """
    if not mask.any():
        return []
    frame = case_frame(case)
    image, slope, inter = values()
    steps = frame.spacing[: mask.ndim] if frame.known_spacing else None
    lesions = measure_lesions(mask, spacing=steps, image=image, heat=heat)
    unit = f"{case.formats.sample}s" if steps is None else "mm"
    return [
        {
            "file": str(case.image),
            "lesion": number,
            "pixels": lesion.samples,
            "size": round(lesion.size, 3),
            "diameter": round(lesion.diameter, 3),
            "unit": unit,
            **dict(zip("xyz", _place(lesion, frame.affine), strict=True)),
            "key_slice": lesion.plane if len(lesion.centre) > 2 else None,
            "mean_intensity": round(lesion.intensity * slope + inter, 4),
            "mean_heat": round(lesion.heat, 6),
            "lesion_probability": probability(lesion.plane),
        }
        for number, lesion in enumerate(lesions, 1)
    ]


def lesion_values(case: Case, data: DataConfig) -> Values:
    """The numbers of a whole image or volume that lesions are measured in."""
    return _VALUES[case.noun](case, data)


def _place(lesion: Lesion, affine: NDArray[np.float64]) -> list[float]:
    if len(lesion.centre) == 2:  # an image tells no place: column and row
        row, column = lesion.centre
        return [round(column, 3), round(row, 3), 0.0]
    return [round(float(v), 3) for v in (affine @ [*lesion.centre, 1])[:3]]


def _of_image(case: Case, data: DataConfig) -> Values:
    return brightness(held_image(case.image)), 1.0, 0.0


def _of_volume(case: Case, data: DataConfig) -> Values:
    return stored_values(case.image, data.intensity, data.window)


_VALUES: dict[str, Callable[[Case, DataConfig], Values]] = {
    "image": _of_image,
    "volume": _of_volume,
}
"""What a case is → its numbers, and the slope and intercept that make the file's values of them."""
