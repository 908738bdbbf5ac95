"""The run folder: the path of every file in it, and the name of every stage in its record.

Nobody else joins a path below a run folder. ``docs/run-folder.md`` describes it for people.
All of it stands in one file, so that no two stages can give a path two meanings.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath

from weakseg.runs import folder_name, inside

BEST, LAST, NEXT_BEST = "best.safetensors", "last.safetensors", "next-best.safetensors"
"""Weights of a training: kept ones, the last epoch's, and best ones that are not yet both."""

RESUME, METRICS = "resume.pt", "metrics.csv"
"""Checkpoint of a training that goes on, and the figures of its epochs."""

PREDICTIONS, CLASSIFIER_SCORES = "predictions.csv", "scores.json"
"""What a classifier says of every case, and how right it is."""

INSTANCES = "instances.csv"
"""What a classifier that sees slices says of each slice of every volume."""

SETTINGS = "settings.json"
"""What a reader of a segmenter's weights needs besides."""

ORIGINAL, EXAMPLES = "original.csv", "examples.png"
"""Of a condition: what the first network says of filtered images, and some of these."""

PER_CASE, SUMMARY = "per_case.csv", "summary.csv"
PER_VOLUME, VOLUMES = "per_volume.csv", "volumes.csv"
LESIONS = "lesions.csv"
SWEEP, EQUIVALENCE = "sweep.csv", "equivalence.csv"
FILTERED, FILTERED_ANSWERS = "filtered.csv", "filtered.json"
"""Files of ``scores/``, and `CURVES`."""

CURVES, AREAS, PRESERVED = "curves.csv", "areas.csv", "preserved.csv"
FAITHFULNESS = (CURVES, AREAS, PRESERVED)
"""Tables of heatmaps against their network."""

GRAPHS = "graphs"
"""What engines run, made of networks; can be made again at any time."""

CONFIG, THRESHOLD = "config.yaml", "threshold.json"

HEATMAP_PART, FLOORS_PART = "heatmap", "floors"
"""Sources of rows of scores; a segmenter's is `segmenter_part`."""

FIT_STAGE = "fit"
SEGMENT_STAGE, FLOORS_STAGE, SCORES_STAGE = "segment", "floors", "scores"
SWEEP_STAGE, EQUIVALENCE_STAGE, FILTERED_STAGE = "sweep", "equivalence", "filtered"
PREPARE_STAGE, REPORT_STAGE = "prepare", "report"
"""Stages that a run has one of."""


MASKS = "masks/"
"""How the name of a stage begins that makes one method's masks; of heatmaps all have one."""


def config_file(run: Path) -> Path:
    """The experiment, every default written out."""
    return run / CONFIG


def splits_file(run: Path) -> Path:
    """Case, image, label, patient and split."""
    return run / "splits.csv"


def outputs_file(run: Path, stage: str) -> Path:
    """The list of the files that a stage has written."""
    return inside(run, "outputs", f"{stage}.json")


def images_file(run: Path) -> Path:
    """What the training images look like, for `predict` to hold new ones against."""
    return run / "images.json"


def data_files(run: Path) -> Path:
    """Size, times and digest of each file of the data, so that it is read once."""
    return run / "data-files.json"


def report_folder(run: Path) -> Path:
    """Where `weakseg compare` writes its report."""
    return run / "report"


def report_page(report: Path) -> Path:
    """The page in a report's folder."""
    return report / "index.html"


def report_summary(report: Path) -> Path:
    """The figures of the page for other programs."""
    return report / "report.json"


def report_tables(report: Path) -> Path:
    """Where the tables of the page lie."""
    return report / "tables"


def report_table(report: Path, name: str) -> Path:
    """A table of the page."""
    return report_tables(report) / f"{name}.csv"


def superseded_folder(run: Path, network: Path, key: str) -> Path:
    """Where a network of an earlier key is going to be kept: no folder that is there yet."""
    name = f"{network.parent.name}-{network.name}-{key[:8]}"
    folders = (inside(run, "superseded", n) for n in _numbered(name))
    return next(folder for folder in folders if not os.path.lexists(folder))


def _numbered(name: str) -> Iterator[str]:
    """A name, then the same with -2, -3 and so on."""
    yield name
    yield from (f"{name}-{k}" for k in itertools.count(2))


def superseded_names(run: Path) -> list[str]:
    """The networks that `superseded_folder` keeps, by name."""
    return sorted(p.name for p in (run / "superseded").glob("*") if p.is_dir())


