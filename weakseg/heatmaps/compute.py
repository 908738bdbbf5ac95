"""Heatmaps of images: one at a time from an array, or a whole set in batches."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from weakseg.config import HeatmapConfig
from weakseg.data.arrays import ImageBatches, batches_ahead, channels_last, network_image
from weakseg.data.cases import Labels
from weakseg.data.formats.registry import formats_of_dims
from weakseg.data.geometry import Letterbox
from weakseg.data.volume_grid import VolumeBox
from weakseg.errors import RunError
from weakseg.heatmaps.explaining import Explainer, explain_by_all, of_lesions
from weakseg.heatmaps.scales import at_own_scales
from weakseg.heatmaps.store import Heatmap, as_stored
from weakseg.models.classifier import Classifier


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
    at_once = formats_of_dims(images.dims).at_once(config.batch_size)
    starts = range(0, len(indices), at_once)
    batches = [list(indices[start : start + at_once]) for start in starts]
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
    """A batch whose maps (B[, d], h, w) and probabilities (B, K) are on the device yet."""

    chosen: list[int]
    layer: str
    maps: Tensor
    probabilities: Tensor


def _as_heatmaps(
    batch: _Batch, labels: Labels, images: ImageBatches, config: HeatmapConfig
) -> Iterator[tuple[int, Heatmap]]:
    maps = batch.maps.cpu().numpy()
    lesion = of_lesions(batch.probabilities.cpu(), labels).tolist()
    boxes = images.boxes(batch.chosen)
    for i, raw, p in zip(batch.chosen, maps, lesion, strict=True):
        _require_numbers(raw, p, str(images.cases[i].image))
    size, how, what = images.data.image_size, config.method, config.target
    for i, box, raw, p in zip(batch.chosen, boxes, maps, lesion, strict=True):
        scale, depth = _one_scale(config), images.depth
        yield i, Heatmap(raw, box.original, size, batch.layer, how, what, p, scale, depth)


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
    channels = models[0].spec.channels
    seen = [network_image(i, channels, image_size, intensity) for i in images]
    return heatmaps_of_inputs(models, seen, labels, config=config, fill=fill, explainer=explainer)


def heatmaps_of_inputs(
    models: Sequence[Classifier],
    inputs: Sequence[tuple[np.ndarray, Letterbox | VolumeBox]],
    labels: Labels,
    *,
    config: HeatmapConfig,
    fill: bool = True,
    explainer: Explainer | None = None,
) -> list[tuple[Heatmap, np.ndarray]]:
    """`heatmaps_of_arrays` of images or volumes as `weakseg.data.arrays` makes them for a network.

    Parameters
    ----------
    models, labels, config, fill, explainer
        As there.
    inputs : sequence
        An image (C, S, S) or a volume (C, D, S, S), and where it lies in that.
    """
    probabilities: dict[int, np.ndarray] = {}

    def look(some: Sequence[int], how: HeatmapConfig) -> Iterator[tuple[int, Heatmap]]:
        by = explainer or explain_by_all
        made = _of_inputs(models, [inputs[k] for k in some], labels, how, fill, by)
        for k, (heat, p) in zip(some, made, strict=True):
            probabilities.setdefault(k, p)  # those of the scale next to 1, which comes first
            yield k, heat

    by_image = dict(at_own_scales(look, range(len(inputs)), config))
    return [(as_stored(by_image[k]), probabilities[k]) for k in range(len(inputs))]


def _of_inputs(
    models: Sequence[Classifier],
    made: Sequence[tuple[np.ndarray, Letterbox | VolumeBox]],
    labels: Labels,
    config: HeatmapConfig,
    fill: bool,
    explainer: Explainer,
) -> list[tuple[Heatmap, np.ndarray]]:
    # Rounded and laid out as `ImageBatches` does it: other kernels add in another order.
    stacked = torch.from_numpy(np.stack([planes for planes, _ in made])).half().float()
    batch = channels_last(stacked)
    batch = batch.to(models[0].mean.device)
    name, maps, scores = explainer(models, labels, batch, config, fill=fill)
    lesion = of_lesions(scores.cpu(), labels).tolist()
    out = []
    for (_, box), raw, p, q in zip(
        made, maps.cpu().numpy(), scores.cpu().numpy(), lesion, strict=True
    ):
        _require_numbers(raw, q, None)
        of, how, what = box.original, config.method, config.target
        scale, depth = _one_scale(config), box.depth if isinstance(box, VolumeBox) else None
        out.append((Heatmap(raw, of, box.size, name, how, what, q, scale, depth), p))
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
