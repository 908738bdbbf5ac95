"""What a report reads of a run folder.

One room for the tables and how each is read: whether one is of the run's present data and settings.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from weakseg import contents
from weakseg.config import (
    PHANTOM,
    Config,
    config_of_run,
    curve_fingerprint,
    filtered_fingerprint,
    same_start,
)
from weakseg.current import changed_input
from weakseg.data.case_files import case_mask
from weakseg.data.cases import Case
from weakseg.data.manifest import named_cases, read_configured, table_cases
from weakseg.disk import as_path
from weakseg.errors import ArgumentError, RunError, WeaksegError, check_argument
from weakseg.layout import (
    BEST,
    CLASSIFIER_SCORES,
    CURVES,
    EQUIVALENCE,
    EQUIVALENCE_STAGE,
    EXAMPLES,
    FILTERED,
    FILTERED_ANSWERS,
    FILTERED_STAGE,
    LESIONS,
    METRICS,
    PER_CASE,
    PER_VOLUME,
    PREDICTIONS,
    SETTINGS,
    SUMMARY,
    SWEEP,
    SWEEP_STAGE,
    VOLUMES,
    attribution_stage,
    attribution_summary,
    condition_folder,
    condition_stage,
    config_file,
    heatmap_file,
    heatmap_folder,
    mask_file,
    masks_folder,
    scores_file,
    seed_folder,
    segmenter_folder,
    splits_file,
    threshold_files,
)
from weakseg.masks.kept import read_thresholds
from weakseg.methods.find import method_names
from weakseg.methods.network import ON_LABELS
from weakseg.report.intact import check_networks, check_outputs, check_splits, data_changed
from weakseg.runs import file_hash, open_run
from weakseg.scores.on_labels import OnLabels, added_up
from weakseg.stored import read_csv, read_json


@dataclass(frozen=True)
class SeedTables:
    """The classifier of one seed: ``metrics.csv``, ``predictions.csv`` and ``scores.json``."""

    metrics: pd.DataFrame
    predictions: pd.DataFrame
    scores: dict[str, Any]


@dataclass(frozen=True)
class SegmenterTables:
    """The supervised network of one seed: ``metrics.csv`` and ``settings.json``."""

    metrics: pd.DataFrame
    settings: dict[str, Any]


@dataclass(frozen=True)
class RunTables:
    """A run folder, read.

    Attributes
    ----------
    name : str
        What the page calls the run; different for each run of a report.
    folder : Path
    record : dict
        ``run.json``.
    config : Config
    splits, per_case, summary, curves : DataFrame
        The last three are empty where nothing could be scored.
    per_volume, volumes : DataFrame
        As ``per_case`` and ``summary``, of volumes whose slices are the cases; else empty.
    lesions : DataFrame
        ``scores/lesions.csv``; empty where no lesion was found, or in runs of earlier versions.
    thresholds : dict
        method → ``seed-<n>`` → what ``threshold.json`` holds.
    classifiers : dict
        seed → its tables.
    segmenters : dict
        name → seed → its ``metrics.csv`` and ``settings.json``.
    sweep : DataFrame
        ``scores/sweep.csv``; empty where none was made, or of another classifier.
    equivalence : DataFrame
        ``scores/equivalence.csv``; empty where the curve was not made.
    filtered : DataFrame
        ``scores/filtered.csv``; empty where nothing was retrained, or with other splits.
    filtered_answers : dict
        ``scores/filtered.json``; empty as well.
    attribution : dict
        segmenter → what attributions of its masks preserve; of those that were explained.
    data_changed : bool
        Whether the manifest or one of its files is another than when the run was made.
    """

    name: str
    folder: Path
    record: dict[str, Any]
    config: Config
    splits: pd.DataFrame
    per_case: pd.DataFrame
    summary: pd.DataFrame
    curves: pd.DataFrame
    thresholds: dict[str, dict[str, Any]]
    classifiers: dict[int, SeedTables]
    segmenters: dict[str, dict[int, SegmenterTables]]
    sweep: pd.DataFrame
    equivalence: pd.DataFrame
    filtered: pd.DataFrame
    filtered_answers: dict[str, Any]
    data_changed: bool = False
    per_volume: pd.DataFrame = field(default_factory=pd.DataFrame)
    volumes: pd.DataFrame = field(default_factory=pd.DataFrame)
    lesions: pd.DataFrame = field(default_factory=pd.DataFrame)
    attribution: dict[str, dict[str, Any]] = field(default_factory=dict)

    @property
    def data(self) -> dict[str, Any]:
        """The set as the record describes it."""
        return dict(self.record.get("data", {}))

    @property
    def stages(self) -> dict[str, dict[str, Any]]:
        """Stage → its entry in the record."""
        return dict(self.record.get("stages", {}))

    @property
    def on_labels(self) -> dict[str, OnLabels]:
        """Method → what became of the validation images, where their labels chose its cuts.

        Left out is one whose seeds do not all tell, as those chosen by an earlier version do not.
        """
        found = {}
        for method, entries in self.thresholds.items():
            each = [e[ON_LABELS] for e in entries.values() if e.get(ON_LABELS)]
            counts = added_up(each)
            if counts is not None and len(each) == len(entries):
                found[method] = counts
        return found

    @property
    def validated(self) -> frozenset[str]:
        """The validation images."""
        return frozenset(self.splits.loc[self.splits["split"] == "val", "case"].astype(str))

    def heatmap_path(self, method: str, seed: int, case: str) -> Path:
        """Where the heatmap lies of which a method made the mask of a case."""
        name, _ = self.config.heatmap_methods[method]
        arch = self.config.classifier.arch
        return heatmap_file(heatmap_folder(self.folder, arch, seed, name), case)

    def averaged(self, method: str) -> list[int]:
        """Seeds of the networks whose mean a method is; empty where each stands for itself."""
        if method in self.config.heatmap_methods:
            name, _ = self.config.heatmap_methods[method]
            together = self.config.seeds if self.config.all_heatmaps[name].ensemble else []
        else:
            entries = self.thresholds.get(method, {}).values()
            together = next((list(e.get("networks", [])) for e in entries), [])
        return together if len(together) > 1 else []

    def mask(self, method: str, seed: int, case: Case) -> np.ndarray:
        """The mask that a method has made of a case, on the case's own grid.

        Raises
        ------
        DataError
            If it cannot be read.
        """
        suffix = case.formats.mask_suffix
        path = mask_file(masks_folder(self.folder), method, seed, case.file, suffix)
        return case_mask(case, path)

    def examples_path(self, seed: int, condition: str) -> Path:
        """Where some test images lie as the network of a condition sees them."""
        arch = self.config.classifier.arch
        return condition_folder(self.folder, arch, seed, condition) / EXAMPLES

    @property
    def manifest(self) -> Path:
        """The manifest; that of the phantom lies beside its images."""
        images = self.splits["image"].tolist()
        source = self.data.get("source", "")
        if source == PHANTOM and images:
            return Path(images[0]).parent.parent / "labels.csv"
        return Path(source)

    @cached_property
    def cases(self) -> Mapping[str, Case]:
        """Name → case; without true masks where the manifest is no longer there."""
        try:
            named = table_cases(read_configured(self.manifest, self.config.data))
        except (OSError, WeaksegError):
            named = []
        by_place = {(str(c.image), c.slice): c for c in named}
        rows = self.splits.to_dict("records")
        at = [int(r["slice"]) if str(r.get("slice", "")).isdecimal() else None for r in rows]
        found = [by_place.get((r["image"], z)) for r, z in zip(rows, at, strict=True)]
        if not all(found):
            of = [
                Case("", Path(r["image"]), r["label"], slice=z)
                for r, z in zip(rows, at, strict=True)
            ]
            found = [c or bare for c, bare in zip(found, named_cases(of), strict=True)]
        names = (str(r["case"]) for r in rows)
        return {name: replace(c, id=name) for name, c in zip(names, found, strict=True) if c}


def read_runs(folders: Sequence[Path], *, look_at_data: bool = True) -> list[RunTables]:
    """Read run folders, each under a name of its own.

    Parameters
    ----------
    folders : sequence of Path
    look_at_data : bool, optional
        Whether to read the manifest's files, to say where they have changed since.

    Raises
    ------
    RunError
        If a folder is not a run, lacks what the stages write, holds files that are not what they
        wrote, or stands twice.
    """
    if isinstance(folders, str | Path):
        folders = [folders]
    check_argument(folders, Sequence, "runs", "run folders, at least one")
    if not folders:
        raise ArgumentError("runs is empty.", where="runs", expected="run folders, at least one")
    paths = [as_path(f, "a run folder") for f in folders]
    resolved = [p.resolve() for p in paths]
    if len(set(resolved)) < len(resolved):
        twice = next(p for p in paths if resolved.count(p.resolve()) > 1)
        raise RunError("The same run folder stands twice.", where=str(twice), fix="name it once")
    records = [open_run(p).record for p in paths]
    names = [str(r.get("name", p.name)) for r, p in zip(records, paths, strict=True)]
    if len(set(names)) < len(names):
        names = [str(p) for p in paths]
    runs = [_read_run(p, n) for p, n in zip(paths, names, strict=True)]
    if not look_at_data:
        return runs
    return [
        replace(r, data_changed=data_changed(r.folder, r.manifest, r.config, r.record))
        for r in runs
    ]


def _read_run(folder: Path, name: str) -> RunTables:
    config_path = config_file(folder)
    for needed in (config_path, splits_file(folder)):
        if not needed.is_file():
            raise RunError(
                "The run folder is not complete.",
                where=str(needed),
                fix="run `weakseg compare CONFIG` again; it goes on where it ended",
            )
    config = config_of_run(folder)
    check_outputs(folder, config, open_run(folder).record)
    check_splits(folder)
    check_networks(folder, config)
    filtered, filtered_answers = _filtered(folder, config)
    methods = method_names(config)
    return RunTables(
        name=name,
        folder=folder,
        record=open_run(folder).record,
        config=config,
        splits=read_csv(splits_file(folder), contents.SPLITS, unique=("case",), blank=False),
        per_case=_scores(folder, PER_CASE, contents.PER_CASE, "case", "method", "seed"),
        summary=_scores(folder, SUMMARY, contents.SUMMARY, "method"),
        curves=_scores(folder, CURVES, contents.CURVES, "seed", "threshold"),
        thresholds={
            method: read_thresholds(p) for method, p in threshold_files(folder) if method in methods
        },
        classifiers=_classifiers(folder, config),
        segmenters=_segmenters(folder, config),
        sweep=_sweep(folder),
        equivalence=_equivalence(folder, config),
        filtered=filtered,
        filtered_answers=filtered_answers,
        per_volume=_scores(folder, PER_VOLUME, contents.PER_CASE, "case", "method", "seed"),
        volumes=_scores(folder, VOLUMES, contents.SUMMARY, "method"),
        lesions=_scores(folder, LESIONS, contents.LESIONS, "method", "seed", "case", "lesion"),
        attribution=_attribution(folder, config),
    )


def _scores(folder: Path, name: str, columns: dict[str, Any], *of: str) -> pd.DataFrame:
    """A table of scores, of which ``of`` names a row; empty where there is none."""
    path = scores_file(folder, name)
    return read_csv(path, columns, unique=of) if path.exists() else pd.DataFrame()


def _classifiers(folder: Path, config: Config) -> dict[int, SeedTables]:
    tables = {}
    for seed in config.seeds:
        part = seed_folder(folder, config.classifier.arch, seed)
        if (part / CLASSIFIER_SCORES).exists():
            tables[seed] = SeedTables(
                read_csv(part / METRICS, contents.CLASSIFIER_METRICS, unique=("epoch",)),
                read_csv(part / PREDICTIONS, contents.PREDICTIONS, unique=("case",)),
                read_json(part / CLASSIFIER_SCORES, model=contents.ClassifierScores),
            )
    return tables


def _segmenters(folder: Path, config: Config) -> dict[str, dict[int, SegmenterTables]]:
    tables: dict[str, dict[int, SegmenterTables]] = {}
    for name in config.segmenters:
        for seed in config.segmenter_seeds(name):
            part = segmenter_folder(folder, name, seed)
            if (part / SETTINGS).exists():
                metrics = read_csv(part / METRICS, contents.SEGMENTER_METRICS, unique=("epoch",))
                settings = read_json(part / SETTINGS, model=contents.SegmenterSettings)
                tables.setdefault(name, {})[seed] = SegmenterTables(metrics, settings)
    return tables


def _attribution(folder: Path, config: Config) -> dict[str, dict[str, Any]]:
    """What was explained of the segmenters, if it is of the splits and the masks of the run."""
    run, found = open_run(folder), dict[str, dict[str, Any]]()
    record = run.record
    for name in config.segmenters:
        made = record.get("stages", {}).get(attribution_stage(name))
        if made is None or made.get("data") != record.get("data", {}).get("splits_key"):
            continue
        if changed_input(run, made) is not None:
            continue
        bests = {s: segmenter_folder(folder, name, s) / BEST for s in made.get("weights", {})}
        if all(b.is_file() and file_hash(b) == made["weights"][s] for s, b in bests.items()):
            path = attribution_summary(folder, name)
            found[name] = read_json(path, model=contents.AttributionContent)
    return found


def _sweep(folder: Path) -> pd.DataFrame:
    """The sweep, if it is of the splits that the run has now."""
    record = open_run(folder).record
    made = record.get("stages", {}).get(SWEEP_STAGE)
    if made is None or made.get("data") != record.get("data", {}).get("splits_key"):
        return pd.DataFrame()
    return _scores(folder, SWEEP, contents.SWEEP, "method", "layer", "threshold")


def _equivalence(folder: Path, config: Config) -> pd.DataFrame:
    """The curve, if it is of the network, the settings and the splits that the run has now."""
    name, record = config.equivalence.segmenter, open_run(folder).record
    made = record.get("stages", {}).get(EQUIVALENCE_STAGE)
    if name is None or made is None or made.get("segmenter") != name:
        return pd.DataFrame()
    if not same_start(made, config, name):
        return pd.DataFrame()
    settings = curve_fingerprint(config, name)
    now = record.get("data", {}).get("splits_key")
    if made.get("settings") != settings or made.get("data") != now:
        return pd.DataFrame()
    return _scores(folder, EQUIVALENCE, contents.EQUIVALENCE, "case", "draw", "k")


def _filtered(folder: Path, config: Config) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Filtered retraining, if it is of the splits, the networks and the seeds of the run."""
    none: tuple[pd.DataFrame, dict[str, Any]] = (pd.DataFrame(), {})
    record = open_run(folder).record
    stages, answers = record.get("stages", {}), scores_file(folder, FILTERED_ANSWERS)
    made = stages.get(FILTERED_STAGE)
    if made is None or not answers.exists():
        return none
    if made.get("data") != record.get("data", {}).get("splits_key"):
        return none
    if made.get("asked") != filtered_fingerprint(config):
        return none
    arch = config.classifier.arch
    if any(condition_stage(arch, seed, "raw") not in stages for seed in config.seeds):
        return none
    for seed, made_by in made.get("weights", {}).items():
        best = seed_folder(folder, arch, seed) / BEST
        if not best.is_file() or file_hash(best) != made_by:
            return none
    content = read_json(answers, model=contents.FilteredAnswers)
    table = _scores(folder, FILTERED, contents.FILTERED, "condition", "network")
    return (table, content) if content.get("seeds") == list(config.seeds) and len(table) else none
