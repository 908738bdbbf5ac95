"""Which of a run's methods is ready for new images, and the way to it."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from weakseg.config import load_config
from weakseg.errors import RunError, UserError, did_you_mean
from weakseg.layout import (
    SEGMENT_STAGE,
    config_file,
    masks_config,
    masks_folder,
    masks_stage,
    threshold_file,
    threshold_files,
)
from weakseg.masks.kept import read_thresholds
from weakseg.runs import Run, open_run
from weakseg.stages.base import require_whole
from weakseg.stages.heatmap_predictor import Entries, Predictor, load_heatmap_predictor
from weakseg.stages.segmenter_predictor import SegmenterPredictor, load_segmenter_predictor
from weakseg.stages.segmenters import WEAK


def load_predictor(
    run: Path, method: str | None = None, *, seed: int | None = None, device: str = "auto"
) -> Predictor | SegmenterPredictor:
    """A run's network and threshold.

    Parameters
    ----------
    run : Path
        A run folder.
    method : str, optional
        One of the run's methods, by its name in the report; one of the heatmap under ``heatmap``
        also by its rule alone. Default: the experiment's ``report.method``; else the first method
        that saw no mask, heatmaps' before segmenters; without heatmaps, a segmenter that learnt
        from another method's masks before one that learnt from the manifest's.
    seed : int, optional
        Default: of those with masks the network with the best validation AUC; of segmenters the
        first. Methods that
        average the networks of several seeds take all of them, and no seed.
    device : str, optional

    Raises
    ------
    RunError
        If the folder is not a run, or lacks what is needed.
    UserError
        For a method or seed that it does not have, or an upper bound, which needs true masks.
    """
    folder = open_run(run).folder
    made_by = masks_config(folder)
    config = load_config(made_by if made_by.exists() else config_file(folder))
    networks = load_config(config_file(folder))
    entries = {method: read_thresholds(p) for method, p in threshold_files(folder)}
    if not entries:
        raise RunError(
            "The run has no masks yet, so it has no threshold either.",
            where=str(folder),
            fix="run `weakseg heatmap-segment CONFIG` or `weakseg compare CONFIG` first",
        )
    segmenters = [n for n in networks.segmenters if _of_network(entries.get(n, {}))]
    of_heat = [m for m in config.heatmap_methods if m in entries and not _of_network(entries[m])]
    usable = {m: entries[m] for m in [*of_heat, *segmenters]}
    wanted = networks.report.method
    if method is not None:
        name = _find_method(config.heatmap.method, usable, method)
    else:
        name = wanted if wanted in usable else _first_method(usable)
    stage = masks_stage(name) if name in segmenters else SEGMENT_STAGE
    require_whole(Run(folder), stage, threshold_file(masks_folder(folder), name))
    if name in segmenters:
        return load_segmenter_predictor(folder, networks, name, entries[name], seed, device)
    return load_heatmap_predictor(folder, config, name, entries, seed, device)


def _of_network(entry: Mapping[str, Any]) -> bool:
    return any("kind" in e for e in entry.values())


def _first_method(entries: Entries) -> str:
    """The first method that saw no mask.

    Where there are segmenters alone, one that other methods taught comes before one that true
    masks taught.
    """
    usable = [m for m, e in entries.items() if not any(v.get("upper_bound") for v in e.values())]
    untold = [m for m in usable if not any(v["masks_seen"] for v in entries[m].values())]
    if untold:
        return untold[0]
    if entries and all(_of_network(e) for e in entries.values()):
        return min(entries, key=lambda m: all(e["kind"] != WEAK for e in entries[m].values()))
    raise UserError(
        "No method of the run gets by without true masks.",
        fix=f"name one with --method: {', '.join(usable)}"
        if usable
        else "add a rule that needs no true mask to masks.rules, for example otsu",
    )


def _find_method(heatmap: str, methods: Collection[str], method: str) -> str:
    """The method of a name, or of a rule of the experiment's `heatmap`."""
    named = {m.removeprefix(f"{heatmap}-"): m for m in methods}
    if method not in methods and method not in named:
        raise UserError(
            f"The run has no method {method!r}.",
            where="--method",
            fix=did_you_mean(method, methods),
        )
    return method if method in methods else named[method]
