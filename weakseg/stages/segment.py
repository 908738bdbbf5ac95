"""The masks of a method by every seed, their thresholds and their scores, put into a run.

Of all test images, or of those of a shard.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from weakseg.data.cases import Case, by_file
from weakseg.data.series import with_company
from weakseg.layout import (
    fresh_masks,
    masks_folder,
    masks_stage,
    method_folder,
    rows_file,
    threshold_file,
)
from weakseg.methods.base import Entry, Method, Prediction
from weakseg.methods.prepared import Prepared
from weakseg.methods.rows import Rows
from weakseg.methods.segment_cases import score_predictions
from weakseg.methods.shard_rows import read_shard_rows, write_shard_rows
from weakseg.progress import progress
from weakseg.runs import Run, remove_tree, write_json
from weakseg.shards import Shard
from weakseg.stages.base import Stage
from weakseg.stages.heat_masks import LEFT, Files
from weakseg.stages.scoring import write_part
from weakseg.stages.shards import dealt_out, own_folder, shard_key, take_masks


class Ready(NamedTuple):
    """A method that is ready for the run's own cases.

    Attributes
    ----------
    method : Method
    says : callable
        Cases → what it says of each, in their order.
    """

    method: Method
    says: Callable[[Sequence[Case]], Iterable[Prediction]]


class OfSeed(NamedTuple):
    """What makes the masks of a seed.

    Attributes
    ----------
    seed : int
    entry : mapping
        Its entry of ``threshold.json``.
    ready : callable
        Gives what makes them; not called where others have made them all.
    """

    seed: int
    entry: Entry
    ready: Callable[[], Ready]


class Masks(NamedTuple):
    """The masks of a method.

    Attributes
    ----------
    name : str
        Of the method.
    part : str
        Of the scores, see `weakseg.stages.scoring.write_part`.
    seeds : list of int
        Under which they stand; some may come to nothing.
    made : callable
        Gives what makes them, seed by seed.
    """

    name: str
    part: str
    seeds: Sequence[int]
    made: Callable[[], Iterable[OfSeed]]


def segment_by(prepared: Prepared, masks: Masks, key: str) -> None:
    """Write the masks of a method by every seed, their thresholds, and their scores.

    Those that shards have made are taken from these.

    Parameters
    ----------
    prepared : Prepared
    masks : Masks
    key : str
        Of what shards would have made.
    """
    run, name, seeds = prepared.run.folder, masks.name, list(masks.seeds)
    fresh = fresh_masks(run, name)
    remove_tree(fresh)
    dealt = dealt_out(run, masks_stage(name), key, by_file(prepared.cases.of("test")), LEFT)
    rows_of = {
        part.shard: read_shard_rows(rows_file(part.folder, masks.part))[0]
        for _, part in dealt
        if part is not None
    }
    rows, thresholds = Rows(), dict[str, Entry]()
    here = sum(len(of) for files, part in dealt if part is None for of in files)
    with progress(f"masks of {name}", len(seeds) * here) as advance:
        for of in masks.made():
            thresholds[f"seed-{of.seed}"] = of.entry
            for files, part in dealt:
                if part is None:
                    rows += _make(prepared, of, files, fresh, advance)
                else:
                    rows += rows_of[part.shard][seeds.index(of.seed)]
    for _, part in dealt:
        if part is not None:
            take_masks(part, [name], fresh)
    _replace_masks(run, fresh, name, thresholds)
    write_part(prepared, masks.part, rows)


def shard_of(prepared: Prepared, masks: Masks, shard: Shard, key: str) -> tuple[Run, Stage]:
    """The masks of a part of the test images, for `segment_by` to take; and their record.

    Parameters
    ----------
    prepared : Prepared
        Held as this shard.
    masks : Masks
    shard : Shard
    key : str
        Of the masks of all shards.
    """
    run, name = Run(own_folder(prepared.run.folder, shard)), masks.name
    folder, rows = masks_folder(run.folder), rows_file(run.folder, masks.part)
    files = shard.own(by_file(prepared.cases.of("test")))

    def make(_: None) -> dict[str, Any]:
        remove_tree(method_folder(folder, name))
        by_seed, thresholds = {s: Rows() for s in masks.seeds}, dict[str, Entry]()
        count = sum(map(len, files)) * len(masks.seeds)
        with progress(f"masks of {name}, shard {shard}", count) as advance:
            for of in masks.made():
                thresholds[f"seed-{of.seed}"] = of.entry
                by_seed[of.seed] = _make(prepared, of, files, folder, advance)
        if thresholds:
            write_json(threshold_file(folder, name), thresholds)
        write_shard_rows(rows, list(by_seed.values()))
        return {"images": len(files)}

    of_method, what = method_folder(folder, name), f"masks of {name}, shard {shard}"
    return run, Stage(masks_stage(name), shard_key(key, shard), (of_method, rows), make, what=what)


def _make(
    prepared: Prepared, of: OfSeed, files: Files, folder: Path, advance: Callable[..., None]
) -> Rows:
    """Write the masks of some files by a seed; their rows."""
    rows = Rows()
    if not files:
        return rows
    ready = of.ready()
    own = [case for cases in files for case in cases]
    asked = own
    if ready.method.looks_beside:
        asked = with_company([c for f in by_file(prepared.cases.of("test")) for c in f], own)
    ids = {case.id for case in own}
    said = zip(asked, ready.says(asked), strict=True)
    kept = ((case, prediction) for case, prediction in said if case.id in ids)
    for scored in score_predictions(prepared, ready.method, kept, of.seed, folder):
        rows += scored.rows
        advance(scored.cases)
    return rows


def _replace_masks(
    run: Path, fresh: Path, method: str, thresholds: Mapping[str, Mapping[str, Any]]
) -> None:
    """Put new masks of a method in the place of earlier ones; without thresholds it has none."""
    masks = method_folder(masks_folder(run), method)
    if thresholds:
        write_json(threshold_file(fresh, method), thresholds)
    remove_tree(masks)
    if thresholds:
        masks.parent.mkdir(exist_ok=True)
        method_folder(fresh, method).replace(masks)
    remove_tree(fresh)
