"""``weakseg train-segmenter``: segmentation networks, their masks and their scores."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from weakseg.config import MANIFEST, STARTING_WEIGHTS
from weakseg.config.recipes import METHOD, stand_in_note
from weakseg.data.targets import PackedTargets, write_target
from weakseg.launch import launched
from weakseg.layout import (
    BEST,
    LAST,
    METRICS,
    RESUME,
    SETTINGS,
    SUMMARY,
    fitted_folder,
    masks_stage,
    scores_file,
    segmenter_folder,
    segmenter_stage,
    target_file,
    target_folder,
    targets_stage,
)
from weakseg.methods.fitting import fit_segmenter
from weakseg.methods.gate import check_gate
from weakseg.methods.networks import say_random
from weakseg.methods.other_runs import heat_stage
from weakseg.methods.outside import LENT_MASKS, LENT_MASKS_FROM
from weakseg.methods.prepared import Prepared
from weakseg.methods.pseudo_labels import (
    PseudoLabelSource,
    find_source,
    lender,
    stands_by_itself,
    targets_key,
)
from weakseg.methods.segmenter_checks import check_heats, check_masks, pick_names
from weakseg.methods.segmenters import (
    segmentation_cases,
    segmenter_key,
    segmenter_settings,
    taken_weights,
    training_cases,
    training_images,
)
from weakseg.methods.training_heats import blends_heat
from weakseg.methods.training_targets import kept_targets, seen_targets, training_targets
from weakseg.progress import say
from weakseg.runs import remove_tree, write_json
from weakseg.shards import Shard
from weakseg.stages.base import Stage, perform
from weakseg.stages.composed import segment_composed, shard_composed
from weakseg.stages.effort import of_segmenter
from weakseg.stages.fitted import fit_stage_of, forget_fit
from weakseg.stages.scoring import collect
from weakseg.stages.segmenter_masks import (
    fit_network,
    segment_by_network,
    shard_of_network,
    with_fitted,
)
from weakseg.stages.shards import forget_shards, own_folder
from weakseg.training.beginning import new_segmenter
from weakseg.training.segmentation_cases import SegmentationCases
from weakseg.training.together import wait_for_first


def train_segmenters(
    prepared: Prepared,
    *,
    only: Sequence[str] | None = None,
    force: bool = False,
    after_epoch: Callable[[int], None] | None = None,
    goes_on: bool = False,
) -> Path:
    """Train every segmenter that is not trained yet, make its masks, and score them.

    Parameters
    ----------
    prepared : Prepared
    only : sequence of str, optional
        Names of segmenters; default: all.
    force : bool
        Train again what is there; the earlier networks are moved to ``superseded/``.
    after_epoch : callable, optional
        See `weakseg.training.loop.fit`.
    goes_on : bool
        Whether the command makes methods that are made of others once more, and tells of them then.

    Returns
    -------
    Path
        The table of scores, ``scores/summary.csv``.
    """
    names = _checked(prepared, only)
    joined = dict[str, str]()
    for name in names:
        data = _train_all(prepared, name, force, after_epoch)
        if launched().first:
            joined[masks_stage(name)] = segment_by_network(prepared, name, data, force)
    if not launched().first:
        return scores_file(prepared.run.folder, SUMMARY)
    joined |= segment_composed(prepared, force=force, quiet=goes_on)
    table = collect(prepared)
    forget_shards(prepared.run.folder, joined, but=lambda stage: stage not in joined)
    for name in names:
        forget_fit(prepared.run, fit_stage_of(name), [name])
    return table


def fit_segmenters(
    prepared: Prepared, *, only: Sequence[str] | None = None, force: bool = False
) -> Path:
    """Train every segmenter that is not trained yet, and choose its threshold: shards make masks.

    Parameters
    ----------
    prepared, only, force
        See `train_segmenters`.

    Returns
    -------
    Path
        The folder of the thresholds.
    """
    for name in _checked(prepared, only):
        data = _train_all(prepared, name, force, None)
        if launched().first:
            fit_network(prepared, name, data, force)
    return fitted_folder(prepared.run.folder)


def segmenters_shard(
    prepared: Prepared, shard: Shard, *, only: Sequence[str] | None = None, force: bool = False
) -> Path:
    """A part of the masks of every segmenter, and of what is made of them and of others.

    Parameters
    ----------
    prepared : Prepared
        With trained networks and their thresholds in its run folder, held as this shard.
    shard : Shard
    only : sequence of str, optional
        Names of segmenters; default: all.
    force : bool
        Make again what is up to date.

    Returns
    -------
    Path
        The shard's folder.

    Raises
    ------
    RunError
        If a network is not trained, or its threshold not chosen.
    """
    for name in pick_names(prepared, only):
        data = segmentation_cases(prepared, name)
        shard_of_network(with_fitted(prepared), name, data, shard, force)
    shard_composed(prepared, shard, force=force)
    return own_folder(prepared.run.folder, shard)


def _checked(prepared: Prepared, only: Sequence[str] | None) -> list[str]:
    """The segmenters to work on; refuses what cannot be, before any training."""
    names = pick_names(prepared, only)
    note = stand_in_note(prepared.config)
    if note is not None and METHOD in names:
        say(note)
    for name in names:
        check_masks(prepared, name)
        check_gate(prepared, name)
        check_heats(prepared, name)
    return names


def _train_all(
    prepared: Prepared, name: str, force: bool, after_epoch: Callable[[int], None] | None
) -> SegmentationCases:
    """The networks of every seed; the cases as they see them."""
    data = segmentation_cases(prepared, name)
    masks = prepared.config.segmenters[name].masks
    if masks != MANIFEST:
        if launched().first:
            # What it is trained on may be made of others by now.
            segment_composed(prepared, quiet=True)
        wait_for_first()
        prepared = with_fitted(prepared)  # or of some that have no masks in the run yet
    told = dict[str, PackedTargets]()
    for seed in prepared.config.segmenter_seeds(name):
        if not force and stands_by_itself(prepared, name, seed):
            say(f"segmenter {name}, seed {seed}: up to date, though {masks} has gone")
            continue
        lent_by = lender(prepared, name, seed)
        source = None if masks == MANIFEST else find_source(prepared, masks, seed, lent_by)
        _train(prepared, name, seed, data, source, force, after_epoch, told)
    return data


def _train(
    prepared: Prepared,
    name: str,
    seed: int,
    data: SegmentationCases,
    source: PseudoLabelSource | None,
    force: bool,
    after_epoch: Callable[[int], None] | None,
    told: dict[str, PackedTargets],
) -> None:
    """The network of a seed; ``told``: what those before it were told, by its fingerprint."""
    settings = segmenter_settings(prepared, name, seed)
    folder = segmenter_folder(prepared.run.folder, name, seed)
    key = segmenter_key(prepared, name, seed, None if source is None else source.key)
    taken, source_of = taken_weights(prepared, name, seed), prepared.config.segmenters[name].masks

    def targets_of_source() -> PackedTargets:
        assert source is not None
        key = targets_key(settings, source.key)
        if key not in told:  # masks of one mean are those of every seed
            told.clear()
            kept = None if force else kept_targets(prepared, name, key)
            if kept:
                say(f"segmenter {name}: masks of {source.method} as they were made before")
            told[key] = kept or training_targets(prepared, settings, name, source)
        return told[key]

    def ready() -> tuple[SegmentationCases, list[int]]:
        # Before anything is moved: weights from a server may not be there, or nothing be found.
        _, random = new_segmenter(settings, prepared.channels, prepared.cases.dims, seed)
        say_random(settings.weights, random)
        if source is None:
            return data, training_cases(prepared)
        _, healthy = training_images(prepared)
        targets = seen_targets(prepared, settings, name, targets_of_source())
        return segmentation_cases(prepared, name, targets), sorted([*targets, *healthy])

    def run(chosen: tuple[SegmentationCases, list[int]]) -> dict[str, Any]:
        trained = fit_segmenter(
            prepared,
            settings,
            *chosen,
            folder,
            seed,
            key=key,
            what=f"segmenter {name}, seed {seed}",
            after_epoch=after_epoch,
            source=source,
        )
        if launched().first:
            write_json(folder / SETTINGS, trained.settings)
        lent = {}
        if source is not None and "/" in source_of:
            where = source.prepared.run.folder.absolute()
            lent = {LENT_MASKS: source.key, LENT_MASKS_FROM: str(where)}
        return trained.entry | {STARTING_WEIGHTS: taken} | lent

    inputs = () if source is None else source.inputs(prepared.run)
    with_heat = (heat_stage(prepared.config, seed),) if blends_heat(settings) else ()
    if source is not None:
        seen = Stage(
            targets_stage(name, seed),
            targets_key(settings, source.key),
            (target_folder(prepared.run.folder, name, seed),),
            lambda targets: _write_targets(prepared, name, seed, targets),
            inputs=inputs,
            ready=targets_of_source,
        )
        perform(prepared.run, seen, force=force)
    training = Stage(
        segmenter_stage(name, seed),
        key,
        tuple(folder / f for f in (BEST, LAST, METRICS, SETTINGS)),
        run,
        what=f"segmenter {name}, seed {seed}",
        inputs=(*inputs, *with_heat),
        ready=ready,
        network=folder,
        effort=of_segmenter(prepared, name, seed),
        together=True,
    )
    perform(prepared.run, training, force=force)
    # Only now: what was broken off before it was recorded goes on from here.
    if launched().first:
        (folder / RESUME).unlink(missing_ok=True)


def _write_targets(
    prepared: Prepared, name: str, seed: int, targets: PackedTargets
) -> dict[str, Any]:
    """Write what a network is told, for people to look at.

    Healthy images train with empty masks, as their labels say: they have no file.
    """
    run = prepared.run.folder
    remove_tree(target_folder(run, name, seed))
    of_file: dict[str, list[int]] = {}
    for i in targets:
        of_file.setdefault(prepared.cases.cases[i].file, []).append(i)
    for file, indices in of_file.items():
        cases = [prepared.cases.cases[i] for i in indices]
        path = target_file(run, name, seed, file, cases[0].formats.mask_suffix)
        write_target(path, cases, [targets[i] for i in indices])
    return {}
