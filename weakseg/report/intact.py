"""Whether what a report reads is still what the run has made, and of which images."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from weakseg.config import Config
from weakseg.data.digests import read_known
from weakseg.data.fingerprint import data_fingerprint
from weakseg.errors import RunError, WeaksegError
from weakseg.layout import (
    BEST,
    EQUIVALENCE_STAGE,
    FILTERED_STAGE,
    FLOORS_STAGE,
    SCORES_STAGE,
    SEGMENT_STAGE,
    SWEEP_STAGE,
    attribution_stage,
    classifier_scores_stage,
    classifier_stage,
    data_files,
    heatmap_stage,
    masks_stage,
    predictions_stage,
    scores_folder,
    seed_folder,
    segmenter_folder,
    segmenter_stage,
)
from weakseg.methods.find import kind_of, method_names
from weakseg.outputs import Damage, find_damage, in_words
from weakseg.progress import say
from weakseg.runs import file_hash, open_run

PICTURES = (".npz", ".png", ".nii.gz")
"""Heatmaps and masks: whoever deletes them to save room gets a report without these pictures."""


def check_outputs(folder: Path, config: Config, record: Mapping[str, Any]) -> None:
    """Refuse tables, weights, heatmaps or masks that are not what their stages wrote.

    Raises
    ------
    RunError
        With the first file.
    """
    stages = record.get("stages", {})
    for name in stages_read(config):
        entry = stages.get(name, {})
        if "outputs" not in entry:
            continue
        damages = [d for d in find_damage(folder, name, entry) if not _is_spared(d)]
        if damages:
            raise RunError(
                "A file of the run folder is not what its stage wrote.",
                where=str(folder / damages[0].path),
                found=f"{in_words(damages)} (of the stage {name})",
                fix=_again(folder, name, config),
            )


def _again(folder: Path, stage: str, config: Config) -> str:
    """What makes a stage anew: `compare` does, but for what it does not make."""
    explained = next((n for n in config.segmenters if attribution_stage(n) == stage), None)
    if explained is None:
        return "run `weakseg compare CONFIG` again; it makes anew what is damaged"
    return f"run `weakseg explain-segmenter {folder} --method {explained} --force`"


def stages_read(config: Config) -> Iterator[str]:
    """Every stage whose outputs a report reads."""
    arch = config.classifier.arch
    for seed in config.seeds:
        yield from (classifier_stage(arch, seed), predictions_stage(arch, seed))
        yield classifier_scores_stage(arch, seed)
    for name in config.all_heatmaps:
        yield from (heatmap_stage(arch, seed, name) for seed in config.heatmap_seeds(name))
    for name in config.segmenters:
        yield from (segmenter_stage(name, seed) for seed in config.segmenter_seeds(name))
    yield from dict.fromkeys(kind_of(config, m).stage(m) for m in method_names(config))
    yield from (attribution_stage(name) for name in config.segmenters)
    yield from (FLOORS_STAGE, SCORES_STAGE)
    yield from (SWEEP_STAGE, EQUIVALENCE_STAGE, FILTERED_STAGE)


def _is_spared(damage: Damage) -> bool:
    return damage.missing and damage.path.endswith(PICTURES)


def data_changed(folder: Path, manifest: Path, config: Config, record: Mapping[str, Any]) -> bool:
    """Whether the manifest or a file that it names is another than when the run was made.

    It is told by the fingerprint that every other command goes by, and by the list of files that
    the run in ``folder`` keeps. Where it cannot be, that is
    said, and nothing counts as changed.
    """
    before = record.get("data", {}).get("fingerprint")
    if before is None:
        return False
    try:
        known = read_known(data_files(folder))
        return data_fingerprint(manifest, config.data, known) != before
    except (OSError, WeaksegError):
        say(f"{manifest}: not found; whether its images are those of the run is not known")
        return False


def check_networks(folder: Path, config: Config) -> None:
    """Refuse masks of one network beside the scores of another."""
    stages = open_run(folder).record.get("stages", {})
    arch = config.classifier.arch
    made_by = [
        (seed_folder(folder, arch, seed), made)
        for seed, made in stages.get(SEGMENT_STAGE, {}).get("weights", {}).items()
    ]
    for name in config.segmenters:
        entry = stages.get(masks_stage(name), {})
        for seed, made in entry.get("weights", {}).items():
            made_by.append((segmenter_folder(folder, name, seed), made))
        for seed, made in entry.get("classifiers", {}).items():
            made_by.append((seed_folder(folder, arch, seed), made))
    for part, made in made_by:
        best = part / BEST
        if not best.is_file() or file_hash(best) != made:
            raise RunError(
                "The run's masks were made by another network than it holds now.",
                where=str(best),
                fix="run `weakseg compare CONFIG` again; it makes anew what is out of date",
            )


def check_splits(folder: Path) -> None:
    """Refuse scores of other splits than the run has now."""
    record = open_run(folder).record
    now = record.get("data", {}).get("splits_key")
    scored = record.get("stages", {}).get(SCORES_STAGE, {}).get("data", now)
    if scored != now:
        raise RunError(
            "The run's scores are of other data or splits than it holds now.",
            where=str(scores_folder(folder)),
            fix="run `weakseg compare CONFIG` again; it makes anew what is out of date",
        )
