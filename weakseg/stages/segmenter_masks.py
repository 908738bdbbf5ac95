"""Masks of the test cases by a run's segmenters, and their scores."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from weakseg.config import STARTING_WEIGHTS, SegmenterConfig, fingerprint, starting_weights
from weakseg.data.cases import file_by_file
from weakseg.engines.base import TORCH
from weakseg.engines.choice import spoken
from weakseg.errors import UserError
from weakseg.layout import (
    BEST,
    fresh_masks,
    masks_folder,
    masks_stage,
    method_folder,
    predictions_stage,
    segmenter_folder,
    segmenter_part,
)
from weakseg.masks.set_thresholds import best_threshold, candidate_thresholds
from weakseg.methods.base import ENGINE, SUPERVISED, WEAK
from weakseg.methods.cases import read_truth
from weakseg.methods.fingerprints import segmenter_fingerprint
from weakseg.methods.gate import Gate, find_gate, gate_key, gate_weights
from weakseg.methods.network import (
    GATE_BY,
    INFERENCE,
    NETWORKS,
    NetworkMethod,
    network_mask,
    no_gate,
)
from weakseg.methods.prepared import Prepared
from weakseg.methods.segmenter_networks import Networks, load_networks
from weakseg.methods.segmenters import (
    AFTER_TRAINING,
    masked_lesions,
    read_settings,
    segmenter_settings,
)
from weakseg.progress import progress, say
from weakseg.runs import file_hash, remove_tree
from weakseg.scores.false_alarms import cuts_for_false_alarms
from weakseg.stages.base import Stage, perform
from weakseg.stages.effort import of_network_masks
from weakseg.stages.scoring import part_files, write_part
from weakseg.stages.segment import replace_masks, score_predictions
from weakseg.training.loop import make_fabric
from weakseg.training.segment import val_cases
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
        stage, 4, prepared.key, weights, trained, after, wanted, *([gated] if gated else [])
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
        inputs=_classifiers(prepared, name),
        effort=of_network_masks(prepared, name),
    )
    perform(run, stands, force=force)


def _classifiers(prepared: Prepared, name: str) -> tuple[str, ...]:
    """The stages whose word is the gate of a segmenter."""
    arch = prepared.config.classifier.arch
    return tuple(predictions_stage(arch, int(s)) for s in gate_weights(prepared, name))


def _write_masks(
    prepared: Prepared, name: str, data: SegmentationCases, settings: SegmenterConfig
) -> dict[str, Any]:
    """Write masks and their scores; what the record says of them."""
    run, config = prepared.run, prepared.config
    fresh = fresh_masks(run.folder, name)
    remove_tree(fresh)
    rows: list[dict[str, Any]] = []
    volumes: list[dict[str, Any]] = []
    thresholds: dict[str, Any] = {}
    place = {c.id: i for i, c in enumerate(prepared.cases.cases)}
    test = [place[c.id] for c in file_by_file(prepared.cases.of("test"))]
    work = config.mask_seeds(name)
    engine, engines = config.engine, dict[str, Any]()
    with progress(f"masks of {name}", len(work) * len(test)) as advance:
        for seed, together in work.items():
            fabric = make_fabric(config.device, settings.precision)
            networks = load_networks(
                run.folder, name, together, fabric.device, engine, settings.precision
            )
            if told := spoken(networks.engine):
                say(f"masks of {name}: {told}")
            engine = networks.engine.get("engine", engine)  # for all seeds the same
            engines |= networks.engine

            def probabilities(
                indices: Sequence[int], fabric: Any = fabric, networks: Networks = networks
            ) -> Iterator[tuple[int, np.ndarray]]:
                with fabric.autocast():
                    yield from networks.probabilities(data, indices, settings)

            threshold = _threshold(prepared, settings, networks, data, probabilities)
            if engine != TORCH:
                threshold[ENGINE] = engine
            if settings.ensemble:
                threshold[NETWORKS] = together
            gate = find_gate(prepared, name, together)
            if gate is not None:
                threshold |= {"gate": gate.value, GATE_BY: list(gate.by)}
            if settings.false_alarms is not None:
                val = probabilities(prepared.cases.indices("val"))
                threshold |= _cuts(prepared, settings, threshold, val, gate)
            thresholds[f"seed-{seed}"] = threshold
            says = no_gate if gate is None else gate.of
            method = NetworkMethod(
                name, tuple(together), config, networks, settings, threshold, says
            )
            predictions = ((data.cases[i], p) for i, p in method.over(data, test))
            for scored in score_predictions(prepared, method, predictions, seed, fresh):
                rows += scored.rows
                volumes += scored.volumes
                advance(scored.cases)
    replace_masks(run.folder, fresh, name, thresholds)
    write_part(prepared, segmenter_part(name), rows, volumes)
    entry: dict[str, Any] = {STARTING_WEIGHTS: starting_weights(config, name), **engines}
    by = gate_weights(prepared, name)
    return entry | ({"classifiers": by} if by else {})


def _cuts(
    prepared: Prepared,
    settings: SegmenterConfig,
    threshold: dict[str, Any],
    found: Iterator[tuple[int, np.ndarray]],
    gate: Gate | None,
) -> dict[str, Any]:
    """The lowest peak and the gate that validation labels choose; no mask is looked at."""
    assert settings.false_alarms is not None
    labels, cases = prepared.cases.labels, prepared.cases.cases
    lesion, said, peaks = [], [], []
    for i, p in found:
        mask = network_mask(p, threshold)
        lesion.append(labels.is_lesion(cases[i].label))
        peaks.append(min(float(p[mask].max()), 1.0) if mask.any() else 0.0)
        said.append(1.0 if gate is None else gate.of(cases[i]))
    if all(lesion) or not any(lesion):
        say(
            f"segmenters: false_alarms: {settings.false_alarms:g} is left aside, as the validation "
            "labels are all alike"
        )
        return {}
    cut, peak = cuts_for_false_alarms(lesion, said, peaks, settings.false_alarms)
    least = max(peak, settings.min_peak)
    chosen: dict[str, Any] = {"inference": {**threshold["inference"], "min_peak": least}}
    return chosen | ({} if gate is None else {"gate": cut})


def _threshold(
    prepared: Prepared,
    settings: SegmenterConfig,
    networks: Networks,
    data: SegmentationCases,
    probabilities: Callable[[Sequence[int]], Iterator[tuple[int, np.ndarray]]],
) -> dict[str, Any]:
    """The threshold on the probability, what it was chosen on, and all masks that were seen."""
    trained, seen = networks.masks_seen("training_masks"), networks.seen
    one = len(networks.models) == 1
    which = "the network" if one else f"the {len(networks.models)} networks"
    chosen_on = f"nothing; {which} saw {trained} training masks"
    if settings.weak:
        was = "was" if one else "were"
        chosen_on = f"nothing; {which} {was} trained on masks by {networks.settings['masks_of']}"
    value = settings.threshold
    if value == "validation":
        everything = prepared.cases.indices("val")
        lesions = [i for i in val_cases(data, everything, 10**9) if not data.truth_is_empty(i)]
        if not lesions:
            raise UserError(
                "The threshold cannot be chosen on validation masks.",
                where="segmenters: threshold: validation",
                found="no validation lesion with a mask",
                fix="set threshold to a probability, such as 0.5",
            )
        maps_of = dict(probabilities(lesions))
        cases = prepared.cases.cases
        truths = [
            read_truth(cases[i], maps_of[i].shape, False, prepared.config.data) for i in lesions
        ]
        maps = [maps_of[i] for i in lesions]
        value, _ = best_threshold(maps, truths, candidate_thresholds(maps))
        seen |= masked_lesions(prepared, lesions)
        chosen_on = f"{len(lesions)} validation masks"
    return {
        "kind": WEAK if settings.weak else SUPERVISED,
        "rule": "probability",
        "threshold": float(value),
        "scale": "probability",
        "chosen_on": chosen_on,
        **seen.to_json(),
        "gate": 0.0,
        "split": "test",
        "upper_bound": False,
        "inference": settings.model_dump(mode="json", include=set(INFERENCE)),
    }
