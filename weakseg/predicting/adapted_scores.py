"""The final score of `weakseg adapt`: where a manifest has masks, they are opened here alone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from weakseg.config import Config
from weakseg.data.case_files import case_mask
from weakseg.data.cases import Case
from weakseg.data.manifest import row_case
from weakseg.data.table import read_table
from weakseg.data.truth import read_true_mask
from weakseg.errors import count
from weakseg.predicting.inputs import MANIFESTS
from weakseg.progress import say
from weakseg.report.words import few_patients, too_few
from weakseg.runs import write_text
from weakseg.scores.mask_pair import mask_pair
from weakseg.scores.metrics import METRICS
from weakseg.scores.statistics import cluster_mean_interval
from weakseg.spreadsheets import csv_text

ALL = "all"
"""The row of all images."""

_METRICS = tuple(m for m in METRICS if m.column in ("dice", "missed", "no_overlap", "false_alarm"))
"""What is scored, as everywhere: the Dice, and images that are counted."""


def score(
    path: Path,
    manifest: Path,
    cases: Sequence[Case],
    masks: tuple[Path, Path],
    config: Config,
    data: Mapping[str, Any],
) -> None:
    """Write Dice and misses by label, before and after; nothing where there are no masks.

    As in ``summary.csv``, ``dice`` is a mean over images with a lesion and ``dice_all`` over all;
    ``missed`` counts lesions with an empty mask, ``no_overlap`` those of which no pixel is marked.

    Parameters
    ----------
    path : Path
    manifest : Path
        What the images were named by.
    cases : sequence of Case
        The images, as their masks are named.
    masks : tuple of Path
        Folders of the masks before and after.
    config : Config
        The run's: what the values of a mask mean.
    data : mapping
        The run's record of its data: the labels that mean healthy.
    """
    if not (manifest.is_file() and manifest.suffix.lower() in MANIFESTS):
        say("no mask was read: images of a folder have none, and there is no score")
        return
    rows = list(_rows(manifest, cases, masks, config, set(data.get("healthy_labels", []))))
    read = sum(row["read"] for row in rows)
    if not read:
        say("no mask was read: the manifest names none, and there is no score")
        return
    table = pd.DataFrame(rows)
    of = [(label, some) for label, some in table.groupby("label", sort=True)]
    of += [(ALL, table)] if len(of) > 1 else []
    lines = [_line(str(label), some, config) for label, some in of]
    write_text(path, csv_text(pd.DataFrame(lines).round(6)))
    whole, patients = lines[-1], table.loc[table["lesion"], "patient"].nunique()
    say(
        f"{count(read, 'mask')} {'was' if read == 1 else 'were'} read, for the score alone: "
        + (
            f"Dice of lesions {whole['dice_before']:.3f} before, {whole['dice_after']:.3f} after "
            f"({_gain(whole, patients)}), of {count(int(whole['lesions']), 'image')} with one"
            if whole["lesions"]
            else f"{count(int(whole['images']), 'image')}, none with a lesion"
        )
    )


def _gain(line: dict[str, Any], patients: int) -> str:
    """The difference of the means with its interval over patients, so that chance is told."""
    low, high = line["difference_low"], line["difference_high"]
    ends = (
        "no interval of one patient"
        if np.isnan(low)
        else f"95 % interval {low:+.3f} to {high:+.3f}"
    )
    if few_patients(patients) and not np.isnan(low):
        ends += f", which cannot be trusted: {too_few(patients)}"
    return f"{line['difference']:+.3f}, {ends}"


def _rows(
    manifest: Path,
    cases: Sequence[Case],
    masks: tuple[Path, Path],
    config: Config,
    healthy: set[str],
) -> Iterator[dict[str, Any]]:
    """A row an image whose truth is known: by its mask, or by a label that means healthy."""
    table = read_table(manifest, required=("image",))
    known = {row.image.resolve(): row for row in (row_case(table, r) for r in table.rows)}
    for case in cases:
        row = known[case.image.resolve()]
        if row.mask is None and row.label not in healthy:
            continue
        before, after = (
            case_mask(case, folder / f"{case.id}{case.formats.mask_suffix}") for folder in masks
        )
        truth = np.zeros_like(before)
        if row.mask is not None:
            truth = read_true_mask(row.mask, config.data.mask_rule, case.image)
        pairs = {"before": mask_pair(before, truth), "after": mask_pair(after, truth)}
        yield {
            "label": row.label,
            "patient": row.patient or case.id,
            "read": row.mask is not None,
            "lesion": pairs["before"].has_lesion,
            **{f"{m.column}_{k}": m.of(pair) for m in _METRICS for k, pair in pairs.items()},
        }


def _line(label: str, rows: pd.DataFrame, config: Config) -> dict[str, Any]:
    """Means over images with a lesion and over all; the difference with its interval."""
    lesions = rows[rows["lesion"]]
    gain = cluster_mean_interval(
        lesions["dice_after"] - lesions["dice_before"],
        lesions["patient"],
        bootstrap=config.scores.bootstrap,
        seed=config.seed,
    )
    return {
        "label": label,
        "images": len(rows),
        "lesions": len(lesions),
        "masks_read": int(rows["read"].sum()),
        "dice_before": float(lesions["dice_before"].mean()),
        "dice_after": float(lesions["dice_after"].mean()),
        "difference": gain.value,
        "difference_low": gain.low,
        "difference_high": gain.high,
        "dice_all_before": float(rows["dice_before"].mean()),
        "dice_all_after": float(rows["dice_after"].mean()),
        **{
            f"{m.column}_{when}": int(rows[f"{m.column}_{when}"].sum())
            for m in _METRICS[1:]
            for when in ("before", "after")
        },
    }
