"""Heatmaps of images: one at a time from an array, or a whole set in batches."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch

from weakseg.config import HeatmapConfig
from weakseg.data.arrays import ImageBatches, network_image
from weakseg.data.cases import Labels
from weakseg.errors import ConfigError, did_you_mean
from weakseg.heatmaps.cam import raw_cam
from weakseg.heatmaps.store import Heatmap
from weakseg.models.classifiers import Classifier, find_layer

LESION = "lesion"


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


def lesion_probability(logits: np.ndarray, labels: Labels) -> np.ndarray:
    """P(lesion) of logits (B, K): the softmax summed over the lesion labels, (B,)."""
    p = torch.from_numpy(logits).softmax(1)
    return p[:, list(labels.lesion_indices)].sum(1).numpy()


def heatmaps_of(
    model: Classifier,
    labels: Labels,
    images: ImageBatches,
    indices: Sequence[int],
    config: HeatmapConfig,
) -> Iterator[tuple[int, Heatmap]]:
    """The heatmaps of a set, in order.

    Parameters
    ----------
    model : Classifier
    labels : Labels
    images : ImageBatches
    indices : sequence of int
        Into ``images``.
    config : HeatmapConfig

    Yields
    ------
    index : int
    heatmap : Heatmap
    """
    size = images.data.image_size
    name, layer = find_layer(model, config.layer, size)
    target = target_classes(config.target, labels)
    for start in range(0, len(indices), config.batch_size):
        chosen = list(indices[start : start + config.batch_size])
        batch = images.images(chosen).to(model.mean.device)
        maps, logits = raw_cam(
            model, layer, batch, target, method=config.method, score=config.score
        )
        probabilities = lesion_probability(logits, labels)
        boxes = images.boxes(chosen)
        for i, box, raw, p in zip(chosen, boxes, maps, probabilities, strict=True):
            yield (
                i,
                Heatmap(raw, box.original, size, name, config.method, config.target, float(p)),
            )


def heatmap(
    model: Classifier,
    image: np.ndarray,
    labels: Labels,
    *,
    image_size: int = 128,
    intensity: str = "auto",
    config: HeatmapConfig | None = None,
) -> tuple[Heatmap, np.ndarray]:
    """The heatmap of one image.

    Parameters
    ----------
    model : Classifier
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
    """
    config = config or HeatmapConfig()
    planes, box = network_image(image, model.spec.channels, image_size, intensity)
    name, layer = find_layer(model, config.layer, image_size)
    batch = torch.from_numpy(planes)[None].to(model.mean.device)
    target = target_classes(config.target, labels)
    maps, logits = raw_cam(model, layer, batch, target, method=config.method, score=config.score)
    lesion = float(lesion_probability(logits, labels)[0])
    heat = Heatmap(maps[0], box.original, image_size, name, config.method, config.target, lesion)
    return heat, torch.from_numpy(logits[0]).softmax(0).numpy()
