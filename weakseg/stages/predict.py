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

from weakseg.data.cases import Case
from weakseg.data.formats.reading import spacing_of
from weakseg.data.formats.writing import mask_suffix, write_mask
from weakseg.data.images import read_image
from weakseg.data.volumes import write_volume
from weakseg.errors import DataError, UserError
from weakseg.heatmaps.store import save_heatmap
from weakseg.methods.base import Method, Prediction
from weakseg.methods.find import load_method
from weakseg.progress import progress, say
from weakseg.runs import atomic_path, inside, make_folder, write_text
from weakseg.spreadsheets import csv_text
from weakseg.stages.predict_inputs import PREDICTIONS, cause, collect_inputs, readable, together
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
        network; volumes as ``.nii.gz``), and pictures ``overlays/<stem>.png`` (images only).
    skip_unreadable : bool
        Leave out images that cannot be read, instead of refusing to begin.

    Returns
    -------
    Path
        The table ``predictions.csv``.
    """
    chosen = load_method(run, method, seed=seed, device=device)
    dims = chosen.dims
    cases = readable(collect_inputs(inputs, out, dims), skip_unreadable, dims)
    read = [f for c in cases for f in (c.image, *c.more, c.roi) if f is not None]
    sources = {f.resolve() for f in [*read, *inputs]}
    for target in _targets(out, [c.id for c in cases]):
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
    one = partial(_predicted, chosen, _Writer(out, heatmaps, overlays))
    rows: list[dict[str, Any]] = []
    unlike = Unlike(run, chosen.config.data)
    with progress("predicting", len(cases)) as advance:
        for some in together(cases, chosen.at_once):
            made = _rows(one, some, skip_unreadable)
            rows += unlike.tell(some, made)
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
            say(f"left out {cases[0].image}: {cause(e)}")
            return []
        return [row for case in cases for row in _rows(one, [case], skip)]


@dataclass(frozen=True)
class _Writer:
    """Where results go, and which are asked for."""

    out: Path
    heatmaps: bool
    overlays: bool

    def write(self, case: Case, prediction: Prediction) -> Path:
        """Write what is asked for; the mask's file."""
        mask = inside(self.out, f"{case.id}{mask_suffix(case.image)}")
        write_mask(mask, prediction.mask, case.image)
        if self.heatmaps:
            self._save_map(case, prediction)
        if self.overlays and case.dims == 2:
            from weakseg.report.pictures import write_overlay

            path = inside(self.out, "overlays", f"{case.id}.png")
            write_overlay(path, read_image(case.image), prediction.map, prediction.mask)
        return mask

    def _save_map(self, case: Case, prediction: Prediction) -> None:
        if case.dims == 3:
            path = inside(self.out, "heatmaps", f"{case.id}.nii.gz")
            write_volume(path, prediction.map, case.image)
            return
        path = inside(self.out, "heatmaps", f"{case.id}.npz")
        if prediction.heat is not None:
            save_heatmap(path, prediction.heat)
            return
        with atomic_path(path) as part, part.open("wb") as f:
            np.savez_compressed(f, probability=prediction.map.astype(np.float16))


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
    """The lesion's volume in ml where voxels have a size."""
    if case.dims == 2:
        return {}
    spacing = spacing_of(case.image)
    return {"lesion_ml": spacing and round(math.prod(spacing) / 1000 * voxels, 3)}


def _targets(out: Path, names: Sequence[str]) -> list[Path]:
    """Every file that may be written."""
    pictures = [out / part / f"{n}.png" for n in names for part in ("", "overlays")]
    volumes = [out / part / f"{n}.nii.gz" for n in names for part in ("", "heatmaps")]
    heats = [out / "heatmaps" / f"{n}.npz" for n in names]
    return [out / PREDICTIONS, *pictures, *volumes, *heats]
