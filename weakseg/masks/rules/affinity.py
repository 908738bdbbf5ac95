"""A heatmap that has walked along affinities of pixels: heat flows to what belongs together.

The affinities come from features that a small network has learnt (`weakseg.training.affinity`) from
the confident parts of training heatmaps; no true mask has a part in them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field

from weakseg.masks.checks import Bools, Floats, fraction
from weakseg.masks.rules.arguments import at_least, in_order, positive
from weakseg.masks.rules.base import FittedRule
from weakseg.masks.rules.trained import TrainableRule
from weakseg.masks.thresholds import apply_threshold, normalise
from weakseg.settings import Fraction

if TYPE_CHECKING:
    from scipy import sparse

BACKGROUND, LESION, OPEN = 0, 1, 2
"""What a pixel of a heatmap is taken for; ``OPEN`` pixels teach nothing."""

FEWEST_PAIRS = 50
"""Pairs of each kind without which nothing is learnt."""


class AffinityRule(TrainableRule):
    """The heat after a random walk along affinities of pixels, which a small network has learnt
    from the training heatmaps, see `affinity_mask`. The defaults saw 60 validation masks of the
    glioma set."""

    rule: Literal["affinity"] = "affinity"
    spoken = "learnt affinities"
    radius: int = Field(
        5, ge=2, le=15, description="a step reaches pixels of the coarse grid nearer than this"
    )
    beta: float = Field(8.0, gt=0.0, le=64.0, description="power of the affinities")
    steps: int = Field(16, ge=0, le=4096, description="of the walk")
    at: Fraction = Field(0.5, description="share of the walked heat's maximum")
    epochs: int = Field(4, ge=1, le=100, description="of the small network's training")

    def mask(self, fitted: FittedRule, heat: Floats, image: Any, truth: Any) -> Bools:
        assert fitted.trained is not None
        return affinity_mask(
            heat,
            fitted.trained.features(image),
            radius=self.radius,
            beta=self.beta,
            steps=self.steps,
            at=self.at,
        )


def offsets(radius: int) -> list[tuple[int, int]]:
    """The steps between two pixels nearer than ``radius``, each pair of opposite ones once.

    Parameters
    ----------
    radius : int
        In pixels; at least 2, which reaches the eight neighbours.

    Returns
    -------
    list of (int, int)
        Rows and columns: rows never negative, nor columns where rows are 0.

    Raises
    ------
    ValueError
        For a smaller radius.
    """
    at_least(2, radius=radius)
    return [
        (dy, dx)
        for dy in range(radius)
        for dx in range(-radius + 1, radius)
        if (dy, dx) > (0, 0) and dy * dy + dx * dx < radius * radius
    ]


def confident(
    heatmap: npt.ArrayLike, shape: tuple[int, int], *, high: float, low: float
) -> npt.NDArray[np.uint8]:
    """What a heatmap is sure of, on a coarse grid.

    Parameters
    ----------
    heatmap : (H, W) array_like
        Raw heat.
    shape : tuple of int
        Rows and columns of the grid.
    high, low : float
        Shares of the grid's own maximum, 0 < low < high < 1.

    Returns
    -------
    (*shape) ndarray of uint8
        `LESION` above ``high``, `BACKGROUND` below ``low``, else `OPEN`; all open for a flat
        heatmap.
    """
    in_order(low=low, high=high)
    heat = coarse_heat(heatmap, shape)
    kinds = np.full(shape, OPEN, dtype=np.uint8)
    if heat.any():
        kinds[heat < low], kinds[heat > high] = BACKGROUND, LESION
    return kinds


def coarse_heat(heatmap: npt.ArrayLike, shape: tuple[int, int]) -> Floats:
    """Heat on a coarse grid, over its maximum; zeros for a flat heatmap."""
    from skimage.transform import resize

    heat = normalise(heatmap)
    return normalise(resize(heat, shape))


def pairs_of(values: Any, offset: tuple[int, int]) -> tuple[Any, Any]:
    """Two views of a grid (..., h, w): the one pixels of all pairs of an offset, and the other.

    Both are empty where the offset is longer than the grid.
    """
    dy, dx = offset
    h, w = values.shape[-2:]
    # A negative end would count from the grid's other side.
    here = values[..., : max(0, h - dy), max(0, -dx) : max(0, w - max(0, dx))]
    there = values[..., dy:, max(0, dx) : max(0, w - max(0, -dx))]
    return here, there


def count_pairs(labels: npt.NDArray[np.uint8], radius: int) -> dict[str, int]:
    """How many pairs of confident pixels there are to learn from.

    Parameters
    ----------
    labels : (..., h, w) ndarray of uint8
        See `confident`.
    radius : int
        See `offsets`.

    Returns
    -------
    dict
        ``lesion``, ``background``: pairs of one kind; ``different``: pairs of both.
    """
    count = dict.fromkeys(("lesion", "background", "different"), 0)
    for offset in offsets(radius):
        a, b = pairs_of(labels, offset)
        count["lesion"] += int(((a == LESION) & (b == LESION)).sum())
        count["background"] += int(((a == BACKGROUND) & (b == BACKGROUND)).sum())
        count["different"] += int((a + b == 1).sum())
    return count


def transition_matrix(
    features: npt.ArrayLike, *, radius: int = 5, beta: float = 8.0
) -> sparse.csr_array:
    """How probable each step of the walk is.

    Parameters
    ----------
    features : (h, w, D) array_like
        Of every pixel.
    radius : int, optional
        Pixels that are nearer are a step away; each pixel is a step from itself.
    beta : float, optional
        Power of the affinities ``exp(-|f_i - f_j|_1)``: the higher, the rarer a step between
        pixels that differ.

    Returns
    -------
    (h w, h w) csr_array of float64
        Rows sum to 1.

    Raises
    ------
    ValueError
        For features that are no numbers, or of another number of dimensions.

    References
    ----------
    Ahn and Kwak, "Learning pixel-level semantic affinity with image-level supervision for weakly
    supervised semantic segmentation", CVPR 2018.
    """
    from scipy import sparse

    f = np.asarray(features, dtype=np.float64)
    if f.ndim != 3 or not np.isfinite(f).all():
        raise ValueError(f"features must be (h, w, D) and finite, got shape {f.shape}")
    positive(beta=beta)
    h, w, _ = f.shape
    number = np.arange(h * w).reshape(h, w)
    planes = np.moveaxis(f, 2, 0)
    rows, columns, values = [], [], []
    for offset in offsets(radius):
        a, b = pairs_of(planes, offset)
        i, j = pairs_of(number, offset)
        rows.append(i.ravel())
        columns.append(j.ravel())
        values.append(np.exp(-beta * np.abs(a - b).sum(axis=0)).ravel())
    i, j, v = np.concatenate(rows), np.concatenate(columns), np.concatenate(values)
    half = sparse.coo_array((v, (i, j)), shape=(h * w, h * w)).tocsr()
    affinity = half + half.T + sparse.eye_array(h * w, format="csr")
    return sparse.csr_array(sparse.diags_array(1 / affinity.sum(axis=1)) @ affinity)


def walked(heat: npt.ArrayLike, transition: sparse.csr_array, steps: int) -> Floats:
    """Heat after a random walk: every step makes it the mean of where a step leads.

    Parameters
    ----------
    heat : (h, w) array_like
    transition : (h w, h w) csr_array
        See `transition_matrix`.
    steps : int

    Returns
    -------
    (h, w) ndarray of float64
    """
    values = np.asarray(heat, dtype=np.float64)
    flat: Any = values.ravel()
    for _ in range(steps):
        flat = transition @ flat
    return np.asarray(flat.reshape(values.shape))


def affinity_mask(
    heatmap: npt.ArrayLike,
    features: npt.ArrayLike,
    *,
    radius: int = 5,
    beta: float = 8.0,
    steps: int = 16,
    at: float = 0.5,
) -> Bools:
    """The mask of a heatmap that has walked along affinities.

    Parameters
    ----------
    heatmap : (H, W) array_like
        Raw heat.
    features : (h, w, D) array_like
        Of the same image, on a coarse grid.
    radius, beta
        See `transition_matrix`.
    steps : int, optional
        Of the walk; 0 leaves the heat as it is, on the coarse grid.
    at : float, optional
        Share of the walked heat's maximum, in (0, 1).

    Returns
    -------
    (H, W) ndarray of bool
        Empty for a flat heatmap, and where the walk has evened everything out.

    Raises
    ------
    ValueError
        For parameters out of range.

    References
    ----------
    Ahn and Kwak, CVPR 2018. Ahn, Cho and Kwak, "Weakly supervised learning of instance
    segmentation with inter-pixel relations", CVPR 2019.
    """
    from skimage.transform import resize

    fraction("at", at)
    at_least(0, steps=steps)
    f = np.asarray(features)
    shape = np.asarray(heatmap).shape
    heat = coarse_heat(heatmap, f.shape[:2])
    if not heat.any():
        return np.zeros(shape, dtype=bool)
    spread = walked(heat, transition_matrix(f, radius=radius, beta=beta), steps)
    return apply_threshold(normalise(resize(spread, shape)), at)
