"""Heatmaps of a classifier by every quick method at every depth, to be held against each other."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from weakseg.config import HeatmapConfig
from weakseg.data.arrays import ImageBatches
from weakseg.data.cases import Labels
from weakseg.data.geometry import Letterbox, to_original
from weakseg.heatmaps.cam import FULLGRAD, METHODS, PERTURBING, cams
from weakseg.heatmaps.explaining import target_classes
from weakseg.heatmaps.fullgrad import fullgrad_maps
from weakseg.heatmaps.fuse import fuse, mirrored
from weakseg.models.classifier import Classifier
from weakseg.models.layers import FUSED, depths, find_layers

SWEPT = (*(m for m in METHODS if m not in PERTURBING), FULLGRAD)
"""Methods that are compared: all that take one pass or two."""

IMAGE = "image"
"""The layer of a method that has none."""


def heats_of_layers(
    model: Classifier,
    labels: Labels,
    images: ImageBatches,
    chosen: Sequence[int],
    settings: HeatmapConfig,
    weights: Mapping[str, Sequence[float]] = MappingProxyType({}),
) -> Iterator[tuple[str, str, int, NDArray[Any]]]:
    """The heatmaps of some images by each method of `SWEPT` at each depth and at all together.

    Parameters
    ----------
    model : Classifier
        In evaluation mode, on its device.
    labels : Labels
    images : ImageBatches
    chosen : sequence of int
        Their numbers.
    settings : HeatmapConfig
        Target, score, flips, fusion and batch size; its method, layer and weights are not
        looked at.
    weights : mapping, optional
        Method → what each of its depths counts among all together; of one that is not there all
        count alike.

    Yields
    ------
    method, layer : str
        ``layer`` is one of `weakseg.models.layers.depths`, `FUSED` for all of them, or `IMAGE`;
        the last two end what there is of an image by a method.
    image : int
        Its number.
    heat : (M, N) ndarray of float32
        On the image's own grid, not below 0.
    """
    layers = find_layers(model, depths(model, images.data.image_size))
    names, modules = [n for n, _ in layers], [m for _, m in layers]
    target = target_classes(settings.target, labels)
    for method in SWEPT:
        for start in range(0, len(chosen), settings.batch_size):
            some = chosen[start : start + settings.batch_size]
            batch = images.images(some).to(model.mean.device)
            boxes = [b for b in images.boxes(some) if isinstance(b, Letterbox)]
            maps = _maps(model, modules, batch, target, method, settings)
            at = [IMAGE] if method == FULLGRAD else [*names, FUSED]
            fused = fuse(maps, settings.fusion, weights.get(method))
            for layer, heats in zip(at, [*maps, fused][: len(at)], strict=True):
                for i, box, heat in zip(some, boxes, heats.cpu().numpy(), strict=True):
                    yield method, layer, i, to_original(np.maximum(heat, 0), box)


def _maps(
    model: Any, modules: Any, batch: Any, target: tuple[int, ...], method: str, how: HeatmapConfig
) -> list[Tensor]:
    def look(images: Tensor) -> list[Tensor]:
        if method == FULLGRAD:
            return [fullgrad_maps(model, images, target, score=how.score, zero=model.mean)[0]]
        return cams(model, modules, images, target, method=method, score=how.score)[0]

    maps = look(batch)
    if not how.flips:
        return maps
    return [mirrored(m, o) for m, o in zip(maps, look(batch.flip(3)), strict=True)]
