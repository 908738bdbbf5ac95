"""``weakseg explain-segmenter``: what of an image a segmenter's masks stand on, and how well."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from weakseg.config import AUTO, SegmenterConfig, config_of_run, fingerprint
from weakseg.data.formats.registry import VOLUMES
from weakseg.data.volumes import write_volume
from weakseg.errors import RunError, UserError, did_you_mean
from weakseg.heatmaps.preserved import CONTROLS, preserved
from weakseg.heatmaps.segmentation import ATTRIBUTIONS, LESION, Window, attributions, layers_of
from weakseg.layout import (
    BEST,
    attribution_stage,
    attribution_summary,
    attribution_table,
    heatmap_file,
    masks_folder,
    masks_stage,
    segmenter_folder,
    threshold_file,
)
from weakseg.masks.fullest_box import fullest_box
from weakseg.masks.kept import read_thresholds
from weakseg.methods.fingerprints import segmenter_fingerprint
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
from weakseg.progress import progress, say
from weakseg.runs import atomic_path, file_hash, make_folder, write_json, write_text
from weakseg.scores.statistics import cluster_mean_interval
from weakseg.spreadsheets import csv_text
from weakseg.stages.base import Stage, perform
from weakseg.stages.prepare import prepared_run
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
    """Of one network: rows of the table, and the layers that were looked at."""

    rows: list[dict[str, Any]]
    layers: list[str]
    nothing: int


def explain_run(
    run: Path,
    method: str,
    *,
    out: Path | None = None,
    images: int = 0,
    device: str = AUTO,
    force: bool = False,
) -> Path:
    """`explain_segmenter` of a run folder, by its own experiment."""
    config = config_of_run(run)
    if device != AUTO:
        config = config.model_copy(update={"device": device})
    with prepared_run(config, run) as prepared:
        return explain_segmenter(prepared, method, out=out, images=images, force=force)


def explain_segmenter(
    prepared: Prepared,
    name: str,
    *,
    out: Path | None = None,
    images: int = 0,
    force: bool = False,
) -> Path:
    """Attributions of a segmenter's masks of test images, and what each preserves.

    No true mask is looked at. Images in which a network marks nothing have no attribution. Each
    network is explained by itself, by the mask that it alone makes of the unmirrored image in one
    size at its method's threshold: recalibrated where its settings say so, but without conditional
    random field, screening and gate. Of a whole volume it is the box of a tile's side that holds
    most of the mask, and the network is asked of that box alone, in one piece.

    Parameters
    ----------
    prepared : Prepared
    name : str
        Of the segmenter.
    out : Path, optional
        Folder that gets the maps as well: ``seed-<n>/<case>.npz``, an array an attribution; of
        volumes ``seed-<n>/<case>_<attribution>.nii.gz``, 0 outside the box.
    images : int
        How many test images at most, evenly from their list; 0: all.
    force : bool

    Returns
    -------
    Path
        ``attribution/<name>.csv`` in the run.

    Raises
    ------
    UserError
        For a method that is no segmenter, or test images in which nothing is marked.
    RunError
        If it has no masks yet.
    """
    config, run = prepared.config, prepared.run
    if name not in config.segmenters:
        raise UserError(
            f"The run has no segmenter {name!r}."
            if name not in config.methods
            else f"{name} is no segmentation network, and explained by its heatmap.",
            where="--method",
            fix=did_you_mean(name, config.segmenters)
            if config.segmenters
            else "add one to segmenters, and train it: weakseg train-segmenter CONFIG",
        )
    path = threshold_file(masks_folder(run.folder), name)
    made = run.record.get("stages", {}).get(masks_stage(name), {})
    of_now = (made.get("asked"), made.get("data")) == (
        segmenter_fingerprint(config, name),
        prepared.key,
    )
    if not of_now or not path.exists():
        raise RunError(
            f"The run has no masks of {name} with these settings and data.",
            where=str(path),
            fix="run `weakseg train-segmenter CONFIG` first",
        )
    entries = read_thresholds(path)
    seeds = {s: seed for seed, of in config.mask_seeds(name).items() for s in of}
    weights = {s: file_hash(segmenter_folder(run.folder, name, s) / BEST) for s in seeds}
    cuts = {s: float(entries[f"seed-{seed}"]["threshold"]) for s, seed in seeds.items()}
    of = config.segmenters[name].model_dump(include={"prune", "recalibrate"})
    if prepared.cases.formats is VOLUMES:
        of["box"] = _side(config.segmenters[name])
    means = (config.seed, config.scores.bootstrap)
    key = fingerprint("attribution", 2, prepared.key, weights, cuts, images, of, *means)
    table, summary = attribution_table(run.folder, name), attribution_summary(run.folder, name)
    test = prepared.cases.indices("test")
    if images and len(test) > images:
        test = [test[k] for k in np.linspace(0, len(test) - 1, images).round().astype(int)]

    def write(_: None) -> dict[str, Any]:
        found = {
            s: _of_network(prepared, name, s, entries[f"seed-{seed}"], test, out)
            for s, seed in seeds.items()
        }
        rows = pd.DataFrame([row for one in found.values() for row in one.rows])
        if rows.empty:
            raise UserError(
                f"{name} marks nothing in any test image, so that there is nothing to explain.",
                where="--method",
                fix="lower its threshold, or train it for longer",
            )
        about = {
            "method": name,
            "attributions": _means(rows, prepared),
            "images": int(rows["case"].nunique()),
            "networks": {str(s): cuts[s] for s in seeds},
            "nothing_marked": sum(one.nothing for one in found.values()),
            "layers": {str(s): one.layers for s, one in found.items()},
        }
        write_text(table, csv_text(rows.round(6)))
        write_json(summary, about)
        made_by = {str(s): h for s, h in weights.items()}
        return {"data": prepared.key, "images": about["images"], "weights": made_by}

    stage = Stage(
        attribution_stage(name),
        key,
        (table, summary),
        write,
        what=f"attribution of {name}",
        inputs=(masks_stage(name),),
    )
    made = perform(run, stage, force=force or out is not None)
    if made:
        say(f"attribution of {name}: research only; what a network uses is not what is there")
    return table


def _of_network(
    prepared: Prepared,
    name: str,
    seed: int,
    entry: Any,
    test: Sequence[int],
    out: Path | None,
) -> Explained:
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
        yield i, fullest_box(p > threshold, _side(settings))


def _side(settings: SegmenterConfig) -> int:
    return TILE[3] if settings.tile == AUTO else int(settings.tile)


def _input(data: SegmentationCases, i: int, box: Box, device: Any) -> tuple[Tensor, Tensor, Tensor]:
    """Image (1, C, *size), intensity outside it, and its body; of what is looked at."""
    held = data.arrays(i)
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


def _means(rows: pd.DataFrame, prepared: Prepared) -> dict[str, Any]:
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
            whole = np.zeros(data.arrays(i).region.shape, dtype=np.float32)
            whole[box] = m.cpu().numpy()
            write_volume(path.with_name(f"{path.stem}_{name}.nii.gz"), whole, case.image)
        return
    arrays = {n: data.original(i, m.cpu().numpy()).astype(np.float16) for n, m in maps.items()}
    with atomic_path(path) as part, part.open("wb") as f:
        np.savez_compressed(f, **arrays)  # type: ignore[arg-type]
