"""The sheet of `weakseg adapt`: a training image, and images with their masks before and after."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from weakseg.data.case_files import case_mask
from weakseg.data.cases import Case, Labels
from weakseg.methods.adapted import AdaptedCases, AdaptedMethod
from weakseg.report.pictures import RGB, SIZE, contours
from weakseg.runs import atomic_path
from weakseg.training.segmentation_cases import SegmentationCases

ROWS = 6
"""Images at most, evenly from their list."""

_GAP = 4


def write_sheet(
    path: Path,
    method: AdaptedMethod,
    cases: Sequence[Case],
    trained: Case,
    masks: tuple[Path, Path],
) -> None:
    """Write a PNG with a row an image: a training image, the image and its mask, both after.

    All are shown as the network takes them, in one window: the intensities of the training image.

    Parameters
    ----------
    path : Path
    method : AdaptedMethod
    cases : sequence of Case
        New images.
    trained : Case
        A training image of the run.
    masks : tuple of Path
        Folders of the masks before and after.
    """
    chosen = sorted({int(k) for k in np.linspace(0, len(cases) - 1, ROWS).round()})
    some = [trained, *(cases[k] for k in chosen)]
    settings = method.networks.settings
    data = SegmentationCases(
        some,
        Labels((), ("",)),
        method.config.data,
        int(settings["channels"]),
        method.settings.normalise,
        int(settings["image_size"]),
    )
    assert method.generator is not None
    through = AdaptedCases(data, method.generator)
    reference = _shown(data, 0)
    low, high = (float(v) for v in np.percentile(reference, [0.5, 99.5]))
    example = _square(_picture(reference, low, high))
    rows = []
    for i, case in enumerate(some[1:], 1):
        before, after = (
            case_mask(case, folder / f"{case.id}{case.formats.mask_suffix}") for folder in masks
        )
        rows.append(
            _beside(
                [
                    example,
                    _square(_picture(_shown(data, i), low, high, before)),
                    _square(_picture(_shown(through, i), low, high, after)),
                ],
                axis=1,
            )
        )
    with atomic_path(path, flushed=False) as part, part.open("wb") as f:
        Image.fromarray(_beside(rows, axis=0)).save(f, format="PNG")


def _shown(data: SegmentationCases, i: int) -> np.ndarray:
    """An image as the network takes it, on its own grid: (M, N), channels averaged."""
    image = data.arrays(i).image.astype(np.float32).mean(axis=0)
    return data.original(i, image)


def _picture(image: np.ndarray, low: float, high: float, mask: np.ndarray | None = None) -> RGB:
    grey = np.clip((image - low) / max(high - low, 1e-6), 0, 1)
    return contours((grey * 255).round().astype(np.uint8), mask, intensity="dtype")


def _square(picture: RGB) -> RGB:
    square = np.full((SIZE, SIZE, 3), 128, dtype=np.uint8)
    height, width = picture.shape[:2]
    square[:height, :width] = picture
    return square


def _beside(pictures: Sequence[RGB], axis: int) -> RGB:
    shape = list(pictures[0].shape)
    shape[axis] = _GAP
    gap = np.full(shape, 128, dtype=np.uint8)
    parts = [part for picture in pictures for part in (gap, picture)]
    return np.concatenate(parts[1:], axis=axis)
