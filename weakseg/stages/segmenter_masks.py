"""Masks of the test cases by a run's segmenters, and their scores; of all cases or a shard."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cache, partial
from typing import Any

from weakseg.config import STARTING_WEIGHTS, fingerprint, starting_weights
from weakseg.current import is_current, why_stale
from weakseg.data.cases import Case
from weakseg.errors import RunError
from weakseg.layout import (
    BEST,
    FIT_STAGE,
    fitted_folder,
    masks_folder,
    masks_stage,
    method_folder,
    predictions_stage,
    segmenter_folder,
    segmenter_part,
    threshold_file,
)
from weakseg.masks.kept import read_thresholds
from weakseg.methods.base import Entry, Prediction
from weakseg.methods.chosen_network import chosen_method
from weakseg.methods.find import kind_of
from weakseg.methods.fingerprints import segmenter_fingerprint
from weakseg.methods.gate import gate_key, gate_weights
from weakseg.methods.lesions import rows_version
from weakseg.methods.network import NetworkMethod
from weakseg.methods.other_runs import heat_stage
from weakseg.methods.prepared import Prepared
from weakseg.methods.segmenter_checks import segmenter_is_current
from weakseg.methods.segmenters import (
    AFTER_TRAINING,
    read_settings,
    segmentation_cases,
    segmenter_settings,
)
from weakseg.methods.training_heats import blends_heat
from weakseg.progress import say
from weakseg.runs import file_hash, remove_tree, write_json
from weakseg.shards import Shard
from weakseg.stages.base import Stage, perform
from weakseg.stages.effort import of_network_masks
from weakseg.stages.fitted import fit_stage, fit_stage_of, heatmap_keys
from weakseg.stages.scoring import part_files
from weakseg.stages.segment import Masks, OfSeed, Ready, segment_by, shard_of
from weakseg.stages.shards import BY, NOTHING
from weakseg.training.segmentation_cases import SegmentationCases


def segment_by_network(prepared: Prepared, name: str, data: SegmentationCases, force: bool) -> str:
    """Masks of the test cases by every seed, or by the mean of all, and their scores.

    Gives the key of what shards would have made of them.
    """
    stage = masks_of_network(prepared, name, data)
    key = shards_key(prepared, name, stage.key)
    perform(prepared.run, stage, force=force)
    return key


def fit_network(prepared: Prepared, name: str, data: SegmentationCases, force: bool) -> None:
    """Choose the thresholds of a segmenter, for shards that make its masks."""
    stage = masks_of_network(prepared, name, data)
    if why_stale(prepared.run, stage.name, stage.key) is None and not force:
        say(f"{stage.what}: {NOTHING}")
    else:
        perform(prepared.run, fit_of_network(prepared, name, data, stage), force=force)


def shard_of_network(
    prepared: Prepared, name: str, data: SegmentationCases, shard: Shard, force: bool
) -> None:
    """A part of the masks of a segmenter, by thresholds that are chosen.

    Raises
    ------
    RunError
        If the networks are not trained, or their thresholds not chosen.
    """
    run, wanted = prepared.run, prepared.config.segmenter_seeds(name)
    untrained = [s for s in wanted if not segmenter_is_current(prepared, name, s)]
    if untrained:
        raise RunError(
            f"{name} is not trained with these settings and data, so that shards cannot make its "
            "masks.",
            where=str(run.folder),
            found=f"no such network of seed {', '.join(map(str, untrained))}",
            fix="run `weakseg train-segmenter CONFIG --fit` once, and this again",
        )
    stage = masks_of_network(prepared, name, data)
    if why_stale(run, stage.name, stage.key) is None and not force:
        say(f"{stage.what}: {NOTHING}")
        return
    fit = fit_of_network(prepared, name, data, stage)
    stale = why_stale(run, fit.name, fit.key)
    if stale is not None:
        raise RunError(
            f"The threshold of {name} is not chosen, so that shards cannot make its masks.",
            where=str(run.folder),
            found=f"{fit.what}: {stale.why}",
            fix="run `weakseg train-segmenter CONFIG --fit` once, and this again; or leave --shard "
            "out: one command makes all masks",
        )
    masks = _masks(prepared, name, data, {}, fit)
    own, of_shard = shard_of(prepared, masks, shard, shards_key(prepared, name, stage.key))
    perform(own, of_shard, force=force)


def masks_of_network(prepared: Prepared, name: str, data: SegmentationCases) -> Stage:
    """The masks of a segmenter whose networks are trained."""
    run, config = prepared.run, prepared.config
    folders = {s: segmenter_folder(run.folder, name, s) for s in config.segmenter_seeds(name)}
    weights = {str(s): file_hash(f / BEST) for s, f in folders.items()}
    settings = segmenter_settings(prepared, name)
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
    made = Stage(
        stage,
        key,
        (method_folder(masks_folder(run.folder), name), *part_files(prepared, part)),
        lambda _: (
            {"weights": weights, "data": prepared.key, "asked": wanted}
            | _write_masks(prepared, name, data, made)
        ),
        what=f"masks of {name}",
        inputs=(*_classifiers(prepared, name), *_heats(prepared, name)),
        effort=of_network_masks(prepared, name),
    )
    return made


def fit_of_network(prepared: Prepared, name: str, data: SegmentationCases, masks: Stage) -> Stage:
    """The threshold of every seed of a segmenter, and all else that validation chooses.

    ``masks`` are those that are made by it, see `masks_of_network`.
    """
    folder = fitted_folder(prepared.run.folder)

    def run(_: None) -> dict[str, Any]:
        remove_tree(method_folder(folder, name))
        engines = dict[str, Any]()
        made = _chosen(prepared, name, data, engines)
        write_json(threshold_file(folder, name), {f"seed-{of.seed}": of.entry for of in made})
        return {"data": prepared.key, BY: engines}

    return Stage(
        fit_stage_of(name),
        fingerprint("fit", 1, masks.key),
        (method_folder(folder, name),),
        run,
        what=f"threshold of {name}",
        inputs=masks.inputs,
    )


def with_fitted(prepared: Prepared) -> Prepared:
    """With all methods whose thresholds are fitted, and lie where they were fitted."""
    config, fitted = prepared.config, list[str]()
    made = prepared.run.record.get("stages", {})
    if FIT_STAGE in made:
        fit = fit_stage(prepared, list(heatmap_keys(prepared).values()))
        if why_stale(prepared.run, fit.name, fit.key) is None:
            fitted += config.heatmap_methods
    for name in config.segmenters:
        if fit_stage_of(name) in made and _is_fitted(prepared, name):
            fitted.append(name)
    return replace(prepared, fitted=dict.fromkeys(fitted, fitted_folder(prepared.run.folder)))


def _is_fitted(prepared: Prepared, name: str) -> bool:
    """Whether a segmenter's threshold is up to date; not where what it is of is gone or damaged,
    which is told where its masks are asked for."""
    data = segmentation_cases(prepared, name)
    try:
        fit = fit_of_network(prepared, name, data, masks_of_network(prepared, name, data))
    except RunError:
        return False
    return why_stale(prepared.run, fit.name, fit.key) is None


def shards_key(prepared: Prepared, name: str, key: str) -> str:
    """Fingerprint of the masks that shards make: by the thresholds as they were chosen once.

    ``key`` is that of all masks of the segmenter.
    """
    stages = prepared.run.record.get("stages", {})
    made_of = stages.get(fit_stage_of(name), {}).get("outputs")
    return fingerprint("masks in shards", 1, key, made_of)


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
    prepared: Prepared, name: str, data: SegmentationCases, stage: Stage
) -> dict[str, Any]:
    """Write masks and their scores; what the record says of them."""
    config, engines = prepared.config, dict[str, Any]()
    masks = _masks(prepared, name, data, engines, fit_of_network(prepared, name, data, stage))
    segment_by(prepared, masks, shards_key(prepared, name, stage.key))
    entry: dict[str, Any] = {STARTING_WEIGHTS: starting_weights(config, name), **engines}
    by = gate_weights(prepared, name)
    return entry | ({"classifiers": by} if by else {})


def _masks(
    prepared: Prepared, name: str, data: SegmentationCases, engines: dict[str, Any], fit: Stage
) -> Masks:
    """What makes them; ``engines`` gets what the record says of the engine."""
    seeds = list(prepared.config.mask_seeds(name))
    make = _fitted if is_current(prepared.run, fit.name, fit.key) else _chosen
    made = partial(make, prepared, name, data, engines)
    return Masks(name, segmenter_part(name), seeds, made)


def _chosen(
    prepared: Prepared, name: str, data: SegmentationCases, engines: dict[str, Any]
) -> Iterator[OfSeed]:
    """Every seed's network, or the mean of several; all is chosen now."""
    config, engine = prepared.config, prepared.config.engine
    settings = segmenter_settings(prepared, name)
    for seed, together in config.mask_seeds(name).items():
        entry, method = chosen_method(prepared, name, data, settings, together, engine)
        engine = method.networks.engine.get("engine", engine)  # for all seeds the same
        engines.update(method.networks.engine)
        yield OfSeed(seed, entry, partial(_ready, prepared, data, method))


def _fitted(
    prepared: Prepared, name: str, data: SegmentationCases, engines: dict[str, Any]
) -> Iterator[OfSeed]:
    """The same as it was chosen for shards; networks are loaded only where they are asked."""
    entries = read_thresholds(threshold_file(fitted_folder(prepared.run.folder), name))
    engines.update(prepared.run.record["stages"][fit_stage_of(name)][BY])
    kind = kind_of(prepared.config, name)

    def ready(seed: int, entry: Entry) -> Ready:
        method = kind.of_run(prepared, name, seed, entry, True)
        assert isinstance(method, NetworkMethod)
        return _ready(prepared, data, method)

    for seed in prepared.config.mask_seeds(name):
        entry = entries[f"seed-{seed}"]
        yield OfSeed(seed, entry, cache(partial(ready, seed, entry)))


def _ready(prepared: Prepared, data: SegmentationCases, method: NetworkMethod) -> Ready:
    place = {case.id: i for i, case in enumerate(data.cases)}

    def says(cases: Sequence[Case]) -> Iterator[Prediction]:
        for _, prediction in method.over(data, [place[case.id] for case in cases]):
            yield prediction

    return Ready(method, says)
