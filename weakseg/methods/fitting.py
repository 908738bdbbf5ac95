"""The training of one network of a run: of a classifier, or of a segmenter."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from weakseg.config import ClassifierConfig, OneNetwork
from weakseg.data.arrays import Images
from weakseg.methods.classifiers import header
from weakseg.methods.prepared import Prepared
from weakseg.methods.pseudo_labels import PseudoLabelSource
from weakseg.methods.segmenters import load_segmenter, masked_lesions, network_size
from weakseg.methods.training_heats import blends_heat, training_heats
from weakseg.models.cascade import Cascade
from weakseg.models.classifier import Classifier
from weakseg.models.freezing import freeze
from weakseg.models.modes import channels_last
from weakseg.models.segmenters import Segmenter
from weakseg.training.beginning import highest_rate, new_segmenter
from weakseg.training.classify import ClassifierTask
from weakseg.training.loop import FitSettings, fit, make_fabric
from weakseg.training.segment import SegmenterTask, laid_out
from weakseg.training.segmentation_cases import SegmentationCases
from weakseg.training.selection import best_epoch
from weakseg.training.together import share_of_launch

BY_AUC = "val_auc"
"""The validation figure that chooses a classifier's epoch."""

BY_DICE = "val_dice"
"""The validation figure that chooses a segmenter's epoch with ``keep: best``."""


def fit_classifier(
    prepared: Prepared,
    config: ClassifierConfig,
    model: Classifier,
    images: Images,
    folder: Path,
    seed: int,
    key: str,
    what: str,
    after_epoch: Callable[[int], None] | None = None,
    heats: Callable[[int], np.ndarray] | None = None,
) -> dict[str, Any]:
    """Train one classifier on the training split; validation chooses its epoch.

    Parameters
    ----------
    prepared : Prepared
    config : ClassifierConfig
    model : Classifier
        At the beginning of its training.
    images : Images
        Of all cases, raw or filtered.
    folder, seed, key, what, after_epoch
        See `weakseg.training.loop.fit`.
    heats : callable, optional
        See `ClassifierTask`.

    Returns
    -------
    dict
        What the record says of it: device, precision, best_epoch and why it is the best.
    """
    fabric = make_fabric(prepared.config.device, config.precision, together=True)
    share = share_of_launch()
    train, val = prepared.cases.indices("train"), prepared.cases.indices("val")
    task = ClassifierTask(
        config, prepared.cases.labels, images, train, val, seed, fabric.device, share, heats
    )
    rate = highest_rate(config)
    if config.freeze:
        freeze(model)
    history = fit(
        channels_last(model),
        task,
        FitSettings(
            config.epochs, config.optimizer, rate, config.weight_decay, config.warmup, seed,
            BY_AUC, compile=config.compile,
        ),
        folder,
        fabric,
        key=key,
        metadata=header(model.spec, prepared),
        what=what,
        after_epoch=after_epoch,
    )  # fmt: skip
    chosen = best_epoch(history, BY_AUC)
    best = {"best_epoch": chosen.epoch, "best_because": chosen.why}
    return {**_where(fabric), **best, **share.entry}


@dataclass(frozen=True)
class Trained:
    """What a training leaves besides weights.

    Attributes
    ----------
    model : Segmenter
        With the weights that are kept, in evaluation mode, on its device.
    entry : dict
        For the record.
    settings : dict
        For ``settings.json``: what a later reader needs to use the network.
    """

    model: Segmenter
    entry: dict[str, Any]
    settings: dict[str, Any]


def fit_segmenter(
    prepared: Prepared,
    settings: OneNetwork,
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
    settings : OneNetwork
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
    dims = prepared.cases.dims
    model, random = new_segmenter(settings, prepared.channels, dims, seed)
    fabric = make_fabric(prepared.config.device, settings.precision, together=True)
    share = share_of_launch()
    model = laid_out(model, dims)
    looks = source is None or settings.keep == "best"
    val = prepared.cases.indices("val") if looks else []
    size = network_size(prepared, settings)
    heats = training_heats(prepared, settings, seed, size) if blends_heat(settings) else None
    task = SegmenterTask(settings, model, data, train, val, seed, fabric.device, share, heats, what)
    select = BY_DICE if settings.keep == "best" else None
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
            turns=model.turns(int(settings.epochs)) if isinstance(model, Cascade) else (),
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
        memory=task.correction,
    )
    correction = {} if task.correction is None else {"corrected_after": task.correction.after}
    seen = masked_lesions(prepared, train) if source is None else source.seen
    looked = masked_lesions(prepared, task.val if settings.keep == "best" else ())
    sampled, true = task.priors()
    chosen = best_epoch(history, select)
    best = load_segmenter(folder).to(fabric.device)
    return Trained(
        best,
        {
            **_where(fabric),
            "random_tensors": random,
            "kept_epoch": chosen.epoch,
            "kept_because": chosen.why,
            "epochs": len(history),
            "training_masks": seen.count,
            "validation_masks": looked.count,
            **correction,
            **share.entry,
        },
        {
            "settings": settings.fingerprint_settings(),
            "image_size": size,
            "intensity": prepared.config.data.intensity,
            "window": prepared.config.data.window,
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
            "training_masks": seen.count,
            "validation_masks": looked.count,
            **correction,
            **(seen | looked).to_json(),
        },
    )


def _where(fabric: Any) -> dict[str, str]:
    """Of the record: on what device, and how exactly, a network was trained."""
    return {"device": str(fabric.device), "precision": str(fabric._precision.precision)}
