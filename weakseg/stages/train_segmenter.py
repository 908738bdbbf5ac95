"""``weakseg train-segmenter``: the supervised baselines, their masks and their scores."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from weakseg.config import AUTO, SegmenterConfig, fingerprint
from weakseg.data.cases import Case
from weakseg.data.patches import knows_truth
from weakseg.errors import DataError, RunError, UserError
from weakseg.masks.thresholds import apply_threshold, best_threshold
from weakseg.models.classifiers import imagenet_state
from weakseg.models.pretrained import load_backbone
from weakseg.models.segmenters import Segmenter, build_segmenter, find_segmenter
from weakseg.progress import progress, say
from weakseg.runs import file_hash, inside, read_json, remove_tree, write_json
from weakseg.scores import score_case
from weakseg.stages.prepare import Prepared
from weakseg.stages.scoring import (
    THRESHOLD,
    case_entry,
    collect,
    mask_file,
    part_path,
    read_truth,
    save_mask,
    scored_cases,
    spacing_of,
    write_part,
)
from weakseg.stages.train_classifier import set_aside
from weakseg.training.loop import (
    BEST,
    LAST,
    METRICS,
    RESUME,
    FitSettings,
    fit,
    load_weights,
    make_fabric,
)
from weakseg.training.recipes import resolve
from weakseg.training.segment import SegmentationCases, SegmenterTask, predict, val_cases

SETTINGS = "settings.json"
KIND = "supervised"

_AFTER_TRAINING = {"tile", "overlap", "flips", "threshold", "recalibrate", "seeds"}
"""Settings that a trained network does not depend on."""


def segmenter_folder(run: Path, name: str, seed: int) -> Path:
    """Where the segmenter of a seed lives."""
    return inside(run, "segmenter", name, f"seed-{seed}")


def segmenter_stage(name: str, seed: int) -> str:
    """The name of a segmenter's stage in the record."""
    return f"segmenter/{name}/{seed}"


def segmenter_settings(prepared: Prepared, name: str) -> SegmenterConfig:
    """A segmenter's settings with nothing left open."""
    return resolve(prepared.config.segmenter(name), prepared.cases.dims)


def network_size(prepared: Prepared, settings: SegmenterConfig) -> int:
    """Longest side of images as the network sees them."""
    size = settings.image_size
    return prepared.config.data.image_size if size == AUTO else int(size)


def segmenter_key(prepared: Prepared, name: str, seed: int) -> str:
    """Fingerprint of all that a trained segmenter depends on."""
    config = prepared.config.segmenter(name)
    weights: Any = config.weights
    if weights not in ("none", "imagenet") and Path(weights).is_file():
        weights = file_hash(Path(weights))
    settings = segmenter_settings(prepared, name).model_dump(mode="json")
    settings = {k: v for k, v in settings.items() if k not in {*_AFTER_TRAINING, "weights"}}
    return fingerprint("segmenter", 1, prepared.key, settings, weights, seed)


def is_trained(prepared: Prepared, name: str, seed: int) -> bool:
    """Whether the segmenter in the run folder is the one that the experiment asks for."""
    folder = segmenter_folder(prepared.run.folder, name, seed)
    outputs = [folder / f for f in (BEST, LAST, METRICS, SETTINGS)]
    key = segmenter_key(prepared, name, seed)
    return prepared.run.is_done(segmenter_stage(name, seed), key, *outputs)


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
    for name in pick_names(prepared, only):
        data = segmentation_cases(prepared, name)
        for seed in prepared.config.segmenter_seeds(name):
            if not force and is_trained(prepared, name, seed):
                say(f"segmenter {name}, seed {seed}: up to date")
                continue
            _train(prepared, name, seed, data, force, after_epoch)
        _segment(prepared, name, data, force)
    return collect(prepared)


