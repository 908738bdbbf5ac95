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
    trained: Sequence[Case],
    masks: tuple[Path, Path],
) -> None:
    """Write a PNG with a row an image: a training image, the image and its mask, both after.

    All are shown as the network takes them, in one window: the intensities of the bodies of the
    training images that are shown.

    Parameters
    ----------
    path : Path
    method : AdaptedMethod
    cases : sequence of Case
        New images.
    trained : sequence of Case
        The run's training images.
    masks : tuple of Path
        Folders of the masks before and after.
    """
    shown = _evenly(cases)
    examples = _evenly(trained)
    some = [*examples, *shown]
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
    bodies = [data.arrays(i, truth=False) for i in range(len(examples))]
    seen = np.concatenate([h.image.astype(np.float32)[:, h.region].ravel() for h in bodies])
    low, high = (float(v) for v in np.percentile(seen, [0.5, 99.5]))
    rows = []
    for k, case in enumerate(shown):
        before, after = (
            case_mask(case, folder / f"{case.id}{case.formats.mask_suffix}") for folder in masks
        )
        i = len(examples) + k
        pictures = [
            _picture(_shown(data, k % len(examples)), low, high),
            _picture(_shown(data, i), low, high, before),
            _picture(_shown(through, i), low, high, after),
        ]
        rows.append(_beside([_square(p) for p in pictures], axis=1))
    with atomic_path(path, flushed=False) as part, part.open("wb") as f:
        Image.fromarray(_beside(rows, axis=0)).save(f, format="PNG")


def _evenly(cases: Sequence[Case]) -> list[Case]:
    at = np.linspace(0, len(cases) - 1, min(ROWS, len(cases)))
    return [cases[int(k)] for k in at.round()]


def _shown(data: SegmentationCases, i: int) -> np.ndarray:
    """An image as the network takes it, on its own grid: (M, N), channels averaged."""
    image = data.arrays(i, truth=False).image.astype(np.float32).mean(axis=0)
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
