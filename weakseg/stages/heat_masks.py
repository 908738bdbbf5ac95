"""Masks of heatmaps and their scores: of all test images, or of those of a shard."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from weakseg.config import fingerprint
from weakseg.data.cases import Case, by_file
from weakseg.layout import (
    FIT_STAGE,
    HEATMAP_PART,
    SEGMENT_STAGE,
    fitted_folder,
    masks_folder,
    method_folder,
    rows_file,
)
from weakseg.masks.set_thresholds import MeanCurve
from weakseg.methods.fitted_rules import Fitted, dice_at_cuts, read_fitted
from weakseg.methods.prepared import Prepared
from weakseg.methods.rows import Rows
from weakseg.methods.segment_cases import Work, segment_cases
from weakseg.methods.shard_rows import read_shard_rows, write_shard_rows
from weakseg.progress import progress
from weakseg.runs import Run, remove_tree
from weakseg.shards import Shard
from weakseg.stages.base import Stage
from weakseg.stages.fitted import inputs_of_masks
from weakseg.stages.shards import Part, dealt_out, own_folder, shard_key, take_masks

Files = Sequence[Sequence[Case]]
"""Test cases, file by file."""

LEFT = "test files get their masks here"


Look = Callable[[int, Any], None]
"""(which heatmap and seed, Dice of a lesion at every threshold of `GRID`); of the first heatmap."""


def make_masks(
    prepared: Prepared, fitted: Fitted, folder: Path, key: str
) -> tuple[Rows, list[MeanCurve]]:
    """Write the masks of all test images; those that shards have made are taken from these.

    Parameters
    ----------
    prepared : Prepared
    fitted : Fitted
    folder : Path
        Of masks.
    key : str
        Of what shards would have made, see `shards_key`.

    Returns
    -------
    rows : Rows
        Heatmap by heatmap and seed by seed, of each method by method.
    curves : list of MeanCurve
        One a heatmap and seed; empty but for those of the first heatmap.
    """
    files = by_file(prepared.cases.of("test"))
    whole = [Rows() for _ in fitted.of_heats]
    curves = [MeanCurve() for _ in fitted.of_heats]

    def look(of: int, dice: Any) -> None:
        curves[of].add(dice)

    dealt = dealt_out(prepared.run.folder, SEGMENT_STAGE, key, files, LEFT)
    here = sum(len(of) for own, part in dealt if part is None for of in own)
    with progress("masks and scores", here * len(fitted.of_heats)) as advance:
        for own, part in dealt:
            if part is None:
                some = _make(prepared, fitted, own, folder, advance, look)
            else:
                take_masks(part, prepared.config.heatmap_methods, folder)
                some = _take(part, look)
            for k, more in enumerate(some):
                whole[k] += more
    rows = Rows()
    for made, of_heat in zip(whole, fitted.of_heats, strict=True):
        rows += made.by_method([m.name for m in of_heat.methods])
    return rows, curves


def shards_key(prepared: Prepared, key: str) -> str:
    """Fingerprint of the masks that shards make: of the rules as they were fitted once.

    ``key`` is that of all masks of heatmaps.
    """
    stages = prepared.run.record.get("stages", {})
    made_of = [stages.get(s, {}).get("outputs") for s in (*inputs_of_masks(prepared), FIT_STAGE)]
    return fingerprint("masks in shards", 1, key, made_of)


def shard_of_masks(prepared: Prepared, shard: Shard, key: str) -> tuple[Run, Stage]:
    """The masks of a part of the test images, by rules that were fitted before; and their record.

    Parameters
    ----------
    prepared : Prepared
        Held as this shard, with all heatmaps in its run folder, and the rules.
    shard : Shard
    key : str
        See `shards_key`.
    """
    run = Run(own_folder(prepared.run.folder, shard))
    masks, rows = masks_folder(run.folder), rows_file(run.folder, HEATMAP_PART)
    folders = [method_folder(masks, method) for method in prepared.config.heatmap_methods]
    files = shard.own(by_file(prepared.cases.of("test")))

    def make(_: None) -> dict[str, Any]:
        for folder in folders:
            remove_tree(folder)
        fitted = read_fitted(prepared, fitted_folder(prepared.run.folder))
        dice: list[list[Any]] = [[] for _ in fitted.of_heats]
        count = sum(map(len, files)) * len(fitted.of_heats)
        with progress(f"masks and scores, shard {shard}", count) as advance:
            made = _make(prepared, fitted, files, masks, advance, lambda k, d: dice[k].append(d))
        write_shard_rows(rows, made, dice)
        return {"images": len(files)}

    what = f"masks of heatmaps, shard {shard}"
    return run, Stage(SEGMENT_STAGE, shard_key(key, shard), (*folders, rows), make, what=what)


def _take(part: Part, look: Look) -> list[Rows]:
    """The rows of a shard's masks."""
    rows, dice = read_shard_rows(rows_file(part.folder, HEATMAP_PART))
    for k, of in enumerate(dice):
        for d in of:
            look(k, d)
    return rows


def _make(
    prepared: Prepared,
    fitted: Fitted,
    files: Files,
    folder: Path,
    advance: Callable[..., None],
    look: Look,
) -> list[Rows]:
    """Write the masks of some files; their rows, one a heatmap and seed."""
    first = fitted.of_heats[0].name
    made = []
    for k, of in enumerate(fitted.of_heats):
        work = (Work(cases, of.masks) for cases in files)
        dice = partial(dice_at_cuts, prepared.cases.labels) if of.name == first else None
        rows = Rows()
        for scored in segment_cases(prepared, work, of.seed, masks=folder, look=dice):
            rows += scored.rows
            for said in scored.looked:
                if said is not None:
                    look(k, said)
            advance(scored.cases)
        made.append(rows)
    return made
