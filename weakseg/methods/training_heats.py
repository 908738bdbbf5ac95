"""Heatmaps of training images, for a network whose training images they are blended into."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np

from weakseg.config import AugmentConfig, Config, OneNetwork, PatchAugmentConfig
from weakseg.current import is_current
from weakseg.data.geometry import letterbox, to_square
from weakseg.errors import RunError, UserError
from weakseg.filtering.selectors import partners
from weakseg.heatmaps.store import Heatmap
from weakseg.layout import classifier_stage, heatmap_folder
from weakseg.masks.thresholds import normalise
from weakseg.methods.classifiers import is_trained
from weakseg.methods.other_runs import heat_seed, heat_stage
from weakseg.methods.prepared import Prepared
from weakseg.methods.stored_heatmaps import HeatReader, heatmap_key

FIRST = "run `weakseg heatmap-segment CONFIG` first, or `weakseg compare CONFIG`"


def blends_heat(settings: Any) -> bool:
    """Whether a resolved segmenter's training images are blended with heatmaps."""
    augment = settings.augment
    return isinstance(augment, PatchAugmentConfig) and augment.heat > 0


def heat_stands_on(config: Config, seed: int) -> set[str]:
    """The stages that they stand on, their own among them."""
    together = config.all_heatmaps[config.heatmap.method].ensemble
    by = config.seeds if together else [heat_seed(config, seed)]
    arch = config.classifier.arch
    return {heat_stage(config, seed), *(classifier_stage(arch, s) for s in by)}


def heat_key(prepared: Prepared, seed: int) -> str:
    """Fingerprint of all that they depend on.

    Raises
    ------
    UserError
        Of volumes without a classifier, or images without healthy ones.
    RunError
        If there is no classifier yet.
    """
    of = heat_seed(prepared.config, seed)
    if not prepared.has_classifier:
        raise UserError(
            "There is no classifier whose heatmaps could be blended into training images.",
            where="segmenters: augment: heat",
            fix="set augment: auto",
        )
    if not is_trained(prepared, of):
        raise RunError(
            "The run has no classifier yet whose heatmaps could be blended into training images.",
            where=str(prepared.run.folder),
            fix=FIRST,
        )
    return heatmap_key(prepared, of)


def training_heats(
    prepared: Prepared, settings: OneNetwork, seed: int, size: int
) -> Callable[[int], np.ndarray]:
    """The heat that is blended into each training image of a segmenter, see `heats_of`."""
    augment = settings.augment
    assert isinstance(augment, PatchAugmentConfig)
    return heats_of(prepared, augment, seed, size)


def heats_of(
    prepared: Prepared, augment: AugmentConfig, seed: int, size: int
) -> Callable[[int], np.ndarray]:
    """The heat that is blended into each training image of a network.

    Parameters
    ----------
    prepared : Prepared
        With the heatmaps in its run folder.
    augment : AugmentConfig
        Its ``heat_of`` says whether an image has its own heatmap or, as a control, that of another
        image of its split, every heatmap being taken once.
    seed : int
        Of the network.
    size : int
        Side of the square that it sees.

    Returns
    -------
    callable
        Index of a case → (S, S) ndarray of float32 from 0 to 1, the hottest place 1; 0 beside the
        image, and everywhere where the heatmap is flat.

    Raises
    ------
    RunError
        If the heatmaps are not there, or were made with other settings.
    """
    config = prepared.config
    arch, name, of = config.classifier.arch, config.heatmap.method, heat_seed(config, seed)
    folder, stage = heatmap_folder(prepared.run.folder, arch, of, name), heat_stage(config, seed)
    if not is_current(prepared.run, stage, heat_key(prepared, seed)):
        raise RunError(
            "The heatmaps that are to be blended into training images are not there, or are not "
            "those of the run's settings.",
            where=str(folder),
            fix=FIRST,
        )
    reader, cases = HeatReader(prepared, folder), prepared.cases.cases
    lenders = np.arange(len(cases))
    if augment.heat_of == "another":
        lenders = partners([str(c.split) for c in cases], seed)
    read = cache(lambda i: reader.load(cases[i]))

    def heat(i: int) -> np.ndarray:
        own, lent = read(i), read(int(lenders[i]))
        height, width = own.shape
        return np.where(letterbox((height, width), size).content(), _square(lent, size), 0)

    return heat


def _square(heat: Heatmap, size: int) -> np.ndarray:
    """Positive heat over its maximum, over the square that a network sees."""
    if heat.flat:
        return np.zeros((size, size), dtype=np.float32)
    return normalise(to_square(np.maximum(heat.raw, 0), size)).astype(np.float32)
