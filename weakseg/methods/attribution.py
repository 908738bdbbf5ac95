"""What of an image a run's segmentation networks mark for, and what each attribution preserves."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from weakseg.config import AUTO, SegmenterConfig
from weakseg.data.volumes import write_volume
from weakseg.errors import RunError
from weakseg.heatmaps.preserved import CONTROLS, preserved
from weakseg.heatmaps.segmentation import ATTRIBUTIONS, LESION, Window, attributions, layers_of
from weakseg.layout import heatmap_file, segmenter_folder
from weakseg.masks.fullest_box import fullest_box
from weakseg.methods.prepared import Prepared
from weakseg.methods.segmenters import (
    load_segmenter,
    priors_of,
    read_settings,
    segmentation_cases,
    trained_settings,
)
from weakseg.models.deepmedic import DeepMedic
from weakseg.models.unetpp import pruned
from weakseg.progress import progress
from weakseg.runs import atomic_path, make_folder
from weakseg.scores.statistics import cluster_mean_interval
from weakseg.training.infer import TILE, as_batch, whole_logits, whole_window
from weakseg.training.loop import pick_device
from weakseg.training.prior import are_shares, recalibrate
from weakseg.training.segment import predict
from weakseg.training.segmentation_cases import SegmentationCases

Box = tuple[Any, ...]
"""Slices along the axes of a case, or all of it."""

COLUMNS = ("image_preserved", "prediction_preserved", "quarter_preserved")
"""What `weakseg.heatmaps.preserved` finds, an image and an attribution."""


class Explained(NamedTuple):
    """Of one network: rows of the table, and the layers that were looked at.

    Attributes
    ----------
    rows : list of dict
        One an image and an attribution.
    layers : list of str
        Names of the layers behind the attributions.
    nothing : int
        In how many images the network marks nothing, which therefore have no rows.
    """

    rows: list[dict[str, Any]]
    layers: list[str]
    nothing: int


def explain_network(
    prepared: Prepared,
    name: str,
    seed: int,
    entry: Mapping[str, Any],
    test: Sequence[int],
    out: Path | None,
) -> Explained:
    """Attributions of the masks of one network, by itself, and what each preserves.

    Parameters
    ----------
    prepared : Prepared
    name : str
        Of the segmenter.
    seed : int
    entry : mapping
        Of the seed in ``threshold.json``.
    test : sequence of int
        The cases to look at.
    out : Path, optional
        Folder that gets the maps, see `weakseg.stages.explain_segmenter`.
    """
    config = prepared.config
    folder = segmenter_folder(prepared.run.folder, name, seed)
    settings = trained_settings(folder, entry)
    priors = priors_of(read_settings(folder)) if settings.recalibrate else None
    model = load_segmenter(folder).to(pick_device(config.device))
    data = segmentation_cases(prepared, name)
    rows: list[dict[str, Any]] = []
    layers, nothing = None, 0
    what = f"attribution of {name}, seed {seed}"
    with progress(what, len(test)) as advance, pruned(model, settings.prune):
        for i, box in _looked_at(model, data, test, settings, priors, float(entry["threshold"])):
            image, fill, body = _input(data, i, box, next(model.parameters()).device)
            segment = partial(_marked, model, fill, float(entry["threshold"]), priors)
            mask = segment(image)
            advance()
            if not bool(mask.any()):
                nothing += 1
                continue
            ask = partial(whole_logits, model, image, fill)
            layers = layers if layers is not None else layers_of(model, ask)
            maps = attributions(model, ask, mask, _window(model, image), layers)
            case = data.cases[i]
            of = preserved(segment, image, mask, maps, body, _drawn(config.seed, i))
            rows += [
                {"case": case.id, "patient": case.patient, "seed": seed, "attribution": a}
                | dict(zip(COLUMNS, (p.image, p.prediction, p.quarter), strict=True))
                for a, p in of.items()
            ]
            if out is not None:
                _write_maps(out / f"seed-{seed}", data, i, box, maps)
    names = [] if layers is None else [c.name for c in layers.behind]
    return Explained(rows, names, nothing)


def _looked_at(
    model: Any,
    data: SegmentationCases,
    indices: Sequence[int],
    settings: SegmenterConfig,
    priors: tuple[float, float] | None,
    threshold: float,
) -> Iterator[tuple[int, Box]]:
    """Cases and what of them is looked at: images whole, of volumes what one tile may hold."""
    device = next(model.parameters()).device
    once = settings.model_copy(update={"flips": "none", "recalibrate": priors is not None})
    for i in indices:
        if data.cases[i].noun != "volume":
            yield i, (...,)
            continue
        ((_, p),) = predict(model, data, [i], once, device, priors)
        yield i, fullest_box(p > threshold, side_of_box(settings))


def side_of_box(settings: SegmenterConfig) -> int:
    """The side of the part of a volume that is looked at."""
    return TILE[3] if settings.tile == AUTO else int(settings.tile)


def _input(data: SegmentationCases, i: int, box: Box, device: Any) -> tuple[Tensor, Tensor, Tensor]:
    """Image (1, C, *size), intensity outside it, and its body; of what is looked at."""
    held = data.arrays(i, truth=False)
    body = torch.from_numpy(np.array(held.region[box], dtype=bool)).to(device)
    image = np.ascontiguousarray(held.image[(slice(None), *box)])
    return as_batch([image], device), as_batch([held.fill], device), body


def _marked(
    model: Any,
    fill: Tensor,
    threshold: float,
    priors: tuple[float, float] | None,
    image: Tensor,
) -> Tensor:
    """What a network marks in an image, on its own grid; recalibrated by ``priors`` if given."""
    with torch.no_grad():
        p = whole_logits(model, image, fill).float().softmax(1)[0, LESION]
    if not bool(p.isfinite().all()):
        raise RunError(
            "The network's answer is no number (NaN or infinity).",
            where=type(model).__name__,
            fix="train it again: weakseg train-segmenter CONFIG --force",
        )
    if priors is not None and are_shares(*priors):
        moved = recalibrate(p.cpu().numpy(), *priors)
        p = torch.from_numpy(moved.astype(np.float32)).to(p.device)
    return p > threshold


def _window(model: Any, image: Tensor) -> Window:
    sides = tuple(image.shape[2:])
    strides = Window.strides
    if isinstance(model, DeepMedic):
        strides = tuple(sorted({1, *model.variant.factors}))
    return Window(tuple(whole_window(model, sides)), int(model.margin[0]), sides, strides)


def _drawn(seed: int, i: int) -> int:
    return int(np.random.SeedSequence([seed, i]).generate_state(1)[0])


def mean_attributions(rows: pd.DataFrame, prepared: Prepared) -> dict[str, Any]:
    """Mean and interval over patients of every column, an attribution."""
    out: dict[str, Any] = {}
    for name in (*ATTRIBUTIONS, *CONTROLS):
        of = rows[rows["attribution"] == name]
        of = of.groupby(["case", "patient"], sort=False)[list(COLUMNS)].mean().reset_index()
        out[name] = {}
        for column in COLUMNS:
            found = cluster_mean_interval(
                of[column],
                of["patient"],
                bootstrap=prepared.config.scores.bootstrap,
                seed=prepared.config.seed,
            )
            ends = {"value": found.value, "low": found.low, "high": found.high}
            out[name][column] = {
                k: round(float(v), 6) if np.isfinite(v) else None for k, v in ends.items()
            }
    return out


def _write_maps(
    folder: Path, data: SegmentationCases, i: int, box: Box, maps: dict[str, Tensor]
) -> None:
    case = data.cases[i]
    path = heatmap_file(folder, case.id)
    make_folder(path.parent)
    if case.noun == "volume":
        for name, m in maps.items():
            whole = np.zeros(data.arrays(i, truth=False).region.shape, dtype=np.float32)
            whole[box] = m.cpu().numpy()
            write_volume(path.with_name(f"{path.stem}_{name}.nii.gz"), whole, case.image)
        return
    arrays = {n: data.original(i, m.cpu().numpy()).astype(np.float16) for n, m in maps.items()}
    with atomic_path(path) as part, part.open("wb") as f:
        np.savez_compressed(f, **arrays)  # type: ignore[arg-type]
