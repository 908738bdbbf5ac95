"""What is known of a run's supervised networks: where they lie, what made them, their cases."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import ValidationError

from weakseg.config import (
    AUTO,
    STARTING_WEIGHTS,
    OneNetwork,
    SegmenterConfig,
    fingerprint,
    starting_weights,
)
from weakseg.contents import SegmenterHeader, SegmenterSettings
from weakseg.current import is_current
from weakseg.data.cases import Case
from weakseg.data.mapped import MappedStore
from weakseg.data.patches import knows_truth
from weakseg.errors import DataError
from weakseg.layout import BEST, SETTINGS, masks_folder, segmenter_stage, threshold_file
from weakseg.methods.masks_seen import MasksSeen, masks_seen
from weakseg.methods.networks import load_network
from weakseg.methods.outside import as_taken
from weakseg.methods.prepared import Prepared
from weakseg.methods.training_heats import blends_heat, heat_key
from weakseg.models.segmenters import Segmenter, build_segmenter
from weakseg.stored import damaged, read_json
from weakseg.training.recipes import resolve, with_passes
from weakseg.training.segmentation_cases import SegmentationCases

AFTER_TRAINING = {"tile", "overlap", "flips", "threshold", "recalibrate", "seeds", "min_peak"}
AFTER_TRAINING |= {"min_area", "ensemble", "gate", "false_alarms", "scales", "prune"}
AFTER_TRAINING |= {"false_alarm_confidence"}
AFTER_TRAINING |= {"weighting", "crf", "neighbours", "outline"}
"""Settings that a trained network does not depend on."""


def segmenter_settings(prepared: Prepared, name: str, seed: int | None = None) -> OneNetwork:
    """The settings of a segmenter's network of a seed, default the first; nothing is left open."""
    settings = resolve(prepared.config.segmenter(name, seed), prepared.cases.dims)
    return with_passes(settings, len(prepared.cases.of("train")))


def network_size(prepared: Prepared, settings: SegmenterConfig) -> int:
    """Longest side of images as the network sees them."""
    size = settings.image_size
    return prepared.config.data.image_size if size == AUTO else int(size)


def segmenter_key(prepared: Prepared, name: str, seed: int, source: str | None = None) -> str:
    """Fingerprint of all that a trained segmenter depends on.

    ``source`` is that of the method whose masks it is trained on.
    """
    config = prepared.config.segmenter(name, seed)
    weights = taken_weights(prepared, name, seed) or config.weights
    resolved = segmenter_settings(prepared, name, seed)
    settings = resolved.model_dump(mode="json")
    # The best epoch is chosen by looking at whole images, in the way that they are predicted.
    looked = {"tile", "overlap", "flips"} if config.keep == "best" else set()
    looked |= {"prune"} if looked and config.prune is not None else set()
    left_out = {*AFTER_TRAINING, "weights", "compile", "passes"} - looked  # epochs say it
    left_out |= {"dropout"} if settings["dropout"] == "none" else set()
    left_out |= {"correct"} if config.correct is None else set()
    left_out |= set() if config.weak else {"masks", "ignore"}
    settings = {k: v for k, v in settings.items() if k not in left_out}
    parts = [] if source is None else [source]
    parts += [heat_key(prepared, seed)] if blends_heat(resolved) else []
    way = 2 if config.keep == "best" else 1  # of choosing the epoch; the last one needs none
    # Masks beside its own targets: those of the validation cases, if they choose the epoch.
    blind = config.weak and config.keep == "last"
    data = prepared.images_key if blind else prepared.key
    return fingerprint("segmenter", way, data, settings, weights, seed, *parts)


def taken_weights(prepared: Prepared, name: str, seed: int) -> str | None:
    """What a segmenter begins with; of a file that has gone what it was in its training."""
    now, stages = (
        starting_weights(prepared.config, name, seed),
        prepared.run.record.get("stages", {}),
    )
    return as_taken(stages, segmenter_stage(name, seed), STARTING_WEIGHTS, now)


def is_trained(prepared: Prepared, name: str, seed: int, source: str | None = None) -> bool:
    """Whether the segmenter in the run folder is the one that the experiment asks for."""
    key = segmenter_key(prepared, name, seed, source)
    return is_current(prepared.run, segmenter_stage(name, seed), key)


def segmentation_cases(
    prepared: Prepared, name: str, targets: Mapping[int, np.ndarray] | None = None
) -> SegmentationCases:
    """The run's cases as a segmenter sees them; ``targets`` stand for true masks."""
    settings = segmenter_settings(prepared, name)
    return SegmentationCases(
        prepared.cases.cases,
        prepared.cases.labels,
        prepared.config.data,
        prepared.channels,
        settings.normalise,
        network_size(prepared, settings),
        targets,
        MappedStore(prepared.run.folder),
    )


