"""Heatmaps of images: one at a time from an array, or a whole set in batches."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor

from weakseg.config import HeatmapConfig
from weakseg.data.arrays import ImageBatches, batches_ahead, filled, network_image
from weakseg.data.augment import rescaled
from weakseg.data.cases import Labels
from weakseg.errors import ConfigError, RunError, did_you_mean
from weakseg.heatmaps.cam import FULLGRAD, LAYERLESS, OCCLUSION, cams
from weakseg.heatmaps.fullgrad import fullgrad_maps
from weakseg.heatmaps.fuse import average, fuse, mirrored, same_grid_average
from weakseg.heatmaps.occlusion import occlusion_maps
from weakseg.heatmaps.scales import at_own_scales
from weakseg.heatmaps.store import Heatmap, as_stored
from weakseg.models.classifier import Classifier
from weakseg.models.layers import find_layers

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


def heatmaps_of(
    models: Sequence[Classifier],
    labels: Labels,
    images: ImageBatches,
    indices: Sequence[int],
    config: HeatmapConfig,
    explainer: Explainer | None = None,
) -> Iterator[tuple[int, Heatmap]]:
    """The heatmaps of a set, in order.

    Parameters
    ----------
    models : sequence of Classifier
        On one device; of several the heatmaps are averaged, and so are the probabilities.
    labels : Labels
    images : ImageBatches
    indices : sequence of int
        Into ``images``.
    config : HeatmapConfig
    explainer : callable, optional
        Of another engine, see `weakseg.heatmaps.by_engine`.

    Yields
    ------
    index : int
    heatmap : Heatmap
        Where each image has a scale of its own (``choose: area``), those of the scale next to 1
        come first, which the size of the hot region and the probability are taken from.
    """

    def look(chosen: Sequence[int], how: HeatmapConfig) -> Iterator[tuple[int, Heatmap]]:
        return _heatmaps_in_order(models, labels, images, chosen, how, explainer or explain_by_all)

    yield from at_own_scales(look, indices, config)


def _heatmaps_in_order(
    models: Sequence[Classifier],
    labels: Labels,
    images: ImageBatches,
    indices: Sequence[int],
    config: HeatmapConfig,
    explainer: Explainer,
) -> Iterator[tuple[int, Heatmap]]:
    device = models[0].mean.device
    starts = range(0, len(indices), config.batch_size)
    batches = [list(indices[start : start + config.batch_size]) for start in starts]
    before: _Batch | None = None
    decoded = batches_ahead(images, batches, device)
    for chosen, batch in zip(batches, decoded, strict=True):
        after = _Batch(chosen, *explainer(models, labels, batch, config, fill=True))
        # The device is busy with this batch while the one before is fetched and written.
        if before is not None:
            yield from _as_heatmaps(before, labels, images, config)
        before = after
    if before is not None:
        yield from _as_heatmaps(before, labels, images, config)


class _Batch(NamedTuple):
    """A batch whose maps (B, h, w) and probabilities (B, K) are on the device yet."""

    chosen: list[int]
    layer: str
    maps: Tensor
    probabilities: Tensor


def _as_heatmaps(
    batch: _Batch, labels: Labels, images: ImageBatches, config: HeatmapConfig
) -> Iterator[tuple[int, Heatmap]]:
    maps = batch.maps.cpu().numpy()
    lesion = _of_lesions(batch.probabilities.cpu(), labels).tolist()
    boxes = images.boxes(batch.chosen)
    for i, raw, p in zip(batch.chosen, maps, lesion, strict=True):
        _require_numbers(raw, p, str(images.cases[i].image))
    size, how, what = images.data.image_size, config.method, config.target
    for i, box, raw, p in zip(batch.chosen, boxes, maps, lesion, strict=True):
        yield i, Heatmap(raw, box.original, size, batch.layer, how, what, p, _one_scale(config))


def _of_lesions(probabilities: Tensor, labels: Labels) -> Tensor:
    """The probability of any lesion, (B, K) to (B,); the last bit of a sum may not pass 1."""
    return probabilities[:, list(labels.lesion_indices)].sum(1).clamp(max=1)


def _one_scale(config: HeatmapConfig) -> float:
    """The scale of a heatmap; 1 where several are averaged."""
    return config.scales[0] if len(config.scales) == 1 else 1.0


def _require_numbers(raw: np.ndarray, probability: float, image: str | None) -> None:
    """Refuse what a broken network says: it would pass for an image without a lesion.

    Raises
    ------
    RunError
        If the probability or any value of the map is NaN or infinite.
    """
    bad = int((~np.isfinite(raw)).sum())
    if math.isfinite(probability) and not bad:
        return
    raise RunError(
        "The classifier's answer is no number (NaN or infinity).",
        where=image,
        found=f"a lesion's probability of {probability:g}, and {bad} of {raw.size} values of the "
        "heatmap that are none",
        fix="look at the network's weights, and train it again: weakseg train-classifier CONFIG "
        "--force; in low precision set heatmap.precision: 32-true",
    )


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
    if fill and config.method != OCCLUSION:  # which fills the one batch that it shares
        batch = filled(batch, config.batch_size)
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
    batch : (B, C, S, S) Tensor
    config : HeatmapConfig

    Returns
    -------
    layer : str
        The layer's name; several are joined by ``+``.
    maps : (B, h, w) Tensor of float32
        On the grid of the finest layer, at the first of the scales; where ``batch`` is.
    probabilities : (B, K) Tensor of float32
    """
    target = target_classes(config.target, labels)
    if config.method in LAYERLESS:
        name = "image"
    else:
        layers = find_layers(model, config.layer, batch.shape[-1])
        name = "+".join(n for n, _ in layers)

    def look(images: Tensor) -> tuple[list[Tensor], Tensor]:
        if config.method == OCCLUSION:
            fall, logits = occlusion_maps(
                model, images, target, score=config.score, batch_size=config.batch_size
            )
            return [torch.from_numpy(fall).to(images.device)], torch.from_numpy(logits).softmax(1)
        if config.method == FULLGRAD:
            heat, scores = fullgrad_maps(model, images, target, score=config.score, zero=model.mean)
            return [heat], scores.softmax(1)
        modules = [module for _, module in layers]
        maps, scores = cams(
            model, modules, images, target, method=config.method, score=config.score
        )
        return maps, scores.softmax(1)

    def look_twice(images: Tensor) -> tuple[list[Tensor], Tensor]:
        maps, p = look(images)
        if not config.flips:
            return maps, p
        others, turned = look(images.flip(3))
        maps = [mirrored(m, o) for m, o in zip(maps, others, strict=True)]
        return maps, (p + turned) / 2

    each = [look_twice(rescaled(batch, scale)) for scale in config.scales]
    maps = [same_grid_average(of_layer) for of_layer in zip(*(m for m, _ in each), strict=True)]
    p = torch.stack([p for _, p in each]).mean(0)
    heat = fuse(maps)
    if config.scale == "probability":
        lesion = _of_lesions(p, labels).to(heat.device)
        top = heat.amax((1, 2))
        heat = heat * (lesion / torch.where(top > 0, top, 1))[:, None, None]
    return name, heat, p


