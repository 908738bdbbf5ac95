"""What maps of a network's depths are worth beside each other, by the labels of images alone."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from weakseg.config import HeatmapConfig
from weakseg.data.arrays import ImageBatches, batches_ahead
from weakseg.data.augment import rescaled
from weakseg.data.cases import Labels
from weakseg.heatmaps.cam import cams
from weakseg.heatmaps.explaining import target_classes
from weakseg.heatmaps.scales import reference_scale
from weakseg.models.classifier import Classifier
from weakseg.models.layers import find_layers

HOTTEST = 0.1
"""Share of a map whose mean tells how hot it is."""

RIDGE = 1e-3
"""Keeps weights finite where the labels are parted without an error."""

Floats = NDArray[np.float64]


def hottest_tenth(maps: Tensor) -> Tensor:
    """The mean of the hottest tenth of positive scores, (B, *places) to (B,)."""
    positive = maps.flatten(1).clamp_min(0)
    count = max(1, round(HOTTEST * positive.shape[1]))
    return positive.topk(count, dim=1).values.mean(1)


def pooled_depths(
    models: Sequence[Classifier],
    labels: Labels,
    images: ImageBatches,
    indices: Sequence[int],
    config: HeatmapConfig,
) -> tuple[list[str], Floats]:
    """How hot the map of every depth is on every image.

    Parameters
    ----------
    models : sequence of Classifier
        On one device; of several the means.
    labels : Labels
    images : ImageBatches
    indices : sequence of int
        Into ``images``.
    config : HeatmapConfig
        Images are looked at in the scale next to 1, unmirrored.

    Returns
    -------
    layers : list of str
    hot : (N, layers) ndarray of float64
        See `hottest_tenth`.
    """
    target, scale = target_classes(config.target, labels), reference_scale(config.scales)
    layers = find_layers(models[0], config.layer, images.data.image_size)
    named = [n for n, _ in layers]
    starts = range(0, len(indices), config.batch_size)
    batches = [list(indices[start : start + config.batch_size]) for start in starts]
    rows = []
    for batch in batches_ahead(images, batches, models[0].mean.device):
        seen, total = rescaled(batch, scale), torch.zeros(len(batch), len(named))
        for model in models:
            modules = [m for _, m in find_layers(model, config.layer, images.data.image_size)]
            maps, _ = cams(model, modules, seen, target, method=config.method, score=config.score)
            total += torch.stack([hottest_tenth(m).float().cpu() for m in maps], 1) / len(models)
        rows.append(total.double().numpy())
    return named, np.concatenate(rows) if rows else np.zeros((0, len(named)))


def weights_by_labels(hot: ArrayLike, is_lesion: ArrayLike) -> Floats | None:
    """Weights of depths that tell best which images have a lesion; none is below 0.

    Parameters
    ----------
    hot : (N, K) array_like
        How hot each map is, not below 0.
    is_lesion : (N,) array_like of bool

    Returns
    -------
    (K,) ndarray of float64 or None
        1 in all; None where the labels are all alike, or no depth tells more than chance would.

    Notes
    -----
    A logistic regression on log(1 + hot / mean), standardised, both labels counting alike, with
    weights of at least 0 and a penalty of their sum over √N: as large as twice the standard
    deviation of the slope that a depth of pure noise has, so that such a depth gets 0.

    Raises
    ------
    ValueError
        For shapes that do not go together, or values that are negative or not finite.
    """
    from scipy.optimize import minimize

    values, lesion = np.asarray(hot, dtype=np.float64), np.asarray(is_lesion, dtype=bool)
    if values.ndim != 2 or lesion.shape != values.shape[:1]:
        raise ValueError(f"hot is {values.shape}, is_lesion {lesion.shape}")
    if not np.isfinite(values).all() or (values < 0).any():
        raise ValueError("hot must be finite and not below 0")
    if not len(lesion) or lesion.all() or not lesion.any():
        return None
    mean = values.mean(0)
    x = np.log1p(values / np.where(mean > 0, mean, 1))
    spread = x.std(0)
    x = (x - x.mean(0)) / np.where(spread > 0, spread, 1)
    sign = np.where(lesion, 1.0, -1.0)
    counts = np.where(lesion, 0.5 / lesion.sum(), 0.5 / (~lesion).sum())
    price = 1 / np.sqrt(len(lesion))

    def loss(at: Floats) -> tuple[float, Floats]:
        w, bias = at[:-1], at[-1]
        margin = sign * (x @ w + bias)
        value = float(counts @ np.logaddexp(0, -margin)) + price * w.sum() + RIDGE * (w @ w)
        slope = -counts * sign / (1 + np.exp(margin))
        return value, np.append(x.T @ slope + price + 2 * RIDGE * w, slope.sum())

    bounds = [(0.0, None)] * x.shape[1] + [(None, None)]
    found = minimize(loss, np.zeros(x.shape[1] + 1), jac=True, method="L-BFGS-B", bounds=bounds).x[
        :-1
    ]
    total = float(found.sum())
    return found / total if total > 1e-9 else None
