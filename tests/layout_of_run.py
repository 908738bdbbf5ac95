"""Every file that a finished run should hold, as `weakseg.layout` names them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from tests.tiny import read_rows
from weakseg import layout
from weakseg.config import Config, load_config
from weakseg.engines.base import TORCH
from weakseg.engines.kept import SUFFIX
from weakseg.masks.rules import RULES
from weakseg.methods.base import ENGINE
from weakseg.methods.find import kind_of
from weakseg.report.page import build_report
from weakseg.report.read import read_runs
from weakseg.runs import RECORD, read_json


def files_of(run: Path) -> set[str]:
    """Every file below a run folder but the lock."""
    files = {str(p.relative_to(run)) for p in run.rglob("*") if p.is_file()}
    return files - {".lock"}


def named_files(run: Path) -> set[str]:
    """What its experiment, its cases and its record let expect there."""
    config = load_config(layout.config_file(run))
    named = {run / RECORD, layout.config_file(run), layout.splits_file(run)}
    named |= {layout.outputs_file(run, stage) for stage in _stages(run)}
    named |= {layout.images_file(run), layout.data_files(run)}
    parts = (
        _classifiers,
        _heatmaps,
        _graphs,
        _masks,
        _segmenters,
        _filtered,
        _curve,
        _tables,
        _report,
    )
    for part in parts:
        named |= set(part(run, config))
    return {str(p.relative_to(run)) for p in named}


def _stages(run: Path) -> dict:
    return read_json(run / RECORD)["stages"]


def _cases(run: Path, split: str) -> list[str]:
    return [r["case"] for r in read_rows(layout.splits_file(run)) if r["split"] == split]


def _file(row: dict[str, str]) -> tuple[str, str]:
    """The name and the ending of what is written beside a case's image."""
    suffix = ".nii.gz" if row["image"].endswith(".nii.gz") else ".png"
    return row["case"].rpartition("_s")[0] if row.get("slice") else row["case"], suffix


def _dims(run: Path) -> int:
    return read_json(run / RECORD)["data"]["dims"]


def _has_classifier(run: Path, config: Config) -> bool:
    return _dims(run) == config.classifier.dims


def _classifiers(run: Path, config: Config) -> Iterator[Path]:
    for seed in config.seeds if _has_classifier(run, config) else ():
        folder = layout.seed_folder(run, config.classifier.arch, seed)
        for name in (layout.BEST, layout.LAST, layout.METRICS, layout.PREDICTIONS):
            yield folder / name
        yield folder / layout.CLASSIFIER_SCORES
        if config.classifier.arch.startswith("mil:"):
            yield folder / layout.INSTANCES


def _heatmaps(run: Path, config: Config) -> Iterator[Path]:
    arch = config.classifier.arch
    rows = read_rows(layout.splits_file(run))
    for name in config.all_heatmaps if _has_classifier(run, config) else ():
        further = name in config.heatmaps
        for seed in config.heatmap_seeds(name):
            folder = layout.heatmap_folder(run, arch, seed, name)
            assert layout.heatmap_stage(arch, seed, name) in _stages(run)
            if config.all_heatmaps[name].auc_drop is not None:
                yield layout.scales_file(folder)
            if config.all_heatmaps[name].learns_weights:
                yield layout.fusion_file(folder)
            for r in rows:
                if not further or r["split"] == "test" or r["label"] == "tumor":
                    yield layout.heatmap_file(folder, r["case"])
    asked = config.filtered
    if asked is not None and asked.target not in ("same", config.heatmap.target):
        for seed in config.seeds:
            folder = layout.heatmap_folder(run, arch, seed, config.heatmap.method, asked.target)
            yield from (layout.heatmap_file(folder, r["case"]) for r in rows)


def _graphs(run: Path, config: Config) -> Iterator[Path]:
    """What an engine has kept: one for each set of weights, under names of their hashes."""
    if config.engine == TORCH or not _has_classifier(run, config):
        return
    arch = config.classifier.arch
    for name in config.all_heatmaps:
        for seed in config.heatmap_seeds(name):
            entry = _stages(run)[layout.heatmap_stage(arch, seed, name)]
            kept = list(layout.graphs_folder(run, arch, seed, name).glob(f"*{SUFFIX}"))
            assert bool(kept) == (entry.get(ENGINE, TORCH) != TORCH)
            yield from kept
    for name in config.segmenters:
        for seed in config.segmenter_seeds(name):
            yield from layout.segmenter_graphs(run, name, seed).glob(f"*{SUFFIX}")