def heatmaps_of_arrays(
    models: Sequence[Classifier],
    images: Sequence[np.ndarray],
    labels: Labels,
    *,
    image_size: int,
    intensity: str,
    config: HeatmapConfig,
    fill: bool = True,
    explainer: Explainer | None = None,
) -> list[tuple[Heatmap, np.ndarray]]:
    """`heatmap` of several images at once; with ``fill`` to the last bit what a run stores."""
    probabilities: dict[int, np.ndarray] = {}

    def look(some: Sequence[int], how: HeatmapConfig) -> Iterator[tuple[int, Heatmap]]:
        chosen = [images[k] for k in some]
        by = explainer or explain_by_all
        made = _of_arrays(models, chosen, labels, image_size, intensity, how, fill, by)
        for k, (heat, p) in zip(some, made, strict=True):
            probabilities.setdefault(k, p)  # those of the scale next to 1, which comes first
            yield k, heat

    by_image = dict(at_own_scales(look, range(len(images)), config))
    return [(as_stored(by_image[k]), probabilities[k]) for k in range(len(images))]


def _of_arrays(
    models: Sequence[Classifier],
    images: Sequence[np.ndarray],
    labels: Labels,
    image_size: int,
    intensity: str,
    config: HeatmapConfig,
    fill: bool,
    explainer: Explainer,
) -> list[tuple[Heatmap, np.ndarray]]:
    made = [network_image(i, models[0].spec.channels, image_size, intensity) for i in images]
    # Rounded and laid out as `ImageBatches` does it: other kernels add in another order.
    stacked = np.stack([planes for planes, _ in made]).astype(np.float16).astype(np.float32)
    batch = torch.from_numpy(stacked).contiguous(memory_format=torch.channels_last)
    batch = batch.to(models[0].mean.device)
    name, maps, scores = explainer(models, labels, batch, config, fill=fill)
    lesion = _of_lesions(scores.cpu(), labels).tolist()
    out = []
    for (_, box), raw, p, q in zip(
        made, maps.cpu().numpy(), scores.cpu().numpy(), lesion, strict=True
    ):
        _require_numbers(raw, q, None)
        of, how, what = box.original, config.method, config.target
        out.append((Heatmap(raw, of, image_size, name, how, what, q, _one_scale(config)), p))
    return out


def heatmap(
    model: Classifier | Sequence[Classifier],
    image: np.ndarray,
    labels: Labels,
    *,
    image_size: int = 128,
    intensity: str = "auto",
    config: HeatmapConfig | None = None,
) -> tuple[Heatmap, np.ndarray]:
    """The heatmap of one image, rounded as a run stores it.

    Parameters
    ----------
    model : Classifier or sequence of Classifier
        Of several the heatmaps and the probabilities are averaged.
    image : (M, N) or (M, N, 3) ndarray
        As `weakseg.data.images.read_image` gives it.
    labels : Labels
        The classes in the order of the model's outputs.
    image_size : int
        Longest side in pixels that the network sees; as in training.
    intensity : {"auto", "dtype", "percentile"}
        As in training.
    config : HeatmapConfig, optional
        Method, layer and target; Grad-CAM of all lesion labels by default.

    Returns
    -------
    heatmap : Heatmap
        `Heatmap.full` gives it at the image's own resolution.
    probabilities : (K,) ndarray of float32
        Of the classes, in the order of ``labels.names``.

    Raises
    ------
    DataError
        If the image holds NaN or infinity.
    RunError
        If what the network says is NaN or infinite.
    """
    config = config or HeatmapConfig()
    models = [model] if isinstance(model, Classifier) else list(model)
    (heat,) = heatmaps_of_arrays(
        models,
        [image],
        labels,
        image_size=image_size,
        intensity=intensity,
        config=config,
        fill=False,
    )
    return heat
