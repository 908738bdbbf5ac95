"""``weakseg predict``: masks of new images by a run's network; no truth is needed."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from weakseg.config import DataConfig
from weakseg.data.case_files import (
    as_planes,
    case_image,
    case_spacing,
    fullest_plane,
    shown_intensity,
)
from weakseg.data.cases import Case
from weakseg.data.formats.dicom.segmentation import (
    SUFFIX,
    refuse_without_highdicom,
    write_segmentation,
)
from weakseg.data.formats.registry import formats_of_dims
from weakseg.data.formats.writing import write_mask
from weakseg.data.volumes import write_volume
from weakseg.errors import DataError, UserError
from weakseg.heatmaps.store import save_heatmap
from weakseg.methods.base import Method, Prediction
from weakseg.methods.find import load_method
from weakseg.progress import progress, say
from weakseg.runs import atomic_path, inside, make_folder, write_text
from weakseg.spreadsheets import csv_text
from weakseg.stages.predict_inputs import (
    PREDICTIONS,
    cause,
    collect_inputs,
    readable,
    refuse_others_than_dicom,
    shown_inputs,
    together,
)
from weakseg.stages.predict_unlike import Unlike

Predict = Callable[[Sequence[Case]], Iterator[dict[str, Any]]]
"""Writes the masks of some cases; gives their rows of ``predictions.csv``."""


def predict(
    run: Path,
    inputs: Sequence[Path],
    out: Path,
    *,
    method: str | None = None,
    seed: int | None = None,
    device: str = "auto",
    heatmaps: bool = False,
    overlays: bool = False,
    dicom_seg: bool = False,
    skip_unreadable: bool = False,
) -> Path:
    """Masks of images, as PNG of each image's own size, or of volumes, as NIfTI on their grid.

    Parameters
    ----------
    run : Path
    inputs : sequence of Path
        Images or volumes, folders of them, or manifests.
    out : Path
        Gets ``<stem>.png`` (0 and 255) or ``<stem>.nii.gz`` (0 and 1), and ``predictions.csv``,
        whose column ``unlike_training`` says in what an image differs from the run's.
    method, seed, device
        See `weakseg.methods.find.load_method`.
    heatmaps, overlays : bool
        Also write ``heatmaps/<stem>.npz`` (raw heatmaps, or probabilities of a supervised
        network; volumes as ``.nii.gz``), and pictures ``overlays/<stem>.png`` (of volumes the
        slice with most of the mask).
    dicom_seg : bool
        Also write ``<stem>.seg.dcm``, a DICOM segmentation that a viewer lays over the series;
        every input has to be DICOM then.
    skip_unreadable : bool
        Leave out images that cannot be read, instead of refusing to begin.

    Returns
    -------
    Path
        The table ``predictions.csv``.
    """
    chosen = load_method(run, method, seed=seed, device=device)
    formats = formats_of_dims(chosen.dims)
    cases = readable(collect_inputs(inputs, out, formats), skip_unreadable, formats)
    if dicom_seg:
        refuse_without_highdicom()
        refuse_others_than_dicom(cases)
    shown = shown_inputs([c.image for c in cases])
    read = [f for c in cases for f in (c.image, *c.more, c.roi) if f is not None]
    sources = {f.resolve() for f in [*read, *inputs]}
    for target in _targets(out, cases):
        if target.resolve() in sources:
            raise UserError(
                "The output would overwrite its input.",
                where=str(target),
                fix="name another folder with --out",
            )
    make_folder(out)
    seeds = ", ".join(map(str, chosen.seeds))
    which = f"mean of the seeds {seeds}" if len(chosen.seeds) > 1 else f"seed {seeds}"
    say(f"method {chosen.name} ({chosen.choice}), {which}")
    one = partial(
        _predicted,
        chosen,
        _Writer(out, heatmaps, overlays, chosen.name if dicom_seg else None, chosen.config.data),
    )
    rows: list[dict[str, Any]] = []
    unlike = Unlike(run, chosen.config.data)
    with progress("predicting", len(cases)) as advance:
        for some in together(cases, chosen.at_once):
            made = _rows(one, some, skip_unreadable)
            rows += [r | {"file": shown[Path(r["file"])]} for r in unlike.tell(some, made)]
            advance(len(some))
    unlike.say()
    write_text(out / PREDICTIONS, csv_text(pd.DataFrame(rows)))
    return out / PREDICTIONS


def _rows(one: Predict, cases: Sequence[Case], skip: bool) -> list[dict[str, Any]]:
    """The rows of some cases; a file that breaks half-way is left out where that is asked for."""
    try:
        return list(one(cases))
    except DataError as e:
        if not skip:
            raise
        if len(cases) == 1:
            say(f"left out {cases[0].shown}: {cause(e)}")
            return []
        return [row for case in cases for row in _rows(one, [case], skip)]


@dataclass(frozen=True)
class _Writer:
    """Where results go, and which are asked for."""

    out: Path
    heatmaps: bool
    overlays: bool
    segmentation_by: str | None
    data: DataConfig

    def write(self, case: Case, prediction: Prediction) -> Path:
        """Write what is asked for; the mask's file."""
        mask = inside(self.out, f"{case.id}{case.formats.mask_suffix}")
        write_mask(mask, prediction.mask, case.image)
        if self.heatmaps:
            self._save_map(case, prediction)
        if self.overlays:
            self._save_overlay(case, prediction)
        if self.segmentation_by is not None:
            path = inside(self.out, f"{case.id}{SUFFIX}")
            write_segmentation(path, prediction.mask, case.image, self.segmentation_by)
        return mask

    def _save_overlay(self, case: Case, prediction: Prediction) -> None:
        from weakseg.report.pictures import write_overlay

        at = fullest_plane(case, prediction.mask)
        whole = (case_image(case, self.data), prediction.map, prediction.mask)
        image, heat, mask = (as_planes(case, values)[at] for values in whole)
        how = shown_intensity(case, self.data)
        write_overlay(_overlay(self.out, case), image, heat, mask, intensity=how)

    def _save_map(self, case: Case, prediction: Prediction) -> None:
        suffix, save = MAPS[case.formats.noun]
        save(inside(self.out, "heatmaps", f"{case.id}{suffix}"), case, prediction)


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