def _masks(run: Path, config: Config) -> Iterator[Path]:
    masks = layout.masks_folder(run)
    seeds: dict[str, list[int]] = {n: list(config.mask_seeds(n)) for n in config.segmenters}
    if _has_classifier(run, config):
        yield layout.masks_config(run)
        left_out = _stages(run)[layout.SEGMENT_STAGE]["left_out"]
        for method, (name, rule) in config.heatmap_methods.items():
            if method in left_out:
                continue
            seeds[method] = config.heatmap_seeds(name)
            if RULES[rule].trainable:
                yield from (layout.trained_file(masks, method, s) for s in seeds[method])
    seeds |= {name: kind_of(config, name).seeds(config, name) for name in _agreed(run, config)}
    for method, of in seeds.items():
        yield layout.threshold_file(masks, method)
        for seed in of:
            for r in read_rows(layout.splits_file(run)):
                if r["split"] == "test":
                    yield layout.mask_file(masks, method, seed, *_file(r))


def _agreed(run: Path, config: Config) -> list[str]:
    """Methods of ``consensus`` that have made masks."""
    made = _stages(run)
    return [
        name
        for name in config.consensus
        if not made.get(layout.masks_stage(name), {"left_out": {name: ""}})["left_out"]
    ]


def _segmenters(run: Path, config: Config) -> Iterator[Path]:
    lesions = [r for r in read_rows(layout.splits_file(run)) if r["label"] == "tumor"]
    for name, settings in config.segmenters.items():
        for seed in config.segmenter_seeds(name):
            folder = layout.segmenter_folder(run, name, seed)
            for file in (layout.BEST, layout.LAST, layout.METRICS, layout.SETTINGS):
                yield folder / file
            if not settings.weak:
                continue
            told = [
                layout.target_file(run, name, seed, *_file(r))
                for r in lesions
                if r["split"] == "train"
            ]
            assert any(p.exists() for p in told)
            yield from (p for p in told if p.exists())  # images in which nothing is found have none


def _filtered(run: Path, config: Config) -> Iterator[Path]:
    if config.filtered is None:
        return
    arch = config.classifier.arch
    for seed in config.seeds:
        for condition in config.filtered.conditions():
            assert layout.condition_stage(arch, seed, condition.name) in _stages(run)
            folder = layout.condition_folder(run, arch, seed, condition.name)
            for name in (layout.PREDICTIONS, layout.ORIGINAL, layout.METRICS, layout.EXAMPLES):
                yield folder / name
            if config.filtered.keep_networks:
                yield folder / layout.BEST
                yield folder / layout.LAST
        if config.filtered.faithfulness.images:
            folder = layout.faithfulness_folder(run, arch, seed)
            yield from (folder / name for name in layout.FAITHFULNESS)
    yield layout.scores_file(run, layout.FILTERED)
    yield layout.scores_file(run, layout.FILTERED_ANSWERS)


def _curve(run: Path, config: Config) -> Iterator[Path]:
    made = _stages(run).get(layout.EQUIVALENCE_STAGE)
    if made is None:
        return
    yield layout.scores_file(run, layout.EQUIVALENCE)
    for draw in range(made["draws"]):
        for k in made["counts"]:
            yield layout.point_file(run, made["segmenter"], draw, k)


def _tables(run: Path, config: Config) -> Iterator[Path]:
    sliced = read_json(run / RECORD)["data"].get("sliced", False)
    for name in (layout.PER_CASE, layout.SUMMARY, layout.LESIONS):
        yield layout.scores_file(run, name)
    for name in (layout.PER_VOLUME, layout.VOLUMES) if sliced else ():
        yield layout.scores_file(run, name)
    for name in config.segmenters:
        if layout.attribution_stage(name) in _stages(run):
            yield layout.attribution_table(run, name)
            yield layout.attribution_summary(run, name)
    if layout.SWEEP_STAGE in _stages(run):
        yield layout.scores_file(run, layout.SWEEP)
    if _has_classifier(run, config):
        yield layout.scores_file(run, layout.CURVES)
    parts = [layout.segmenter_part(name) for name in config.segmenters]
    parts += [kind_of(config, name).part(name) for name in _agreed(run, config)]
    if _has_classifier(run, config):
        parts += [layout.HEATMAP_PART, *([layout.FLOORS_PART] if config.scores.floors else [])]
    for part in parts:
        yield layout.part_path(run, part)
        if sliced:
            yield layout.part_path(run, layout.volumes_part(part))
        if part != layout.FLOORS_PART:
            yield layout.part_path(run, layout.lesions_part(part))


def _report(run: Path, config: Config) -> Iterator[Path]:
    folder = layout.report_folder(run)
    yield layout.report_page(folder)
    yield layout.report_summary(folder)
    yield from (layout.report_table(folder, name) for name in _report_tables(run))


_TABLES: list[str] = []


def _report_tables(run: Path) -> list[str]:
    """They are the same for every run: those of the first that is asked for are built."""
    if not _TABLES:
        _TABLES.extend(build_report(read_runs([run]), 0).tables)
    return _TABLES
