"""Masks of training images that another method makes, for a network to be trained on."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from weakseg.config import MANIFEST, Config, SegmenterConfig, fingerprint, load_config
from weakseg.data.images import read_image
from weakseg.data.patches import IGNORE
from weakseg.data.targets import PackedTargets
from weakseg.errors import RunError, UserError, did_you_mean
from weakseg.layout import (
    BEST,
    SEGMENT_STAGE,
    config_file,
    heatmap_folder,
    heatmap_stage,
    masks_config,
    masks_folder,
    masks_stage,
    method_folder,
    segmenter_folder,
    threshold_file,
)
from weakseg.masks.kept import read_thresholds
from weakseg.masks.rules import configured_rule, segment
from weakseg.masks.thresholds import apply_threshold, normalise
from weakseg.progress import progress
from weakseg.runs import Run, file_hash, open_run
from weakseg.stages.base import is_current, require_whole
from weakseg.stages.heatmaps import HeatReader, heatmap_key
from weakseg.stages.prepare import Prepared
from weakseg.stages.scoring import heatmap_asked
from weakseg.stages.segmenter_masks import GATE_BY, NETWORKS
from weakseg.stages.segmenter_networks import load_networks
from weakseg.stages.segmenters import is_trained, segmentation_cases, trained_settings
from weakseg.training.loop import make_fabric

SCREENING = ("min_peak", "min_area")
"""Settings of a teacher that its pupils do not follow: their images are known to hold a lesion."""

AGAIN = "run `weakseg heatmap-segment CONFIG` or `weakseg compare CONFIG` first"


@dataclass(frozen=True)
class MaskSource:
    """A method that can make masks of training images.

    Attributes
    ----------
    prepared : Prepared
        The run that holds it: the one that is trained for, or another of the same data and splits.
    method : str
    seed : int
        Of its network; of several whose probabilities are averaged the first.
    threshold : dict
        Its entry in ``threshold.json``.
    key : str
        Fingerprint of all that its masks depend on.
    """

    prepared: Prepared
    method: str
    seed: int
    threshold: dict[str, Any]
    key: str

    @property
    def masks_seen(self) -> int:
        """How many true masks had a part in it."""
        return int(self.threshold["masks_seen"])

    def inputs(self, run: Run) -> tuple[str, ...]:
        """Stages of a run whose outputs it reads; weights and other runs are in its key."""
        if self.of_network or self.prepared.run.folder != run.folder:
            return ()
        config = self.prepared.config
        name, _ = config.heatmap_methods[self.method]
        return (heatmap_stage(config.classifier.arch, self.seed, name),)

    @property
    def of_network(self) -> bool:
        """Whether it is a segmenter; else a heatmap and a rule."""
        return self.method in self.prepared.config.segmenters


def find_source(prepared: Prepared, masks: str, seed: int) -> MaskSource:
    """The method that a segmenter's ``masks`` names.

    Parameters
    ----------
    prepared : Prepared
        The run that is trained for.
    masks : str
        ``METHOD`` or ``RUN/METHOD``.
    seed : int
        Of the segmenter that is trained: the method's network of the same seed is taken, or, where
        it has none, its first.

    Raises
    ------
    UserError
        For a method that is not there, or an upper bound.
    RunError
        If the method has made no masks yet, or could make none, or in a run of other data or
        splits.
    """
    folder, _, method = masks.rpartition("/")
    held = _other_run(prepared, Path(folder)) if folder else prepared
    config, run = held.config, held.run
    known = [*config.heatmap_methods, *config.segmenters]
    if method not in known:
        raise UserError(
            f"The run has no method {method!r} whose masks could be trained on.",
            where=f"segmenters: masks: {masks}",
            fix=did_you_mean(method, known),
        )
    if method in config.segmenters:
        seeds = list(config.mask_seeds(method))
    else:
        seeds = config.heatmap_seeds(config.heatmap_methods[method][0])
    chosen = seed if seed in seeds else seeds[0]
    path = threshold_file(masks_folder(run.folder), method)
    require_whole(run, masks_stage(method) if method in config.segmenters else SEGMENT_STAGE, path)
    entry = read_thresholds(path).get(f"seed-{chosen}") if path.exists() else None
    why = _left_out(held, method) if entry is None else None
    if why is not None:
        raise RunError(
            f"{method} could make no masks of seed {chosen}.",
            where=str(run.folder),
            found=why,
            fix=f"name another method than {masks} in the segmenter's masks, or give the rule "
            "what it lacks",
        )
    if entry is None:
        raise RunError(
            f"{method} has made no masks of seed {chosen} yet.", where=str(run.folder), fix=AGAIN
        )
    if entry.get("upper_bound"):
        raise UserError(
            f"{method} is an upper bound: it needs true masks of the images that it segments.",
            where=f"segmenters: masks: {masks}",
            fix="name a method that needs none",
        )
    if method in config.segmenters:
        together = config.mask_seeds(method)[chosen]
        if entry.get(NETWORKS, [chosen]) != together:
            raise RunError(
                f"The masks of {method} are not those of the mean of its networks."
                if config.segmenters[method].ensemble
                else f"The masks of {method} are those of the mean of its networks.",
                where=str(path),
                fix="run `weakseg train-segmenter CONFIG` without --only, or `weakseg compare "
                "CONFIG`",
            )
        if not folder:
            for one in together:
                _require_trained(held, method, one)
        hashes = [file_hash(segmenter_folder(run.folder, method, s) / BEST) for s in together]
        made_of: Any = hashes if len(hashes) > 1 else hashes[0]
    else:
        heatmap, rule = config.heatmap_methods[method]
        (asked,) = (r for r in config.rules_of(heatmap) if r.rule == rule)
        if configured_rule(entry) != asked.model_dump(mode="json"):
            raise RunError(
                f"The masks of {method} were made with other settings of the rule {rule}.",
                where=str(path),
                fix=AGAIN,
            )
        made_of = heatmap_key(held, chosen, name=heatmap)
        arch = config.classifier.arch
        folder_of = heatmap_folder(run.folder, arch, chosen, heatmap)
        stage = heatmap_stage(arch, chosen, heatmap)
        if not is_current(run, stage, made_of):
            raise RunError(
                f"The heatmaps of {method} are not those of the run's settings.",
                where=str(folder_of),
                fix=AGAIN,
            )
    told = dict(entry)
    if method in config.segmenters:
        told = {k: v for k, v in told.items() if k != GATE_BY} | {"gate": 0.0}
    if "inference" in told:
        told["inference"] = {k: v for k, v in told["inference"].items() if k not in SCREENING}
    key = fingerprint("masks of", method, chosen, told, made_of)
    return MaskSource(held, method, chosen, entry, key)


def _left_out(held: Prepared, method: str) -> str | None:
    """Why a heatmap method of the present settings made no masks."""
    config, entry = held.config, held.run.record.get("stages", {}).get(SEGMENT_STAGE, {})
    asked = heatmap_asked(config)
    if method not in config.heatmap_methods or entry.get("asked", asked) != asked:
        return None
    _, rule = config.heatmap_methods[method]
    reasons = entry.get("left_out", {})
    # Earlier versions named the rule alone.
    return reasons.get(method, reasons.get(rule))


def _require_trained(prepared: Prepared, name: str, seed: int) -> None:
    """Refuse a teacher that was trained with other settings than the experiment has now."""
    masks = prepared.config.segmenters[name].masks
    source = None if masks == MANIFEST else find_source(prepared, masks, seed).key
    if not is_trained(prepared, name, seed, source):
        raise RunError(
            f"The network {name} of seed {seed} was trained with other settings.",
            where=str(segmenter_folder(prepared.run.folder, name, seed)),
            fix="run `weakseg train-segmenter CONFIG` without --only, or `weakseg compare CONFIG`",
        )


def check_source(prepared: Prepared, masks: str) -> None:
    """Refuse another run that cannot lend its masks, before any training.

    Raises
    ------
    RunError
        If it is no run, or of other data or splits.
    """
    folder, slash, _ = masks.rpartition("/")
    if slash:
        _other_run(prepared, Path(folder))


def _other_run(prepared: Prepared, folder: Path) -> Prepared:
    """Another run, if it is of the same data and splits."""
    run = open_run(folder)
    if run.record.get("data", {}).get("splits_key") != prepared.key:
        raise RunError(
            "The run that should lend its masks is of other data, or of other splits: its networks "
            "may have been trained on test images of this one.",
            where=str(folder),
            fix="make both runs from the same manifest, data settings and splits",
        )
    return replace(prepared, run=run, config=_config_of(run))


def _config_of(run: Run) -> Config:
    """A run's experiment, its heatmaps as they were when its masks were made."""
    config, made_by = load_config(config_file(run.folder)), masks_config(run.folder)
    if not made_by.exists():
        return config
    heat = load_config(made_by)
    parts = {k: getattr(heat, k) for k in ("classifier", "heatmap", "heatmaps", "masks")}
    return config.model_copy(update=parts)