def segmentation_cases(prepared: Prepared, name: str) -> SegmentationCases:
    """The run's cases as a segmenter sees them."""
    settings = segmenter_settings(prepared, name)
    return SegmentationCases(
        prepared.cases.cases,
        prepared.cases.labels,
        prepared.config.data,
        prepared.channels,
        settings.normalise,
        network_size(prepared, settings),
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


def has_training_masks(prepared: Prepared) -> bool:
    """Whether any training image with a lesion has a mask."""
    train = [i for i, c in enumerate(prepared.cases.cases) if c.split == "train"]
    return masks_of(prepared, train) > 0


def masks_of(prepared: Prepared, indices: Sequence[int]) -> int:
    """How many of some cases are lesions with a mask."""
    labels, cases = prepared.cases.labels, prepared.cases.cases
    return sum(cases[i].mask is not None and labels.is_lesion(cases[i].label) for i in indices)


def new_segmenter(
    config: SegmenterConfig, channels: int, dims: int, seed: int
) -> tuple[Segmenter, list[str]]:
    """A segmenter at the beginning of its training, and the parts that are random."""
    import torch

    torch.manual_seed(seed)
    model = build_segmenter(config.arch, channels, 2, dims)
    if config.weights == "none":
        return model, ["all"]
    if config.weights == "imagenet":
        state = imagenet_state(_backbone_name(config.arch))
    else:
        state, _ = load_weights(Path(config.weights))
    return model, load_backbone(model, state, config.weights)


def _backbone_name(arch: str) -> str:
    _, backbone = find_segmenter(arch)
    if backbone:
        return backbone
    if arch.endswith("_resnet50"):
        return "resnet50"
    raise UserError(
        f"{arch} has no backbone that ImageNet weights could fill.",
        where="segmenters: weights",
        fix="set weights: none",
    )


@dataclass(frozen=True)
class Trained:
    """What a training leaves besides weights.

    Attributes
    ----------
    model : Segmenter
        With the weights that are kept, in evaluation mode, on its device.
    device : torch.device
    entry : dict
        For the record.
    settings : dict
        For ``settings.json``: what a later reader needs to use the network.
    """

    model: Segmenter
    device: Any
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
    """
    import torch

    dims = prepared.cases.dims
    model, random = new_segmenter(settings, prepared.channels, dims, seed)
    fabric = make_fabric(prepared.config.device, settings.precision)
    if dims == 2:
        model = model.to(memory_format=torch.channels_last)
    val = [i for i, c in enumerate(prepared.cases.cases) if c.split == "val"]
    task = SegmenterTask(settings, model, data, train, val, seed, fabric.device)
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
            select="val_dice" if settings.keep == "best" else None,
            schedule=settings.schedule,
            l1=float(settings.l1),
            l2=float(settings.l2),
            average=settings.average,
            ema_decay=settings.ema_decay,
            swa_start=settings.swa_start,
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
    seen = masks_of(prepared, train)
    looked = masks_of(prepared, task.val) if settings.keep == "best" else 0
    sampled, true = task.priors()
    best = max(range(len(history)), key=lambda k: np.nan_to_num(history[k]["val_dice"], nan=-1.0))
    held = load_segmenter(folder).to(fabric.device)
    kept = best + 1 if settings.keep == "best" else len(history)
    return Trained(
        held,
        fabric.device,
        {
            "device": str(fabric.device),
            "precision": str(fabric._precision.precision),
            "random_tensors": random,
            "kept_epoch": kept,
            "epochs": len(history),
            "training_masks": seen,
            "validation_masks": looked,
        },
        {
            "settings": settings.model_dump(mode="json"),
            "image_size": network_size(prepared, settings),
            "intensity": prepared.config.data.intensity,
            "channels": prepared.channels,
            "dims": dims,
            "steps": task.steps,
            "batch": task.batch,
            "sampled_prior": sampled,
            "true_prior": true,
            "training_masks": seen,
            "validation_masks": looked,
        },
    )


def _train(
    prepared: Prepared,
    name: str,
    seed: int,
    data: SegmentationCases,
    force: bool,
    after_epoch: Callable[[int], None] | None,
) -> None:
    settings = segmenter_settings(prepared, name)
    folder = segmenter_folder(prepared.run.folder, name, seed)
    stage, key = segmenter_stage(name, seed), segmenter_key(prepared, name, seed)
    train = training_cases(prepared)
    # Before anything is moved: weights from a server may not be there.
    new_segmenter(settings, prepared.channels, prepared.cases.dims, seed)
    set_aside(prepared, stage, folder, key, force)
    with prepared.run.stage(stage, key) as entry:
        trained = fit_segmenter(
            prepared,
            settings,
            data,
            train,
            folder,
            seed,
            key=key,
            what=f"segmenter {name}, seed {seed}",
            after_epoch=after_epoch,
        )
        write_json(folder / SETTINGS, trained.settings)
        (folder / RESUME).unlink(missing_ok=True)
        entry.update(trained.entry)


def load_segmenter(folder: Path) -> Segmenter:
    """The network of a seed's folder whose weights are kept, in evaluation mode.

    Raises
    ------
    RunError
        If it is not there, or is not one of ours.
    """
    path = folder / BEST
    if not path.exists():
        raise RunError(
            "The run has no such trained segmenter.",
            where=str(path),
            fix="run `weakseg train-segmenter CONFIG` first, or `weakseg compare CONFIG`",
        )
    state, meta = load_weights(path)
    try:
        model = build_segmenter(meta["arch"], int(meta["channels"]), 2, int(meta["dims"]))
        model.load_state_dict(state)
    except (KeyError, ValueError, RuntimeError) as e:
        raise RunError(
            "The weights file was not written by this version of weakseg.",
            where=str(path),
            found=str(e).splitlines()[0],
            fix="train the segmenter again with --force",
        ) from None
    return model.eval()


def priors_of(settings: dict[str, Any]) -> tuple[float, float]:
    """Sampled and true share of lesion voxels, from ``settings.json``."""
    return float(settings["sampled_prior"]), float(settings["true_prior"])


def _segment(prepared: Prepared, name: str, data: SegmentationCases, force: bool) -> None:
    """Masks of the test cases by every seed, and their scores."""
    run, config = prepared.run, prepared.config
    settings = segmenter_settings(prepared, name)
    seeds = config.segmenter_seeds(name)
    folders = {s: segmenter_folder(run.folder, name, s) for s in seeds}
    weights = {str(s): file_hash(f / BEST) for s, f in folders.items()}
    after = {k: v for k, v in settings.model_dump(mode="json").items() if k in _AFTER_TRAINING}
    stage, part = f"masks/{name}", f"segmenter-{name}"
    key = fingerprint(stage, 1, prepared.key, weights, after)
    masks = inside(run.folder, "masks", name)
    if not force and run.is_done(stage, key, masks / THRESHOLD, part_path(prepared, part)):
        say(f"masks of {name}: up to date")
        return
    fresh = inside(run.folder, f".part-masks-{name}")
    remove_tree(fresh)
    rows: list[dict[str, Any]] = []
    thresholds: dict[str, Any] = {}
    test = [i for i, c in enumerate(prepared.cases.cases) if c.split == "test"]
    scored = scored_cases(prepared)
    with (
        run.stage(stage, key) as entry,
        progress(f"masks of {name}", len(seeds) * len(test)) as advance,
    ):
        for seed, folder in folders.items():
            fabric = make_fabric(config.device, settings.precision)
            model = load_segmenter(folder).to(fabric.device)
            held = read_json(folder / SETTINGS)

            def probabilities(
                indices: Sequence[int],
                model: Any = model,
                fabric: Any = fabric,
                held: dict[str, Any] = held,
            ) -> Iterator[tuple[int, np.ndarray]]:
                with fabric.autocast():
                    found = predict(model, data, indices, settings, fabric.device, priors_of(held))
                    for i, p in found:
                        yield i, data.original(i, p)

            threshold = _threshold(prepared, settings, held, data, probabilities)
            thresholds[f"seed-{seed}"] = threshold
            for i, p in probabilities(test):
                rows += score_probability(
                    prepared, i, p, threshold, name, seed, scored, masks=fresh / name
                )
                advance()
        write_json(fresh / name / THRESHOLD, thresholds)
        remove_tree(masks)
        masks.parent.mkdir(exist_ok=True)
        (fresh / name).replace(masks)
        remove_tree(fresh)
        write_part(prepared, part, rows)
        entry.update(weights=weights, data=prepared.key)


def _threshold(
    prepared: Prepared,
    settings: SegmenterConfig,
    held: dict[str, Any],
    data: SegmentationCases,
    probabilities: Callable[[Sequence[int]], Iterator[tuple[int, np.ndarray]]],
) -> dict[str, Any]:
    """The threshold on the probability, what it was chosen on, and all masks that were seen."""
    seen = int(held["training_masks"]) + int(held["validation_masks"])
    chosen_on = f"nothing; the network saw {held['training_masks']} training masks"
    value = settings.threshold
    if value == "validation":
        everything = [i for i, c in enumerate(prepared.cases.cases) if c.split == "val"]
        lesions = [i for i in val_cases(data, everything, 10**9) if not data.truth_is_empty(i)]
        if not lesions:
            raise UserError(
                "The threshold cannot be chosen on validation masks.",
                where="segmenters: threshold: validation",
                found="no validation lesion with a mask",
                fix="set threshold to a probability, such as 0.5",
            )
        found = dict(probabilities(lesions))
        cases = prepared.cases.cases
        truths = [
            read_truth(cases[i], found[i].shape, False, prepared.config.data) for i in lesions
        ]
        value, _ = best_threshold([found[i] for i in lesions], truths)
        seen += len(lesions) - int(held["validation_masks"])
        chosen_on = f"{len(lesions)} validation masks"
    return {
        "kind": KIND,
        "rule": "probability",
        "threshold": float(value),
        "scale": "probability",
        "chosen_on": chosen_on,
        "masks_seen": seen,
        "gate": 0.0,
        "split": "test",
        "upper_bound": False,
    }


def score_probability(
    prepared: Prepared,
    i: int,
    probability: np.ndarray,
    threshold: dict[str, Any],
    name: str,
    seed: int,
    scored: Container[str],
    *,
    masks: Path | None = None,
) -> list[dict[str, Any]]:
    """Write the mask of a test case where asked for, and score it where its truth is known.

    Returns
    -------
    list of dict
        One row of ``per_case.csv``, or none.
    """
    case = prepared.cases.cases[i]
    mask = apply_threshold(probability, threshold["threshold"])
    if masks is not None:
        save_mask(mask_file(masks.parent, masks.name, seed, case), mask, case)
    if case.id not in scored:
        return []
    healthy = not prepared.cases.labels.is_lesion(case.label)
    truth = read_truth(case, mask.shape, healthy, prepared.config.data)
    scores = score_case(mask, truth, heatmap=probability, spacing=spacing_of(case))
    entry = case_entry(case, name, KIND, seed, threshold["masks_seen"])
    return [entry | scores | {"flat": False, "gated": False}]
