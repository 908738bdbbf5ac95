"""What can be checked of how a run was kept honest, and what a reader has to answer himself."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from weakseg.config import DataConfig, SplitConfig
from weakseg.data.images import read_image
from weakseg.data.people import similar_names
from weakseg.errors import WeaksegError, count
from weakseg.layout import superseded_names
from weakseg.report.read import RunTables
from weakseg.runs import file_hash
from weakseg.scores import DISTANCE_RULE, EMPTY_RULE

SHOWN = 5
"""Names that a finding lists."""


class Check(NamedTuple):
    """Something that was looked at.

    Attributes
    ----------
    what : str
    holds : bool or None
        None where it is not shown: it cannot be told, or is no matter of yes or no.
    found : str
    asks : bool
        Whether it is a matter of yes or no.
    """

    what: str
    holds: bool | None
    found: str
    asks: bool = True


class Item(NamedTuple):
    """A question of the field's checklists.

    Attributes
    ----------
    claim, tripod : str
        Its numbers in CLAIM, 2024 Update (Tejani et al.), and in TRIPOD+AI (Collins et al. 2024);
        empty where a list does not ask just this.
    question : str
    answer : str
        What the run knows; empty where it does not.
    """

    claim: str
    tripod: str
    question: str
    answer: str


def checks_of(run: RunTables, patients_known: bool) -> list[Check]:
    """Everything that is checked of a run when its report is made."""
    return [
        _patients(run, patients_known),
        _similar_patients(run, patients_known),
        _same_files(run.splits),
        _classifier_splits(run),
        _upper_bounds(run),
        _test_masks(run),
        _superseded(run.folder),
    ]


def crossing(names: pd.Series, split: pd.Series) -> list[str]:
    """Names that stand in more than one split, sorted."""
    splits = split.groupby(names.astype(str)).nunique()
    return sorted(splits[splits > 1].index)


def _patients(run: RunTables, known: bool) -> Check:
    both = crossing(run.splits["patient"], run.splits["split"])
    what = "No patient stands on two sides of the splits"
    if both:
        return Check(what, False, f"in two splits: {_named(both)}")
    number = run.splits["patient"].nunique()
    if not known:
        return Check(
            what,
            None,
            f"patients are unknown; none of the {number} groups of near-duplicate images stands on "
            "two sides, but other images of one patient may",
        )
    return Check(what, True, f"{count(number, 'patient')}, each in one split")


def _similar_patients(run: RunTables, known: bool) -> Check:
    what = "No patient stands on two sides under two spellings of the name"
    if not known:
        return Check(what, None, "patients are unknown")
    splits = run.splits.groupby(run.splits["patient"].astype(str))["split"].agg(set)
    pairs = [
        " and ".join(group)
        for group in similar_names(splits.index)
        if len(set().union(*(splits[name] for name in group))) > 1
    ]
    if pairs:
        return Check(what, False, f"perhaps one person: {_named(pairs)}")
    return Check(what, True, "no two names in different splits differ in writing alone")


def _same_files(splits: pd.DataFrame) -> Check:
    """Byte by byte; only files of one size are read."""
    what = "No image file stands on two sides under two names"
    by_size: dict[int, list[tuple[str, str]]] = defaultdict(list)
    rows = zip(splits["image"].astype(str), splits["split"].astype(str), strict=True)
    try:
        # Once each: the slices of a volume are rows of one file. A series in a folder is no file.
        files = [r for r in dict.fromkeys(rows) if not Path(r[0]).is_dir()]
        if not files:
            return Check(what, None, "its images are folders of series")
        for image, split in files:
            by_size[Path(image).stat().st_size].append((image, split))
        alike: dict[str, list[tuple[str, str]]] = defaultdict(list)
        for alike_in_size in by_size.values():
            if len({split for _, split in alike_in_size}) > 1:
                for image, split in alike_in_size:
                    alike[file_hash(Path(image))].append((image, split))
    except (OSError, WeaksegError):
        return Check(what, None, "some images cannot be read as files any more")
    same = [of for of in alike.values() if len({split for _, split in of}) > 1]
    blank = [of for of in same if _is_blank(of[0][0])]
    pairs = [_pair(of) for of in same if of not in blank]
    if pairs:
        return Check(what, False, f"byte for byte the same: {_named(sorted(pairs))}")
    return Check(
        what,
        True,
        f"{len({image for image, _ in files})} files compared byte by byte"
        + (f", {sum(map(len, blank))} blank ones left out" if blank else "")
        + "; weakseg validate also looks for images that are nearly the same",
    )


def _is_blank(image: str) -> bool:
    """Whether a file shows one grey value: such slices stand in many volumes, and leak nothing."""
    try:
        return bool(np.ptp(read_image(Path(image))) == 0)
    except (OSError, ValueError, WeaksegError):
        return False


def _pair(same: Sequence[tuple[str, str]]) -> str:
    """One file of each split, and how many more there are."""
    firsts = {split: Path(image).name for image, split in reversed(same)}
    more = len(same) - len(firsts)
    return " and ".join(sorted(firsts.values())) + (f" (and {more} more)" if more else "")


def _classifier_splits(run: RunTables) -> Check:
    what = "Every classifier was trained with the splits of today"
    if not run.classifiers:
        return Check(what, None, "the run has no classifier", asks=False)
    now = dict(zip(run.splits["case"], run.splits["split"], strict=True))
    other = [
        str(seed)
        for seed, t in run.classifiers.items()
        if dict(zip(t.predictions["case"], t.predictions["split"], strict=True)) != now
    ]
    if other:
        return Check(what, False, f"other splits: seed {', '.join(other)}")
    return Check(what, True, f"seeds {', '.join(map(str, run.classifiers))}")


def _upper_bounds(run: RunTables) -> Check:
    what = "What was chosen on test masks is marked as an upper bound, and stands apart"
    entries = [(method, entry) for method, of in run.thresholds.items() for entry in of.values()]
    loose = sorted(
        {m for m, e in entries if "test mask" in str(e["chosen_on"]) and not e["upper_bound"]}
    )
    marked = sorted({m for m, e in entries if e["upper_bound"]})
    if loose:
        return Check(what, False, f"not marked: {_named(loose)}")
    return Check(what, True, _named(marked) if marked else "nothing was chosen on test masks")


def _test_masks(run: RunTables) -> Check:
    """By the names of the cases whose masks had a part in a method."""
    what = "No test mask is among those that a method saw, upper bounds aside"
    test = set(run.splits.loc[run.splits["split"] == "test", "case"].astype(str))
    entries = [
        (method, entry)
        for method, of in run.thresholds.items()
        for entry in of.values()
        if not entry["upper_bound"]
    ]
    methods = sorted({m for m, e in entries if test.intersection(map(str, e.get("seen", ())))})
    if methods:
        return Check(what, False, f"test masks had a part in {_named(methods)}")
    nameless = {m for m, e in entries if int(e["masks_seen"]) > len(e.get("seen", ()))}
    if nameless:
        return Check(what, None, f"masks without names had a part in {_named(sorted(nameless))}")
    elsewhere = {m: e["elsewhere"] for m, e in entries if e.get("elsewhere")}
    if elsewhere:
        networks = ", ".join(sorted(set[str]().union(*map(set, elsewhere.values()))))
        return Check(
            what,
            None,
            f"{_named(sorted(elsewhere))} stand on {networks}, and whether the test images are "
            "among the sets that taught it is not known here",
        )
    named = set[str]().union(*(map(str, e.get("seen", ())) for _, e in entries))
    return Check(what, True, f"{_were(len(named))} seen, each named, none of a test case")


def _were(masks: int) -> str:
    return f"{count(masks, 'mask')} {'was' if masks == 1 else 'were'}"


def _superseded(folder: Path) -> Check:
    what = "Networks of this run folder that were trained and dropped"
    names = superseded_names(folder)
    if not names:
        return Check(what, None, "none is kept; runs in other folders are not known here", False)
    return Check(what, None, f"{len(names)}, kept in superseded/: {_named(names)}", False)


def _window(data: DataConfig) -> str:
    if isinstance(data.window, str):
        return data.window
    centre, width = data.window
    return f"centre {centre:g}, width {width:g}"


def checklist(run: RunTables, patients_known: bool, seeds: Sequence[int]) -> list[Item]:
    """Questions of CLAIM and TRIPOD+AI, with the answers that the run knows."""
    data = run.data
    parts = data.get("splits", [])
    sizes = "; ".join(
        f"{s['split']}: {s['images']} images of "
        f"{s['patients'] if patients_known else 'unknown'} patients, {s['masks']} masks"
        for s in parts
    )
    c = run.config
    environment = run.record.get("environment", {})
    versions = ", ".join(f"{k} {v}" for k, v in environment.get("versions", {}).items())
    return [
        Item("7", "5a", "Where the data come from", str(data.get("source", ""))),
        Item("8", "6b", "Who was eligible, where and when", ""),
        Item(
            "9",
            "7",
            "What was done to the images first",
            f"intensities: {c.data.intensity}; window: {_window(c.data)}; longest side for the "
            f"classifier {c.data.image_size} pixels",
        ),
        Item("11", "", "How the images were de-identified", ""),
        Item("14, 16", "8a", "What the reference masks are, and who drew them", ""),
        Item("18", "8b", "How far two who draw the masks agree", ""),
        Item("21", "10", "How the number of patients was chosen", ""),
        Item("19", "12a", "How data were assigned to splits", _tested(c.data.split) + sizes),
        Item(
            "20",
            "",
            "What the splits are disjoint by",
            "patient" if patients_known else "group of near-duplicate images; patients unknown",
        ),
        Item("22", "12c", "The models", _models(run)),
        Item("23", "", "Software", versions),
        Item(
            "24",
            "",
            "How weights began",
            f"classifier: {c.classifier.weights}; seeds {', '.join(map(str, seeds)) or 'none'}",
        ),
        Item(
            "25, 26",
            "12c",
            "How training was set, and which epoch was kept",
            f"classifier: {c.classifier.epochs} epochs, the best on the validation split; all "
            "settings stand in the experiment file below",
        ),
        Item("28", "12e", "Measures", f"Dice first. {EMPTY_RULE} {DISTANCE_RULE}"),
        Item(
            "29",
            "23a",
            "Uncertainty",
            f"95 % intervals, bootstrap over patients, {c.scores.bootstrap} draws",
        ),
        Item("31", "", "How the model was explained", ", ".join(run.config.all_heatmaps)),
        Item("33", "", "Tests on data from elsewhere", ""),
        Item("36", "20b", "Who the patients are", ""),
        Item("39", "", "Where it fails", "lesions missed and false alarms, under Pictures"),
        Item("", "14", "Fairness between groups of patients", ""),
        Item("", "17", "Ethical approval", ""),
        Item("34, 42", "18c, 18d", "Registration and protocol", ""),
    ]


def _tested(split: SplitConfig) -> str:
    """Who is tested, where that is one part of several."""
    if split.folds is not None:
        return (
            f"the test split is fold {split.fold} (counted from 0) of {split.folds} folds, one of "
            f"{split.folds} runs that together test every patient once; "
        )
    if split.leave_out is not None:
        of = split.leave_out
        return (
            f"the test split is all patients with {of.value!r} in the column {of.column!r}, none "
            "of whom is in training or validation; "
        )
    return ""


def _models(run: RunTables) -> str:
    models = [f"classifier {run.config.classifier.arch}"] if run.classifiers else []
    for name in run.segmenters:
        models.append(f"{name}: {' and '.join(a for a, _ in run.config.segmenters[name].kinds)}")
    return "; ".join(models)


def _named(names: Sequence[str]) -> str:
    more = len(names) - SHOWN
    return ", ".join(names[:SHOWN]) + (f" and {more} more" if more > 0 else "")