def training_cases(prepared: Prepared, patients: Sequence[str] | None = None) -> list[int]:
    """Training cases whose truth is known: lesions with a mask, and healthy images.

    Parameters
    ----------
    prepared : Prepared
    patients : sequence of str, optional
        Use masks of these patients only; healthy images of all stay, as their labels say that
        their masks are empty.

    Raises
    ------
    DataError
        If no training lesion has a mask.
    """
    labels = prepared.cases.labels

    def of_lesion(case: Case) -> bool:
        return labels.is_lesion(case.label)

    chosen = [
        i
        for i, c in enumerate(prepared.cases.cases)
        if c.split == "train"
        and knows_truth(c, not of_lesion(c))
        and (patients is None or not of_lesion(c) or c.patient in patients)
    ]
    if not any(of_lesion(prepared.cases.cases[i]) for i in chosen):
        raise DataError(
            "No training image with a lesion has a mask, so that no segmenter can be trained.",
            where=prepared.cases.source,
            fix="fill the column `mask`, or take `segmenters` out of the experiment",
        )
    return chosen


def training_images(prepared: Prepared) -> tuple[list[int], list[int]]:
    """Training cases by their label alone: with a lesion, and healthy."""
    labels, cases = prepared.cases.labels, enumerate(prepared.cases.cases)
    train = [(i, labels.is_lesion(c.label)) for i, c in cases if c.split == "train"]
    return [i for i, lesion in train if lesion], [i for i, lesion in train if not lesion]


def has_training_masks(prepared: Prepared) -> bool:
    """Whether any training image with a lesion has a mask."""
    train = [i for i, c in enumerate(prepared.cases.cases) if c.split == "train"]
    return masks_of(prepared, train) > 0


def masked_lesions(prepared: Prepared, indices: Sequence[int]) -> MasksSeen:
    """The masks of those of some cases that have a lesion and a mask."""
    labels, cases = prepared.cases.labels, [prepared.cases.cases[i] for i in indices]
    masked = (c.id for c in cases if c.mask is not None and labels.is_lesion(c.label))
    return MasksSeen(frozenset(masked))


def masks_of(prepared: Prepared, indices: Sequence[int]) -> int:
    """How many of some cases are lesions with a mask."""
    return masked_lesions(prepared, indices).count


def read_settings(folder: Path) -> dict[str, Any]:
    """The ``settings.json`` of a seed's folder.

    Raises
    ------
    RunError
        If it is missing or damaged.
    """
    path = folder / SETTINGS
    content = read_json(path, model=SegmenterSettings)
    _as_settings(content["settings"], path, "settings")
    return content


def seen_by_network(settings: Mapping[str, Any]) -> MasksSeen:
    """The true masks that had a part in a network, from its ``settings.json``."""
    count = int(settings["training_masks"]) + int(settings["validation_masks"])
    return masks_seen({"masks_seen": count, **settings})


def trained_settings(folder: Path, threshold: Mapping[str, Any]) -> SegmenterConfig:
    """A network's settings as it was trained and as its threshold was chosen.

    Parameters
    ----------
    folder : Path
        Of its seed.
    threshold : mapping
        Its entry in ``threshold.json``.

    Raises
    ------
    RunError
        If one of the two is damaged.
    """
    inference = threshold.get("inference", {})
    where = threshold_file(masks_folder(folder.parents[2]), folder.parent.name)
    return _as_settings(read_settings(folder)["settings"] | inference, where, "inference")


def _as_settings(tree: dict[str, Any], path: Path, key: str) -> SegmenterConfig:
    try:
        return SegmenterConfig.model_validate(tree)
    except ValidationError as e:
        first = e.errors(include_url=False)[0]
        at = ".".join(str(part) for part in (key, *first["loc"]))
        raise damaged(path, f"{at}: {first['msg']}") from None


def load_segmenter(folder: Path) -> Segmenter:
    """The network of a seed's folder whose weights are kept, in evaluation mode.

    Raises
    ------
    RunError
        If it is not there, or is not one of ours.
    """

    def build(meta: dict[str, str]) -> Segmenter:
        return build_segmenter(meta["arch"], int(meta["channels"]), 2, int(meta["dims"]))

    return load_network(folder / BEST, "segmenter", SegmenterHeader, build)


def priors_of(settings: dict[str, Any]) -> tuple[float, float]:
    """Sampled and true share of lesion voxels, from ``settings.json``."""
    return float(settings["sampled_prior"]), float(settings["true_prior"])
