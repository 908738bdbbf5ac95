"""The masks of a method by every seed, their thresholds and their scores, put into a run."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from weakseg.data.cases import Case
from weakseg.layout import fresh_masks, masks_folder, method_folder, threshold_file
from weakseg.methods.base import Entry, Method, Prediction
from weakseg.methods.prepared import Prepared
from weakseg.methods.rows import Rows
from weakseg.methods.segment_cases import score_predictions
from weakseg.progress import progress
from weakseg.runs import remove_tree, write_json
from weakseg.stages.scoring import write_part

OfSeed = tuple[int, Entry, Method, Iterable[tuple[Case, Prediction]]]
"""A seed, its entry of ``threshold.json``, its method, and what that says of the test cases."""


def segment_by(
    prepared: Prepared, name: str, part: str, seeds: int, made: Iterable[OfSeed]
) -> None:
    """Write the masks of a method by every seed, their thresholds, and their scores.

    Parameters
    ----------
    prepared : Prepared
    name : str
        Of the method.
    part : str
        Of the scores, see `weakseg.stages.scoring.write_part`.
    seeds : int
        How many there are, of which some may come to nothing.
    made : iterable of OfSeed
    """
    fresh = fresh_masks(prepared.run.folder, name)
    remove_tree(fresh)
    rows, thresholds = Rows(), dict[str, Entry]()
    with progress(f"masks of {name}", seeds * len(prepared.cases.of("test"))) as advance:
        for seed, entry, method, predictions in made:
            thresholds[f"seed-{seed}"] = entry
            for scored in score_predictions(prepared, method, predictions, seed, fresh):
                rows += scored.rows
                advance(scored.cases)
    _replace_masks(prepared.run.folder, fresh, name, thresholds)
    write_part(prepared, part, rows)


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
