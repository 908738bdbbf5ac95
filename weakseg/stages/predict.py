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
from weakseg.progress import progress, say
from weakseg.runs import atomic_path, inside, make_folder, write_text
from weakseg.spreadsheets import csv_text
from weakseg.stages.heatmap_predictor import Predictor
from weakseg.stages.predict_inputs import (
    PREDICTIONS,
    cause,
    collect_inputs,
    readable,
    together,
)
from weakseg.stages.predict_unlike import Unlike
from weakseg.stages.predictors import load_predictor
from weakseg.stages.segmenter_predictor import SegmenterPredictor

__all__ = ["load_predictor", "predict"]

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
        See `weakseg.stages.predictors.load_predictor`.
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
    predictor = load_predictor(run, method, seed=seed, device=device)
    dims = predictor.dims if isinstance(predictor, SegmenterPredictor) else 2
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
    seeds = ", ".join(map(str, predictor.seeds))
    which = f"mean of the seeds {seeds}" if len(predictor.seeds) > 1 else f"seed {seeds}"
    say(f"method {predictor.method} ({predictor.chosen}), {which}")
    write = _Writer(out, heatmaps, overlays)
    one: Predict
    if isinstance(predictor, SegmenterPredictor):
        one = partial(_by_segmenter, predictor, write)
    else:
        one = partial(_by_heatmap, predictor, write)
    rows: list[dict[str, Any]] = []
    unlike = Unlike(run, predictor.config.data)
    with progress("predicting", len(cases)) as advance:
        for some in together(cases, predictor.at_once):
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

    def mask(self, case: Case, mask: np.ndarray) -> Path:
        path = inside(self.out, f"{case.id}{mask_suffix(case.image)}")
        write_mask(path, mask, case.image)
        return path

    def overlay(self, case: Case, image: np.ndarray, heat: np.ndarray, mask: np.ndarray) -> None:
        from weakseg.report.pictures import write_overlay

        write_overlay(inside(self.out, "overlays", f"{case.id}.png"), image, heat, mask)


def _by_heatmap(
    predictor: Predictor, write: _Writer, cases: Sequence[Case]
) -> Iterator[dict[str, Any]]:
    images = [read_image(c.image) for c in cases]
    found = predictor.predict_all(images)
    for case, image, (mask, heat, p) in zip(cases, images, found, strict=True):
        path = write.mask(case, mask)
        if write.heatmaps:
            save_heatmap(inside(write.out, "heatmaps", f"{case.id}.npz"), heat)
        if write.overlays:
            write.overlay(case, image, heat.full(), mask)
        yield {
            "file": str(case.image),
            "mask": path.name,
            "predicted_label": predictor.labels.names[int(p.argmax())],
            "lesion_probability": round(heat.probability, 6),
            "lesion_pixels": int(mask.sum()),
            "flat_heatmap": heat.flat,
        }


def _by_segmenter(
    predictor: SegmenterPredictor, write: _Writer, cases: Sequence[Case]
) -> Iterator[dict[str, Any]]:
    for case, (mask, p, says) in zip(cases, predictor.predict_all(cases), strict=True):
        told = {} if says is None else {"lesion_probability": says}
        row = (_volume if case.dims == 3 else _flat)(write, case, mask, p)
        yield (
            row
            | told
            | {
                "highest_probability": round(float(p.max()), 6),
                "lesion_pixels": int(mask.sum()),
            }
        )


def _volume(write: _Writer, case: Case, mask: np.ndarray, p: np.ndarray) -> dict[str, Any]:
    path = write.mask(case, mask)
    if write.heatmaps:
        write_volume(inside(write.out, "heatmaps", f"{case.id}.nii.gz"), p, case.image)
    spacing = spacing_of(case.image)
    return {
        "file": str(case.image),
        "mask": path.name,
        "lesion_ml": spacing and round(math.prod(spacing) / 1000 * int(mask.sum()), 3),
    }


def _flat(write: _Writer, case: Case, mask: np.ndarray, p: np.ndarray) -> dict[str, Any]:
    path = write.mask(case, mask)
    if write.heatmaps:
        target = inside(write.out, "heatmaps", f"{case.id}.npz")
        with atomic_path(target) as part, part.open("wb") as f:
            np.savez_compressed(f, probability=p.astype(np.float16))
    if write.overlays:
        write.overlay(case, read_image(case.image), p, mask)
    return {"file": str(case.image), "mask": path.name}


def _targets(out: Path, names: Sequence[str]) -> list[Path]:
    """Every file that may be written."""
    pictures = [out / part / f"{n}.png" for n in names for part in ("", "overlays")]
    volumes = [out / part / f"{n}.nii.gz" for n in names for part in ("", "heatmaps")]
    heats = [out / "heatmaps" / f"{n}.npz" for n in names]
    return [out / PREDICTIONS, *pictures, *volumes, *heats]
