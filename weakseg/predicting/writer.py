"""What `weakseg predict` writes of an image: its mask, and what else is asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from weakseg.config import DataConfig
from weakseg.data.case_files import as_planes, case_plane, fullest_plane, shown_intensity
from weakseg.data.cases import Case
from weakseg.data.formats.dicom.segmentation import SUFFIX, write_segmentation
from weakseg.data.formats.writing import write_mask
from weakseg.data.volumes import write_volume
from weakseg.heatmaps.store import save_heatmap
from weakseg.memory import give_free_back
from weakseg.methods.base import Prediction
from weakseg.methods.lesions import lesion_rows, lesion_values
from weakseg.runs import atomic_path, file_hash, inside

Tables = dict[str, list[dict[str, Any]]]
"""File → its rows of a table; a file that is tried again has them once."""


@dataclass(frozen=True)
class Writer:
    """Where results go, and which are asked for.

    Attributes
    ----------
    out : Path
    heatmaps, overlays : bool
    segmentation_by : str or None
        The method that DICOM segmentations name; None where none is asked for.
    data : DataConfig
    lesions : dict
        Image → the rows of its lesions.
    written : dict
        Image → the files that were written of it.
    """

    out: Path
    heatmaps: bool
    overlays: bool
    segmentation_by: str | None
    data: DataConfig
    lesions: Tables = field(default_factory=dict)
    written: dict[str, list[Path]] = field(default_factory=dict)

    def take_back(self, case: Case) -> None:
        """Remove what was written of a case that has no row after all."""
        for path in self.written.pop(str(case.image), []):
            path.unlink(missing_ok=True)

    def hashes(self, image: str) -> dict[str, str]:
        """What was written of an image, by its path below the folder, with its hash."""
        there = [p for p in self.written.get(image, []) if p.exists()]
        return {p.relative_to(self.out).as_posix(): file_hash(p) for p in there}

    def _path(self, case: Case, *parts: str) -> Path:
        path = inside(self.out, *parts)
        self.written.setdefault(str(case.image), []).append(path)
        return path

    def write(
        self,
        case: Case,
        prediction: Prediction,
        probability: Callable[[int], float | None] | None = None,
    ) -> Path:
        """Write what is asked for, and measure the lesions; the mask's file.

        ``probability`` is that of a slice, where it is not that of the whole.
        """
        if case.formats.further:
            give_free_back()
        said = probability or (lambda _: prediction.probability)
        values = partial(lesion_values, case, self.data)
        rows = lesion_rows(case, prediction.mask, prediction.map, said, values)
        self.lesions[str(case.image)] = rows
        mask = self._path(case, f"{case.id}{case.formats.mask_suffix}")
        write_mask(mask, prediction.mask, case.image)
        if self.heatmaps:
            self._save_map(case, prediction)
        if self.overlays:
            self._save_overlay(case, prediction)
        if self.segmentation_by is not None:
            path = self._path(case, f"{case.id}{SUFFIX}")
            write_segmentation(path, prediction.mask, case.image, self.segmentation_by)
        return mask

    def _save_overlay(self, case: Case, prediction: Prediction) -> None:
        from weakseg.report.pictures import write_overlay

        at = fullest_plane(case, prediction.mask)
        heat, mask = (as_planes(case, v)[at] for v in (prediction.map, prediction.mask))
        image = case_plane(case, self.data, at)
        how = shown_intensity(case, self.data)
        write_overlay(self._path(case, *_overlay(case)), image, heat, mask, intensity=how)

    def _save_map(self, case: Case, prediction: Prediction) -> None:
        suffix, save = MAPS[case.formats.noun]
        save(self._path(case, "heatmaps", f"{case.id}{suffix}"), case, prediction)


def _save_arrays(path: Path, case: Case, prediction: Prediction) -> None:
    if prediction.heat is not None:
        save_heatmap(path, prediction.heat)
        return
    with atomic_path(path) as part, part.open("wb") as f:
        np.savez_compressed(f, probability=prediction.map.astype(np.float16))


def _save_volume(path: Path, case: Case, prediction: Prediction) -> None:
    write_volume(path, prediction.map, case.image)


MAPS: dict[str, tuple[str, Callable[[Path, Case, Prediction], None]]] = {
    "image": (".npz", _save_arrays),
    "volume": (".nii.gz", _save_volume),
}
"""What a file holds → how heat or probability is kept beside it."""


def _overlay(case: Case) -> tuple[str, str]:
    return "overlays", f"{case.id}.png"


def targets(out: Path, cases: Sequence[Case]) -> Iterator[Path]:
    """Every file that may be written, tables aside."""
    for case in cases:
        yield out / f"{case.file}{case.formats.mask_suffix}"
        yield out / "heatmaps" / f"{case.file}{MAPS[case.formats.noun][0]}"
        yield inside(out, *_overlay(case))
        yield out / f"{case.file}{SUFFIX}"