def seed_folder(run: Path, arch: str, seed: int | str) -> Path:
    """Where the classifier of a seed lives."""
    return inside(run, "classifier", folder_name(arch), f"seed-{seed}")


def classifier_stage(arch: str, seed: int) -> str:
    """The stage of a classifier."""
    return f"classifier/{folder_name(arch)}/{seed}"


def predictions_stage(arch: str, seed: int) -> str:
    """The stage of what a classifier says of every case."""
    return f"predictions/{folder_name(arch)}/{seed}"


def classifier_scores_stage(arch: str, seed: int) -> str:
    """The stage of how right a classifier is."""
    return f"classifier-scores/{folder_name(arch)}/{seed}"


def heatmap_folder(run: Path, arch: str, seed: int, name: str, target: str | None = None) -> Path:
    """Where the heatmaps of a seed live.

    ``target`` is named where it is another than that of the heatmap's settings.
    """
    of = _of_target(name, target)
    return inside(run, "heatmaps", folder_name(arch), f"seed-{seed}", of)


def graphs_folder(run: Path, arch: str, seed: int, name: str) -> Path:
    """Where an engine's graphs of the heatmaps of a seed are kept."""
    return inside(run, GRAPHS, folder_name(arch), f"seed-{seed}", name)


def segmenter_graphs(run: Path, name: str, seed: int) -> Path:
    """Where an engine's graphs of the segmenter of a seed are kept."""
    return inside(run, GRAPHS, "segmenter", name, f"seed-{seed}")


def heatmap_stage(arch: str, seed: int, name: str, target: str | None = None) -> str:
    """The stage of the heatmaps of a seed; see `heatmap_folder`."""
    return f"heatmaps/{folder_name(arch)}/seed-{seed}/{_of_target(name, target)}"


def _of_target(name: str, target: str | None) -> str:
    return name if target is None else f"{name}-of-{folder_name(target)}"


def heatmap_file(folder: Path, case: str) -> Path:
    """The heatmap of a case in a folder of heatmaps."""
    return inside(folder, f"{case}.npz")


def shards_folder(run: Path) -> Path:
    """Where parts of heatmaps and of masks lie until they are joined."""
    return run / "shards"


def shard_folder(run: Path, part: int, of: int) -> Path:
    """Where one of several parts lies, laid out as a run."""
    return inside(run, "shards", f"{part}-of-{of}")


def fitted_folder(run: Path) -> Path:
    """Rules and thresholds that were fitted for shards of masks, laid out as a folder of masks."""
    return inside(run, "shards", "fitted")


def unfitted_file(fitted: Path) -> Path:
    """Which rules could not be fitted, and why."""
    return fitted / "left-out.json"


def rows_file(shard: Path, part: str) -> Path:
    """The rows of scores of a source of masks that a shard has made."""
    return inside(shard, "rows", f"{part}.json")


def scales_file(heatmaps: Path) -> Path:
    """The scales that validation labels left over, in a folder of heatmaps."""
    return heatmaps / "scales.json"


def fusion_file(heatmaps: Path) -> Path:
    """What the layers of a heatmap count by validation labels, in a folder of heatmaps."""
    return heatmaps / "fusion.json"


def masks_folder(run: Path) -> Path:
    """Where the masks of all methods live."""
    return run / "masks"


def masks_config(run: Path) -> Path:
    """The experiment that the masks of heatmaps were made by."""
    return masks_folder(run) / CONFIG


def method_folder(masks: Path, method: str) -> Path:
    """Where the masks of a method live in a folder of masks."""
    return inside(masks, method)


def methods_among(files: Iterable[str]) -> set[str]:
    """The methods whose masks are among files, which are named as they lie below a run."""
    parts = (PurePosixPath(name).parts for name in files)
    return {p[1] for p in parts if len(p) > 2 and p[0] == "masks" and p[1] != ".."}


def mask_file(masks: Path, method: str, seed: int, case: str, suffix: str) -> Path:
    """Where the mask of a case lies below a folder of masks, given the ending of its format."""
    return inside(masks, method, f"seed-{seed}", f"{case}{suffix}")


def threshold_file(masks: Path, method: str) -> Path:
    """Which threshold a method has, and what it was chosen on."""
    return inside(masks, method, THRESHOLD)


def threshold_files(run: Path) -> Iterator[tuple[str, Path]]:
    """Method and `threshold_file` of all that have made masks, by name."""
    for path in sorted(masks_folder(run).glob(f"*/{THRESHOLD}")):
        yield path.parent.name, path