def training_targets(
    source: MaskSource, indices: Sequence[int], settings: SegmenterConfig, what: str
) -> PackedTargets:
    """What a network is told of training images, by another method; no true mask is opened.

    Parameters
    ----------
    source : MaskSource
    indices : sequence of int
        Of cases with a lesion label.
    settings : SegmenterConfig
        Of the network that is trained; ``ignore`` says what is left open.
    what : str
        For the progress bar.

    Returns
    -------
    PackedTargets
        index → target of the case's own size, uint8: 0 background, 1 lesion, `IGNORE`. Cases in
        which the method finds nothing are left out: their label says that something is there.
    """
    targets = PackedTargets()
    with progress(what, len(indices)) as advance:
        for i, mask, sure in _masks(source, indices):
            advance()
            target = mask.astype(np.uint8)
            if settings.ignore is not None:
                low, high = settings.ignore
                target[mask & (sure < high) | ~mask & (sure > low)] = IGNORE
            if (target == 1).any():
                targets[i] = target
    return targets


def _masks(
    source: MaskSource, indices: Sequence[int]
) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
    """Mask and confidence, in [0, 1], of each case.

    Neither gate nor `SCREENING` is applied, for the label says that there is a lesion.
    """
    held, config = source.prepared, source.prepared.config
    if not source.of_network:
        name, _ = config.heatmap_methods[source.method]
        folder = heatmap_folder(held.run.folder, config.classifier.arch, source.seed, name)
        reader = HeatReader(held, folder)
        rule = reader.fitted(
            source.threshold, method_folder(masks_folder(held.run.folder), source.method)
        )
        for i in indices:
            case = held.cases.cases[i]
            heat = reader.load(case).full()
            yield i, segment(rule, heat, read_image(case.image)), normalise(heat)
        return
    trained = segmenter_folder(held.run.folder, source.method, source.seed)
    settings = trained_settings(trained, source.threshold)
    fabric = make_fabric(config.device, settings.precision)
    together = source.threshold.get(NETWORKS, [source.seed])
    networks = load_networks(held.run.folder, source.method, together, fabric.device)
    data = segmentation_cases(held, source.method)
    with fabric.autocast():
        for i, own in networks.probabilities(data, indices, settings):
            yield i, apply_threshold(own, float(source.threshold["threshold"])), own
