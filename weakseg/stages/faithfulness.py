"""Scores of heatmaps against the very network that they explain: ROAD, insertion, deletion."""

from __future__ import annotations

from typing import Any

from weakseg.disk import remove_file
from weakseg.layout import (
    FAITHFULNESS,
    faithfulness_folder,
    faithfulness_stage,
    predictions_stage,
)
from weakseg.methods.filter_sources import FilterSources
from weakseg.runs import write_text
from weakseg.spreadsheets import csv_text
from weakseg.stages.base import Stage, perform, take_out


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
    outputs = tuple(folder / name for name in FAITHFULNESS)
    if sources.settings.faithfulness.images == 0:
        take_out(run, stage)
        for path in outputs:  # what was broken off is in no list
            remove_file(path, below=run.folder)
        return
    what = f"heatmaps against their network, seed {seed}"

    def write(_: None) -> dict[str, Any]:
        images, tables = sources.faithfulness(what)
        for path, table in zip(outputs, tables, strict=True):
            write_text(path, csv_text(table))
        return {"images": images}

    inputs = (*inputs, predictions_stage(arch, seed))
    made = Stage(stage, sources.faithfulness_key, outputs, write, what=what, inputs=inputs)
    perform(run, made, force=force)
