"""``weakseg train-segmenter``: segmentation networks, their masks and their scores."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from weakseg.config import MANIFEST, SegmenterConfig, fingerprint
from weakseg.config.recipes import METHOD, stand_in_note
from weakseg.data.images import write_target
from weakseg.data.patches import IGNORE
from weakseg.data.targets import PackedTargets
from weakseg.errors import UserError
from weakseg.layout import (
    BEST,
    LAST,
    METRICS,
    RESUME,
    SETTINGS,
    segmenter_folder,
    segmenter_stage,
    target_file,
    target_folder,
    targets_stage,
)
from weakseg.methods.gate import check_gate
from weakseg.methods.networks import say_random
from weakseg.methods.prepared import Prepared
from weakseg.methods.pseudo_labels import (
    PseudoLabelSource,
    check_source,
    find_source,
    training_targets,
)
from weakseg.methods.segmenters import (
    load_segmenter,
    masks_of,
    network_size,
    segmentation_cases,
    segmenter_key,
    segmenter_settings,
    training_cases,
    training_images,
)
from weakseg.models.classifiers import imagenet_state
from weakseg.models.pretrained import backbone_name, load_backbone
from weakseg.models.segmenters import Segmenter, build_segmenter
from weakseg.progress import say
from weakseg.runs import remove_tree, write_json
from weakseg.stages.base import Stage, perform
from weakseg.stages.scoring import collect
from weakseg.stages.segmenter_masks import segment_by_network
from weakseg.training.given import given_weights
from weakseg.training.loop import FitSettings, fit, make_fabric
from weakseg.training.segment import SegmentationCases, SegmenterTask
from weakseg.training.selection import best_epoch

SELECT = "val_dice"
"""The validation figure that chooses the epoch of ``keep: best``."""


def pick_names(prepared: Prepared, only: Sequence[str] | None) -> list[str]:
    """The segmenters to work on.

    Raises
    ------
    UserError
        If the experiment has none, or none of that name.
    """
    known = list(prepared.config.segmenters)
    if not known:
        raise UserError(
            "The experiment names no segmenter.",
            where="segmenters",
            fix="add one, for example --set segmenters.unet.arch=unet",
        )
    for name in only or ():
        if name not in known:
            raise UserError(
                f"The experiment has no segmenter {name!r}.",
                where="--only",
                fix=f"choose one of: {', '.join(known)}",
            )
    return [n for n in known if not only or n in only]


def train_segmenters(
    prepared: Prepared,
    *,
    only: Sequence[str] | None = None,
    force: bool = False,
    after_epoch: Callable[[int], None] | None = None,
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

    Returns
    -------
    Path
        The table of scores, ``scores/summary.csv``.
    """
    names = pick_names(prepared, only)
    note = stand_in_note(prepared.config)
    if note is not None and METHOD in names:
        say(note)
    for name in names:
        check_masks(prepared, name)
        check_gate(prepared, name)
    for name in names:
        data = segmentation_cases(prepared, name)
        masks = prepared.config.segmenters[name].masks
        for seed in prepared.config.segmenter_seeds(name):
            source = None if masks == MANIFEST else find_source(prepared, masks, seed)
            _train(prepared, name, seed, data, source, force, after_epoch)
        segment_by_network(prepared, name, data, force)
    return collect(prepared)


def check_masks(prepared: Prepared, name: str) -> None:
    """Refuse settings that need masks where there are none, before any training.

    Raises
    ------
    UserError
    """
    config = prepared.config.segmenters[name]
    if config.masks == MANIFEST:
        training_cases(prepared)
    else:
        check_source(prepared, config.masks)
    wants = {"keep": config.keep == "best", "threshold": config.threshold == "validation"}
    val = [i for i, c in enumerate(prepared.cases.cases) if c.split == "val"]
    if any(wants.values()) and not masks_of(prepared, val):
        key = next(k for k, w in wants.items() if w)
        raise UserError(
            "No validation image with a lesion has a mask.",
            where=f"segmenters.{name}.{key}",
            fix="set keep: last and threshold: 0.5, which need none",
        )


