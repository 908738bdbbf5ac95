"""What classifiers say of a batch: the maps and the probabilities of images or of whole volumes."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Protocol

import torch
from torch import Tensor

from weakseg.config import HeatmapConfig
from weakseg.data.arrays import channels_last, filled
from weakseg.data.augment import rescaled
from weakseg.data.cases import Labels
from weakseg.data.formats.registry import formats_of_dims
from weakseg.errors import ConfigError, did_you_mean
from weakseg.heatmaps.cam import FULLGRAD, LAYERLESS, OCCLUSION, RELEVANCE, cams, no_volumes
from weakseg.heatmaps.climb import climbed, sum_of_climb
from weakseg.heatmaps.fullgrad import fullgrad_maps
from weakseg.heatmaps.fuse import average, fuse, mirrored, same_grid_average
from weakseg.heatmaps.occlusion import occlusion_maps
from weakseg.heatmaps.relevance import relevance_maps
from weakseg.models.classifier import Classifier
from weakseg.models.layers import find_layers
from weakseg.models.volume_classifiers import SliceClassifier, present

LESION = "lesion"

Explained = tuple[str, Tensor, Tensor]
"""A layer's name, maps (B, h, w) and probabilities (B, K); see `explain`."""


class Explainer(Protocol):
    """What makes the heatmaps of a batch: `explain_by_all`, or the same by another engine."""

    def __call__(
        self,
        models: Sequence[Classifier],
        labels: Labels,
        batch: Tensor,
        config: HeatmapConfig,
        *,
        fill: bool = False,
    ) -> Explained:
        """See `explain_by_all`."""


def target_classes(
    target: str, labels: Labels, *, where: str = "heatmap.target"
) -> tuple[int, ...]:
    """The class numbers that a heatmap explains.

    Raises
    ------
    ConfigError
        For a name that is neither ``lesion`` nor a label.
    """
    if target == LESION:  # also where one of several labels bears the name
        return labels.lesion_indices
    if target in labels.names:
        return (labels.index(target),)
    raise ConfigError(
        f"There is no class {target!r} to explain.",
        where=where,
        fix=did_you_mean(target, [LESION, *labels.names]),
    )


def of_lesions(probabilities: Tensor, labels: Labels) -> Tensor:
    """The probability of any lesion, (B, K) to (B,); the last bit of a sum may not pass 1."""
    return probabilities[:, list(labels.lesion_indices)].sum(1).clamp(max=1)


def explain_by_all(
    models: Sequence[Classifier],
    labels: Labels,
    batch: Tensor,
    config: HeatmapConfig,
    *,
    fill: bool = False,
) -> Explained:
    """`explain` by several classifiers of one architecture, averaged.

    With ``fill`` the network gets batches of one size, see `filled`.
    """
    n = len(batch)
    # Occlusion fills the one batch that it shares; with relevance images, as volumes, go alone.
    if fill and config.method not in (OCCLUSION, RELEVANCE):
        batch = filled(batch, formats_of_dims(batch.ndim - 2).at_once(config.batch_size))
    explained = [explain(m, labels, batch, config) for m in models]
    maps, p = average([m for _, m, _ in explained]), torch.stack([p for *_, p in explained]).mean(0)
    return explained[0][0], maps[:n], p[:n]