def _overlay(out: Path, case: Case) -> Path:
    return inside(out, "overlays", f"{case.id}.png")


def _predicted(method: Method, writer: _Writer, cases: Sequence[Case]) -> Iterator[dict[str, Any]]:
    """The rows of some cases, whose masks are written."""
    for case, prediction in zip(cases, method.predict_all(cases), strict=True):
        path = writer.write(case, prediction)
        pixels = int(prediction.mask.sum())
        row: dict[str, Any] = {"file": str(case.image), "mask": path.name}
        known = (
            {} if prediction.probability is None else {"lesion_probability": prediction.probability}
        )
        yield (
            row
            | _volume_of(case, pixels)
            | {**prediction.notes}
            | known
            | {"lesion_pixels": pixels}
        )


def _volume_of(case: Case, voxels: int) -> dict[str, Any]:
    """The lesion's volume in ml where samples may have a size."""
    if not case.formats.further:
        return {}
    spacing = case_spacing(case)
    return {"lesion_ml": spacing and round(math.prod(spacing) / 1000 * voxels, 3)}


def _targets(out: Path, cases: Sequence[Case]) -> Iterator[Path]:
    """Every file that may be written."""
    yield out / PREDICTIONS
    for case in cases:
        yield out / f"{case.id}{case.formats.mask_suffix}"
        yield out / "heatmaps" / f"{case.id}{MAPS[case.formats.noun][0]}"
        yield _overlay(out, case)
        yield out / f"{case.id}{SUFFIX}"
