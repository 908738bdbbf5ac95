"""Masks of the test cases by a run's segmenters, and their scores."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from weakseg.config import STARTING_WEIGHTS, SegmenterConfig, fingerprint, starting_weights
from weakseg.layout import (
    BEST,
    masks_folder,
    masks_stage,
    method_folder,
    predictions_stage,
    segmenter_folder,
    segmenter_part,
)
from weakseg.methods.chosen_network import chosen_method
from weakseg.methods.fingerprints import segmenter_fingerprint
from weakseg.methods.gate import gate_key, gate_weights
from weakseg.methods.lesions import rows_version
from weakseg.methods.other_runs import heat_stage
from weakseg.methods.prepared import Prepared
from weakseg.methods.segmenters import (
    AFTER_TRAINING,
    read_settings,
    segmenter_settings,
)
from weakseg.methods.training_heats import blends_heat
from weakseg.runs import file_hash
from weakseg.stages.base import Stage, perform
from weakseg.stages.effort import of_network_masks
from weakseg.stages.scoring import part_files
from weakseg.stages.segment import OfSeed, segment_by
from weakseg.training.segmentation_cases import SegmentationCases


def segment_by_network(prepared: Prepared, name: str, data: SegmentationCases, force: bool) -> None:
    """Masks of the test cases by every seed, or by the mean of all, and their scores."""
    run, config = prepared.run, prepared.config
    settings = segmenter_settings(prepared, name)
    seeds = config.segmenter_seeds(name)
    folders = {s: segmenter_folder(run.folder, name, s) for s in seeds}
    weights = {str(s): file_hash(f / BEST) for s, f in folders.items()}
    after = {k: v for k, v in settings.fingerprint_settings().items() if k in AFTER_TRAINING}
    stage, part = masks_stage(name), segmenter_part(name)
    trained = {str(s): read_settings(f) for s, f in folders.items()}
    wanted = segmenter_fingerprint(config, name)
    gated = gate_key(prepared, name)
    key = fingerprint(
        stage,
        5,
        prepared.key,
        weights,
        trained,
        after,
        wanted,
        *([gated] if gated else []),
        *rows_version(prepared.cases.cases),
    )
    stands = Stage(
        stage,
        key,
        (method_folder(masks_folder(run.folder), name), *part_files(prepared, part)),
        lambda _: (
            {"weights": weights, "data": prepared.key, "asked": wanted}
            | _write_masks(prepared, name, data, settings)
        ),
        what=f"masks of {name}",
        inputs=(*_classifiers(prepared, name), *_heats(prepared, name)),
        effort=of_network_masks(prepared, name),
    )
    perform(run, stands, force=force)


def _classifiers(prepared: Prepared, name: str) -> tuple[str, ...]:
    """The stages whose word is the gate of a segmenter."""
    arch = prepared.config.classifier.arch
    return tuple(predictions_stage(arch, int(s)) for s in gate_weights(prepared, name))


def _heats(prepared: Prepared, name: str) -> tuple[str, ...]:
    """The stages whose heatmaps were blended into the training images of a segmenter."""
    config = prepared.config
    seeds = [s for s in config.segmenter_seeds(name) if _blends(prepared, name, s)]
    return tuple(dict.fromkeys(heat_stage(config, s) for s in seeds))


def _blends(prepared: Prepared, name: str, seed: int) -> bool:
    return blends_heat(segmenter_settings(prepared, name, seed))


def _write_masks(
    prepared: Prepared, name: str, data: SegmentationCases, settings: SegmenterConfig
) -> dict[str, Any]:
    """Write masks and their scores; what the record says of them."""
    config = prepared.config
    test = prepared.cases.file_by_file("test")
    engines = dict[str, Any]()

    def predicted() -> Iterator[OfSeed]:
        engine = config.engine
        for seed, together in config.mask_seeds(name).items():
            threshold, method = chosen_method(prepared, name, data, settings, together, engine)
            engine = method.networks.engine.get("engine", engine)  # for all seeds the same
            engines.update(method.networks.engine)
            of_cases = ((data.cases[i], p) for i, p in method.over(data, test))
            yield seed, threshold, method, of_cases

    segment_by(prepared, name, segmenter_part(name), len(config.mask_seeds(name)), predicted())
    entry: dict[str, Any] = {STARTING_WEIGHTS: starting_weights(config, name), **engines}
    by = gate_weights(prepared, name)
    return entry | ({"classifiers": by} if by else {})