def new_segmenter(
    config: SegmenterConfig, channels: int, dims: int, seed: int
) -> tuple[Segmenter, list[str]]:
    """A segmenter at the beginning of its training, and the parts that are random."""
    import torch

    torch.manual_seed(seed)
    model = build_segmenter(config.arch, channels, 2, dims)
    if config.weights == "none":
        return model, ["all"]
    state = starting_weights(config)
    return model, load_backbone(model, state, config.weights)


def starting_weights(config: SegmenterConfig) -> dict[str, Any]:
    """The tensors that a segmenter begins with.

    Raises
    ------
    UserError
        For weights that cannot be read, or those of a whole segmenter: the masks that it saw
        could not be counted.
    """
    if config.weights == "imagenet":
        return imagenet_state(backbone_name(config.arch))
    state, meta = given_weights(Path(config.weights))
    if meta.get("format", "").startswith("weakseg-segmenter"):
        raise UserError(
            "The weights are those of a whole segmenter: which masks it saw is not known here.",
            where=config.weights,
            expected="weights of the backbone, a classifier's",
            fix="set weights: imagenet or a classifier's file",
        )
    return state


@dataclass(frozen=True)
class Trained:
    """What a training leaves besides weights.

    Attributes
    ----------
    model : Segmenter
        With the weights that are kept, in evaluation mode, on its device.
    fabric : lightning.fabric.Fabric
        With that device, and the precision.
    entry : dict
        For the record.
    settings : dict
        For ``settings.json``: what a later reader needs to use the network.
    """

    model: Segmenter
    fabric: Any
    entry: dict[str, Any]
    settings: dict[str, Any]


def fit_segmenter(
    prepared: Prepared,
    settings: SegmenterConfig,
    data: SegmentationCases,
    train: Sequence[int],
    folder: Path,
    seed: int,
    *,
    key: str,
    what: str,
    after_epoch: Callable[[int], None] | None = None,
    source: PseudoLabelSource | None = None,
) -> Trained:
    """Train one segmenter into a folder.

    Parameters
    ----------
    prepared : Prepared
    settings : SegmenterConfig
        Resolved.
    data : SegmentationCases
    train : sequence of int
        Indices of the cases to train on, see `training_cases`.
    folder : Path
    seed : int
    key, what, after_epoch
        See `weakseg.training.loop.fit`.
    source : PseudoLabelSource, optional
        Of the targets in ``data``, where these are not the manifest's masks. Validation masks are
        then opened only if the settings choose the best epoch by them.
    """
    import torch

    dims = prepared.cases.dims
    model, random = new_segmenter(settings, prepared.channels, dims, seed)
    fabric = make_fabric(prepared.config.device, settings.precision)
    if dims == 2:
        model = model.to(memory_format=torch.channels_last)
    looks = source is None or settings.keep == "best"
    val = [i for i, c in enumerate(prepared.cases.cases) if c.split == "val" and looks]
    task = SegmenterTask(settings, model, data, train, val, seed, fabric.device)
    select = SELECT if settings.keep == "best" else None
    history = fit(
        model,
        task,
        FitSettings(
            epochs=int(settings.epochs),
            optimizer=settings.optimizer,
            lr=float(settings.lr),
            weight_decay=float(settings.weight_decay),
            warmup=settings.warmup,
            seed=seed,
            select=select,
            schedule=settings.schedule,
            l1=float(settings.l1),
            l2=float(settings.l2),
            average=settings.average,
            ema_decay=settings.ema_decay,
            swa_start=settings.swa_start,
            compile=settings.compile,
        ),
        folder,
        fabric,
        key=key,
        metadata={
            "format": "weakseg-segmenter-1",
            "arch": settings.arch,
            "channels": str(prepared.channels),
            "dims": str(dims),
        },
        what=what,
        after_epoch=after_epoch,
    )
    seen = masks_of(prepared, train) if source is None else source.masks_seen
    looked = masks_of(prepared, task.val) if settings.keep == "best" else 0
    sampled, true = task.priors()
    chosen = best_epoch(history, select)
    held = load_segmenter(folder).to(fabric.device)
    return Trained(
        held,
        fabric,
        {
            "device": str(fabric.device),
            "precision": str(fabric._precision.precision),
            "random_tensors": random,
            "kept_epoch": chosen.epoch,
            "kept_because": chosen.why,
            "epochs": len(history),
            "training_masks": seen,
            "validation_masks": looked,
        },
        {
            "settings": settings.fingerprint_settings(),
            "image_size": network_size(prepared, settings),
            "intensity": prepared.config.data.intensity,
            "channels": prepared.channels,
            "dims": dims,
            "steps": task.steps,
            "batch": task.batch,
            "roi": any(prepared.cases.cases[i].roi is not None for i in train),
            "sampled_prior": sampled,
            "true_prior": true,
            "masks_of": None if source is None else source.method,
            "masks_of_seed": None if source is None else source.seed,
            "targets": len(data.targets),
            "training_masks": seen,
            "validation_masks": looked,
        },
    )


