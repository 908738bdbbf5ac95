"""At which scale an image is explained: what its labels, and its own heatmap, say of it.

A heatmap shows lesions of one size relative to the network's input: of a larger one it shows a
part, of a smaller one the surroundings as well. So a large lesion is best seen in a smaller image.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace

import numpy as np
import torch

from weakseg.config import HeatmapConfig
from weakseg.data.arrays import ImageBatches, batches_ahead
from weakseg.data.augment import rescaled
from weakseg.data.cases import Labels
from weakseg.data.geometry import letterbox, to_original
from weakseg.heatmaps.store import Heatmap
from weakseg.models.classifier import Classifier

HOT = 0.5
"""Share of a heatmap's maximum above which its region is hot."""


def reference_scale(scales: Sequence[float]) -> float:
    """The scale next to 1, at which the network was trained; of two the smaller."""
    return min(scales, key=lambda s: (abs(math.log(s)), s))


def at_scale(config: HeatmapConfig, scale: float) -> HeatmapConfig:
    """The same heatmap at one scale."""
    return config.model_copy(update={"scales": [scale], "choose": "mean"})


def first_look(config: HeatmapConfig) -> HeatmapConfig:
    """The heatmap that tells how large the hot region is: at the scale next to 1, unclimbed."""
    one = at_scale(config, reference_scale(config.scales))
    return one.model_copy(update={"climb": None})


Look = Callable[[Sequence[int], HeatmapConfig], Iterable[tuple[int, Heatmap]]]


def at_own_scales(
    look: Look, indices: Sequence[int], config: HeatmapConfig
) -> Iterator[tuple[int, Heatmap]]:
    """Each image's heatmap, with ``choose: area`` at a scale of its own.

    Parameters
    ----------
    look : callable
        Indices and settings of ``choose: mean`` → each index and its heatmap.
    indices : sequence of int
    config : HeatmapConfig

    Yields
    ------
    index : int
    heatmap : Heatmap
        Those of the scale next to 1 first. The probability is that of this scale throughout.
    """
    if config.choose == "mean":
        yield from look(indices, config)
        return
    first = first_look(config)
    others: dict[float, dict[int, Heatmap]] = {}
    for i, heat in look(indices, first):
        scale = scale_for(hot_side(heat), config.scales, config.hot_side)
        if at_scale(config, scale) == first:
            yield i, heat
        else:
            others.setdefault(scale, {})[i] = heat
    for scale, before in others.items():
        for i, heat in look(list(before), at_scale(config, scale)):
            yield i, _as_probable_as(heat, before[i], config)


def _as_probable_as(heat: Heatmap, first: Heatmap, config: HeatmapConfig) -> Heatmap:
    """A heatmap with the probability of another of the same image."""
    p = first.probability
    factor = p / heat.probability if config.scale == "probability" and heat.probability else 1.0
    return replace(heat, raw=heat.raw * np.float32(factor), probability=p)


def hot_side(heat: Heatmap) -> float:
    """The side of a square as large as a heatmap's hot region.

    Parameters
    ----------
    heat : Heatmap

    Returns
    -------
    float
        In pixels of the square that the network sees at scale 1, padding left out; 0 where the
        heatmap is flat.
    """
    if heat.flat:
        return 0.0
    box = heat.box
    shown = to_original(np.maximum(heat.raw, 0), letterbox((box.height, box.width), box.size))
    return math.sqrt(float((shown > HOT * shown.max()).sum()))


def scale_for(side: float, scales: Sequence[float], wanted: float) -> float:
    """The scale that brings a region to the size that heatmaps show best.

    Parameters
    ----------
    side : float
        Of the region at scale 1, see `hot_side`.
    scales : sequence of float
    wanted : float
        The side that is wished for, in the same pixels.

    Returns
    -------
    float
        That whose ``side * scale`` is nearest to ``wanted`` in proportion, of two the first;
        `reference_scale` for a side of 0, of which nothing is known.
    """
    if not side > 0:
        return reference_scale(scales)
    return min(scales, key=lambda s: abs(math.log(side * s / wanted)))


def good_scales(aucs: dict[float, float], drop: float) -> list[float]:
    """The scales at which a classifier is nearly as right as at its best.

    Parameters
    ----------
    aucs : dict of float to float
        Scale → AUC; NaN where there is none.
    drop : float
        How far below the best an AUC may lie.

    Returns
    -------
    list of float
        In the order given; all where no AUC is known.
    """
    defined = [a for a in aucs.values() if not math.isnan(a)]
    # Nothing is left out for the last bit of a sum.
    return [s for s, a in aucs.items() if not defined or a >= max(defined) - drop - 1e-9]


def label_aucs(
    models: Sequence[Classifier],
    labels: Labels,
    images: ImageBatches,
    indices: Sequence[int],
    config: HeatmapConfig,
) -> Iterator[tuple[float, float]]:
    """How well classifiers tell lesion from healthy at each scale; no mask is looked at.

    Parameters
    ----------
    models : sequence of Classifier
        On one device; of several the probabilities are averaged.
    labels : Labels
    images : ImageBatches
    indices : sequence of int
        Into ``images``: those whose labels may choose.
    config : HeatmapConfig

    Yields
    ------
    scale : float
        Each of ``config.scales``.
    auc : float
        Area under the ROC curve; NaN where all images are healthy, or none is.
    """
    from sklearn.metrics import roc_auc_score  # seconds, and memory of who predicts alone

    truth = np.array([labels.is_lesion(images.cases[i].label) for i in indices], dtype=bool)
    starts = range(0, len(indices), config.batch_size)
    batches = [list(indices[start : start + config.batch_size]) for start in starts]
    for scale in config.scales:
        said: list[np.ndarray] = []
        if truth.any() and not truth.all():
            for batch in batches_ahead(images, batches, models[0].mean.device):
                said.append(_lesion_probability(models, labels, rescaled(batch, scale)))
        yield scale, float(roc_auc_score(truth, np.concatenate(said))) if said else math.nan


def _lesion_probability(
    models: Sequence[Classifier], labels: Labels, batch: torch.Tensor
) -> np.ndarray:
    with torch.no_grad():
        p = torch.stack([m(batch).float().softmax(1) for m in models]).mean(0)
    return p[:, list(labels.lesion_indices)].sum(1).cpu().numpy()
