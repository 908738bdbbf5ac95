"""Masks of new volumes by a method that sees slices: one file a volume, and a row a slice."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from weakseg.config import DataConfig
from weakseg.data.case_files import whole_spacing
from weakseg.data.cases import Case
from weakseg.data.columns import BESIDE_IMAGE
from weakseg.data.folder_files import files_below
from weakseg.data.formats.registry import VOLUMES
from weakseg.data.noise import is_noisier
from weakseg.data.slices import slices_noise, volume_frame
from weakseg.data.table import read_table
from weakseg.errors import DataError
from weakseg.memory import give_free_back
from weakseg.methods.base import Method, Prediction
from weakseg.methods.clean_up import clean_volume
from weakseg.predicting.inputs import MANIFESTS, series_of
from weakseg.runs import open_run

SLICES = "slices.csv"
"""A row a slice, beside ``predictions.csv``, which has a row a volume."""

_NOTHING = np.zeros((0, 0), dtype=bool)


def is_sliced(run: Path) -> bool:
    """Whether a run's images are slices of volumes."""
    return bool(open_run(run).record.get("data", {}).get("sliced", False))


def slices_named(inputs: Sequence[Path]) -> dict[Path, list[int]]:
    """Volume, resolved → the slices of it that manifests name in a column ``slice``.

    All of a volume that no manifest names so, and of one that is an input itself, or lies in a
    folder that is one.

    Raises
    ------
    DataError
        For a cell of that column that is no index; a blank one stands for the whole.
    """
    named: dict[Path, set[int]] = {}
    whole: list[Path] = []
    for path in inputs:
        if not (path.is_file() and path.suffix.lower() in MANIFESTS):
            at = series_of(path, VOLUMES)
            whole.append(at.resolve())
            if at.is_dir():  # it may hold links to others, and to volumes of others
                whole += {p.resolve() for p in files_below(at) if p.is_symlink()}
                whole += {p.resolve() for p in {f.parent for f in files_below(at)}}
            continue
        table = read_table(path, required=("image",), aside=BESIDE_IMAGE)
        for row in table.rows:
            if row.is_slice and row.index is None:
                raise DataError(
                    f"The slice {row.slice!r} is no index.",
                    where=f"{path}, row {row.line}",
                    fix="write a whole number from 0: the index along the third axis",
                )
            if row.index is None:
                whole.append(table.resolve(row.image).resolve())
            else:
                named.setdefault(table.resolve(row.image).resolve(), set()).add(row.index)
    return {
        image: sorted(indices)
        for image, indices in named.items()
        if not any(image.is_relative_to(w) for w in whole)
    }


def slices_of(volume: Case, named: dict[Path, list[int]]) -> list[Case]:
    """The slices of a volume that are segmented, in order.

    Raises
    ------
    DataError
        If a manifest names one that is not there.
    """
    count = volume_frame(volume.image).shape[2]
    indices = named.get(volume.image.resolve(), list(range(count)))
    outside = next((z for z in indices if z >= count), None)
    if outside is not None:
        raise DataError(
            "The volume has no such slice.",
            where=volume.shown,
            found=f"slice {outside}",
            expected=f"0 to {count - 1}",
            fix="correct the column `slice` (the first slice is 0)",
        )
    return [replace(volume, id=f"{volume.id}_s{z:03d}", volume=volume.id, slice=z) for z in indices]


def smoothed_alike(slices: Sequence[Case], data: DataConfig) -> list[Case]:
    """Slices of one volume, which are smoothed all or none: by the noise of the volume.

    One with too little tissue to tell its own noise by stays as it is.

    Parameters
    ----------
    slices : sequence of Case
        Some of one volume, with the noise above which it is smoothed.
    data : DataConfig
    """
    first = slices[0]
    if not first.smooth_above:
        return list(slices)
    noise = slices_noise(first.image, data.intensity, data.window)
    above = (0.0,) if is_noisier(noise, first.smooth_above[0]) else ()
    return [replace(c, smooth_above=above) for c in slices]


def predict_volume(
    method: Method, slices: Sequence[Case], *, maps: bool
) -> tuple[Prediction, list[dict[str, Any]]]:
    """What a method that sees slices says of a volume.

    Parameters
    ----------
    method : Method
    slices : sequence of Case
        In order.
    maps : bool
        Whether heat or probability is written: it is kept in full precision then, else in half.

    Returns
    -------
    prediction : Prediction
        Of the volume's size (X, Y, Z): slices that were not asked for are empty. The probability is
        the highest of a slice; ``notes`` say on how many slices there is a lesion, and on which
        is most of it.
    rows : list of dict
        Of ``slices.csv``.
    """
    shape = volume_frame(slices[0].image).shape
    # Laid into the volume as they come: slices by slices and a stack of them take twice the memory.
    whole = np.zeros(shape, dtype=bool, order="F")
    heat = np.zeros(shape, dtype=np.float32 if maps else np.float16, order="F")
    predictions = []
    at = [int(c.slice or 0) for c in slices]
    for z, p in zip(at, method.predict_each(slices), strict=True):
        whole[:, :, z], heat[:, :, z] = p.mask.T, p.map.T
        predictions.append(replace(p, mask=_NOTHING, map=_NOTHING, heat=None))
    give_free_back()
    how = method.config.volumes
    if how.changes:
        whole = clean_volume(whole, at, [p.gated for p in predictions], how)
    areas = [int(np.count_nonzero(whole[:, :, z])) for z in at]
    rows = [_row(case, p, area) for case, p, area in zip(slices, predictions, areas, strict=True)]
    said = [p.probability for p in predictions if p.probability is not None]
    most = int(np.argmax(areas))
    notes = {
        "lesion_slices": sum(a > 0 for a in areas),
        "key_slice": slices[most].slice if areas[most] else None,
    }
    return (
        Prediction(
            whole,
            heat,
            max(said, default=None),
            all(p.flat for p in predictions),
            all(p.gated for p in predictions),
            notes=notes,
        ),
        rows,
    )


def _row(case: Case, prediction: Prediction, area: int) -> dict[str, Any]:
    p = prediction.probability
    spacing = whole_spacing(case)
    return {
        "file": str(case.image),
        "slice": case.slice,
        **prediction.notes,
        **({} if p is None else {"lesion_probability": p}),
        "gated": prediction.gated,
        "lesion_pixels": area,
        "lesion_mm2": spacing and round(spacing[0] * spacing[1] * area, 3),
    }