def trained_file(masks: Path, method: str, seed: int) -> Path:
    """What the rule of a method has learnt."""
    return inside(masks, method, f"seed-{seed}.safetensors")


def fresh_masks(run: Path, segmenter: str | None = None) -> Path:
    """Where masks are made that take the place of earlier ones: of heatmaps, or of a segmenter."""
    return inside(run, ".part-masks" if segmenter is None else f".part-masks-{segmenter}")


def segmenter_folder(run: Path, name: str, seed: int | str) -> Path:
    """Where the segmenter of a seed lives."""
    return inside(run, "segmenter", name, f"seed-{seed}")


def segmenter_stage(name: str, seed: int) -> str:
    """The stage of a segmenter."""
    return f"segmenter/{name}/{seed}"


def masks_stage(segmenter: str) -> str:
    """The stage of the masks of a segmenter, or of another method that has one of its own."""
    return f"{MASKS}{segmenter}"


def targets_stage(segmenter: str, seed: int) -> str:
    """The stage of the targets of a segmenter on another method's masks."""
    return f"targets/{segmenter}/{seed}"


def target_folder(run: Path, segmenter: str, seed: int) -> Path:
    """Where the targets lie that a segmenter on another method's masks was trained on."""
    return inside(run, "targets", segmenter, f"seed-{seed}")


def target_file(run: Path, segmenter: str, seed: int, case: str, suffix: str) -> Path:
    """What a segmenter on another method's masks was told of a case, given its format's ending."""
    return inside(target_folder(run, segmenter, seed), f"{case}{suffix}")


def scores_folder(run: Path) -> Path:
    """Where the tables of scores lie."""
    return run / "scores"


def scores_file(run: Path, name: str) -> Path:
    """One of the tables of scores, see `PER_CASE` and its neighbours."""
    return scores_folder(run) / name


def attribution_stage(segmenter: str) -> str:
    """The stage of what a segmenter's masks stand on."""
    return f"attribution/{segmenter}"


def attribution_table(run: Path, segmenter: str) -> Path:
    """What every attribution of a segmenter keeps of each image and of its mask."""
    return inside(run, "attribution", f"{segmenter}.csv")


def attribution_summary(run: Path, segmenter: str) -> Path:
    """The same on average, and how it was made."""
    return inside(run, "attribution", f"{segmenter}.json")


def segmenter_part(name: str) -> str:
    """The source of rows that a segmenter is."""
    return f"segmenter-{name}"


def part_path(run: Path, part: str) -> Path:
    """Where a source of masks writes its rows of scores."""
    return inside(run, "scores", "parts", f"{part}.csv")


def volumes_part(part: str) -> str:
    """The rows of whole volumes of a source of masks of slices."""
    return f"{part}-volumes"


def lesions_part(part: str) -> str:
    """The measured lesions of a source of masks."""
    return f"{part}-lesions"


def point_file(run: Path, segmenter: str, draw: int, patients: int) -> Path:
    """The scores of a point of the mask-equivalence curve."""
    return inside(run, "equivalence", segmenter, f"draw-{draw}", f"{patients}-patients.csv")


def point_training(run: Path, segmenter: str, draw: int, patients: int) -> Path:
    """Where the network of a point is trained; it goes when the point has its scores."""
    kept = point_file(run, segmenter, draw, patients)
    return kept.with_name(f".{kept.stem}")


def point_stage(segmenter: str, draw: int, patients: int) -> str:
    """The stage of a point of the mask-equivalence curve."""
    return f"equivalence/{segmenter}/{draw}/{patients}"


def filtered_folder(run: Path) -> Path:
    """Where all that is retrained on filtered images lives."""
    return run / "filtered"


def condition_folder(run: Path, arch: str, seed: int, condition: str) -> Path:
    """Where the network of a condition and a seed lives."""
    return inside(run, "filtered", folder_name(arch), f"seed-{seed}", condition)


def condition_stage(arch: str, seed: int, condition: str) -> str:
    """The stage of a condition."""
    return f"filtered/{folder_name(arch)}/{seed}/{condition}"


def faithfulness_folder(run: Path, arch: str, seed: int) -> Path:
    """Where the scores of a seed's heatmaps against their network live."""
    return inside(run, "faithfulness", folder_name(arch), f"seed-{seed}")


def faithfulness_stage(arch: str, seed: int) -> str:
    """The stage of the scores of a seed's heatmaps against their network."""
    return f"faithfulness/{folder_name(arch)}/{seed}"
