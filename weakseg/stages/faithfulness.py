"""Scores of heatmaps against the very network that they explain: ROAD, insertion, deletion."""

from __future__ import annotations

from typing import Any

from weakseg.layout import (
    FAITHFULNESS,
    faithfulness_folder,
    faithfulness_stage,
    predictions_stage,
)
from weakseg.methods.filter_sources import FilterSources
from weakseg.runs import remove_tree, write_text
from weakseg.spreadsheets import csv_text
from weakseg.stages.base import Stage, forget, perform


def score_heatmaps(sources: FilterSources, inputs: tuple[str, ...], *, force: bool = False) -> None:
    """ROAD, insertion, deletion and preservation of one seed's heatmaps on test images.

    Parameters
    ----------
    sources : FilterSources
        The heatmaps, and the masks whose preservation is scored.
    inputs : tuple of str
        Names of the heatmaps' stages.
    force : bool
    """
    run, arch, seed = sources.prepared.run, sources.arch, sources.seed
    folder, stage = faithfulness_folder(run.folder, arch, seed), faithfulness_stage(arch, seed)
    if sources.settings.faithfulness.images == 0:
        forget(run, stage)
        remove_tree(folder)
        return
    outputs = tuple(folder / name for name in FAITHFULNESS)
    what = f"heatmaps against their network, seed {seed}"

    def write(_: None) -> dict[str, Any]:
        images, tables = sources.faithfulness(what)
        for path, table in zip(outputs, tables, strict=True):
            write_text(path, csv_text(table))
        return {"images": images}

    inputs = (*inputs, predictions_stage(arch, seed))
    made = Stage(stage, sources.faithfulness_key, outputs, write, what=what, inputs=inputs)
    perform(run, made, force=force)
