"""``weakseg explain-segmenter``: what of an image a segmenter's masks stand on, and how well."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from weakseg.config import AUTO, config_of_run, fingerprint
from weakseg.data.formats.registry import VOLUMES
from weakseg.errors import RunError, UserError, did_you_mean
from weakseg.layout import (
    BEST,
    attribution_stage,
    attribution_summary,
    attribution_table,
    masks_folder,
    masks_stage,
    segmenter_folder,
    threshold_file,
)
from weakseg.masks.kept import read_thresholds
from weakseg.methods.attribution import explain_network, mean_attributions, side_of_box
from weakseg.methods.fingerprints import segmenter_fingerprint
from weakseg.methods.prepared import Prepared
from weakseg.progress import say
from weakseg.runs import file_hash, write_json, write_text
from weakseg.spreadsheets import csv_text
from weakseg.stages.base import Stage, perform
from weakseg.stages.prepare import prepared_run


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
        of["box"] = side_of_box(config.segmenters[name])
    means = (config.seed, config.scores.bootstrap)
    key = fingerprint("attribution", 2, prepared.key, weights, cuts, images, of, *means)
    table, summary = attribution_table(run.folder, name), attribution_summary(run.folder, name)
    test = prepared.cases.indices("test")
    everything = len(test)
    if images and everything > images:
        test = [test[k] for k in np.linspace(0, len(test) - 1, images).round().astype(int)]

    def look() -> tuple[dict[int, Any], pd.DataFrame]:
        """Before anything that is there is given up: nothing may be marked."""
        found = {
            s: explain_network(prepared, name, s, entries[f"seed-{seed}"], test, out)
            for s, seed in seeds.items()
        }
        rows = pd.DataFrame([row for one in found.values() for row in one.rows])
        if rows.empty:
            some = len(test) < everything
            looked = (
                f"the {len(test)} of {everything} test images that were looked at"
                if some
                else "any test image"
            )
            raise UserError(
                f"{name} marks nothing in {looked}, so that there is nothing to explain.",
                where="--method",
                fix=("look at more with --images, " if some else "")
                + "lower its threshold, or train it for longer",
            )
        return found, rows

    def write(looked: tuple[dict[int, Any], pd.DataFrame]) -> dict[str, Any]:
        found, rows = looked
        about = {
            "method": name,
            "attributions": mean_attributions(rows, prepared),
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
        ready=look,
    )
    made = perform(run, stage, force=force or out is not None)
    if made:
        say(f"attribution of {name}: research only; what a network uses is not what is there")
    return table