def _train(
    prepared: Prepared,
    name: str,
    seed: int,
    data: SegmentationCases,
    source: PseudoLabelSource | None,
    force: bool,
    after_epoch: Callable[[int], None] | None,
) -> None:
    settings = segmenter_settings(prepared, name)
    folder = segmenter_folder(prepared.run.folder, name, seed)
    key = segmenter_key(prepared, name, seed, None if source is None else source.key)

    @cache
    def told() -> PackedTargets:
        assert source is not None
        return _targets(prepared, settings, name, source)

    def ready() -> tuple[SegmentationCases, list[int]]:
        # Before anything is moved: weights from a server may not be there, or nothing be found.
        _, random = new_segmenter(settings, prepared.channels, prepared.cases.dims, seed)
        say_random(settings.weights, random)
        if source is None:
            return data, training_cases(prepared)
        _, healthy = training_images(prepared)
        return segmentation_cases(prepared, name, told()), sorted([*told(), *healthy])

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
        write_json(folder / SETTINGS, trained.settings)
        return trained.entry

    inputs = () if source is None else source.inputs(prepared.run)
    if source is not None and prepared.cases.dims == 2:
        seen = Stage(
            targets_stage(name, seed),
            fingerprint("targets", 1, source.key, settings.ignore),
            (target_folder(prepared.run.folder, name, seed),),
            lambda targets: _write_targets(prepared, name, seed, targets),
            inputs=inputs,
            ready=told,
        )
        perform(prepared.run, seen, force=force)
    training = Stage(
        segmenter_stage(name, seed),
        key,
        tuple(folder / f for f in (BEST, LAST, METRICS, SETTINGS)),
        run,
        what=f"segmenter {name}, seed {seed}",
        inputs=inputs,
        ready=ready,
        network=folder,
    )
    perform(prepared.run, training, force=force)
    # Only now: what was broken off before it was recorded goes on from here.
    (folder / RESUME).unlink(missing_ok=True)


def _targets(
    prepared: Prepared, settings: SegmenterConfig, name: str, source: PseudoLabelSource
) -> PackedTargets:
    """Another method's masks of the training images with a lesion, in the place of true ones."""
    lesion, _ = training_images(prepared)
    what = f"masks by {source.method}, seed {source.seed}"
    targets = training_targets(source, lesion, settings, what)
    if not targets:
        raise UserError(
            f"{source.method} finds nothing in any training image.",
            where=f"segmenters.{name}.masks",
            fix="look at its heatmaps and masks, and choose another method",
        )
    left_out = len(lesion) - len(targets)
    if left_out:
        say(f"{what}: {left_out} of {len(lesion)} training images left out, nothing was found")
    return targets


def _write_targets(
    prepared: Prepared, name: str, seed: int, targets: PackedTargets
) -> dict[str, Any]:
    """Write what a network is told, for people to look at.

    Healthy images train with empty masks, as their labels say: they have no file.
    """
    run = prepared.run.folder
    remove_tree(target_folder(run, name, seed))
    for i, target in targets.items():
        write_target(target_file(run, name, seed, prepared.cases.cases[i].id), target, IGNORE)
    return {}