def explain(
    model: Classifier, labels: Labels, batch: Tensor, config: HeatmapConfig
) -> tuple[str, Tensor, Tensor]:
    """The maps of a batch as configured: of layers, mirrored images and scales, averaged.

    Parameters
    ----------
    model : Classifier
    labels : Labels
    batch : (B, C, S, S) or (B, C, D, S, S) Tensor
    config : HeatmapConfig

    Returns
    -------
    layer : str
        The layer's name; several are joined by ``+``.
    maps : (B, h, w) or (B, d, h, w) Tensor of float32
        On the grid of the finest layer, at the first of the scales; where ``batch`` is. Of a
        classifier that sees slices, see `explain_slices`.
    probabilities : (B, K) Tensor of float32
    """
    if isinstance(model, SliceClassifier):
        return explain_slices(model, labels, batch, config)
    target = target_classes(config.target, labels)
    if config.method == OCCLUSION and batch.ndim == 5:  # its square slides over flat images
        raise no_volumes(OCCLUSION)
    if config.method in LAYERLESS:
        name = "image"
    else:
        layers = find_layers(model, config.layer, batch.shape[-1])
        name = "+".join(n for n, _ in layers)

    def look(images: Tensor) -> tuple[list[Tensor], Tensor]:
        if config.method == OCCLUSION:
            found, logits = occlusion_maps(
                model, images, target, score=config.score, batch_size=config.batch_size
            )
            return [torch.from_numpy(found).to(images.device)], torch.from_numpy(logits).softmax(1)
        if config.method == RELEVANCE:
            found, logits = relevance_maps(
                model, images, target, score=config.score, settings=config.relevance
            )
            return [torch.from_numpy(found).to(images.device)], torch.from_numpy(logits).softmax(1)
        if config.method == FULLGRAD:
            heat, scores = fullgrad_maps(model, images, target, score=config.score, zero=model.mean)
            return [heat], scores.softmax(1)
        modules = [module for _, module in layers]
        of_layers = partial(cams, model, modules, method=config.method, score=config.score)
        maps, scores = of_layers(images, target)
        if config.climb is not None:
            up = climbed(model, modules[-1], images, target, config.score, config.climb)
            further = [of_layers(changed, target)[0] for changed in up]
            maps = [sum_of_climb(list(of)) for of in zip(maps, *further, strict=True)]
        return maps, scores.softmax(1)

    def look_twice(images: Tensor) -> tuple[list[Tensor], Tensor]:
        maps, p = look(images)
        if not config.flips:
            return maps, p
        others, turned = look(images.flip(-1))
        maps = [mirrored(m, o) for m, o in zip(maps, others, strict=True)]
        return maps, (p + turned) / 2

    answers = [look_twice(rescaled(batch, scale)) for scale in config.scales]
    maps = [same_grid_average(of_layer) for of_layer in zip(*(m for m, _ in answers), strict=True)]
    p = torch.stack([p for _, p in answers]).mean(0)
    heat = fuse(maps, config.fusion, config.weights if len(maps) > 1 else None)
    if config.scale == "probability":
        heat = _peaking_at(heat, of_lesions(p, labels).to(heat.device))
    return name, heat, p


def _peaking_at(heat: Tensor, tops: Tensor) -> Tensor:
    """Maps (B, *places) scaled so that the hottest place of each is as hot as (B,) says."""
    ones = [1] * (heat.ndim - 1)
    top = heat.amax(tuple(range(1, heat.ndim)))
    return heat * (tops / torch.where(top > 0, top, 1)).view(-1, *ones)


def explain_slices(
    model: SliceClassifier, labels: Labels, volumes: Tensor, config: HeatmapConfig
) -> tuple[str, Tensor, Tensor]:
    """`explain` by a classifier that sees slices: the heatmaps of its slices, stacked.

    With ``scale: probability`` the hottest place of a slice has the share of
    `weakseg.models.volume_classifiers.Instances`: its probability of a lesion, times its attention
    over the largest where slices are weighted so. Else each slice is as hot as its score says.

    Parameters
    ----------
    model, labels, config
        See `explain`.
    volumes : (B, C, D, S, S) Tensor

    Returns
    -------
    layer : str
    maps : (B, D, h, w) Tensor of float32
        0 throughout for slices that are not there.
    probabilities : (B, K) Tensor of float32
        Of the volumes.
    """
    flat, raw = model.explained, config.model_copy(update={"scale": "raw"})
    with torch.no_grad():
        p = model(volumes).float().softmax(1)
    name, maps = "", []
    for volume, there in zip(volumes.movedim(2, 1), present(volumes), strict=True):
        slices = []
        for some in volume[there].split(config.batch_size):
            batch = channels_last(some)
            name, heat, _ = explain(flat, labels, batch, raw)
            slices.append(heat)
        heat = torch.cat(slices)
        if config.scale == "probability":
            heat = _peaking_at(heat, model.slices(volume[there]).shares.to(heat))
        stacked = heat.new_zeros(len(there), *heat.shape[1:])
        stacked[there] = heat
        maps.append(stacked)
    return name, torch.stack(maps), p
