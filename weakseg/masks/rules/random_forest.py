"""A random forest of pixels: which look, at several scales, like what is surely hot?

As in interactive pixel classification (ilastik), with the heatmaps' confident places in the stead
of a person's strokes; no true mask has a part in it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field

from weakseg.masks.checks import Bools, Floats, fraction
from weakseg.masks.region import brightness, unit_range
from weakseg.masks.rules.affinity import coarse_heat
from weakseg.masks.rules.arguments import below_one, heat_and_grey
from weakseg.masks.rules.base import FittedRule
from weakseg.masks.rules.trained import TrainableRule
from weakseg.masks.thresholds import apply_threshold
from weakseg.settings import Fraction

LONGEST_SIDE = 256
"""Features of larger images are those of a smaller copy."""

SIGMA_MIN, SIGMA_MAX = 1.0, 16.0
"""Scales of the filters, in pixels of that copy; in between they double."""

FEWEST = 50
"""Confident pixels of each kind without which nothing is learnt."""


class RandomForestRule(TrainableRule):
    """Pixels that a random forest of filter responses calls lesion, trained on the confident parts
    of the training heatmaps and on healthy images, see `random_forest_mask`."""

    rule: Literal["random-forest"] = "random-forest"
    spoken = "a random forest"
    warm: float = Field(
        0.25, ge=0.0, lt=1.0, description="pixels of a lower heat are no lesion; 0: all are asked"
    )
    at: Fraction = Field(0.5, description="probability above which a pixel is lesion")
    trees: int = Field(50, ge=1, le=1000)
    depth: int = Field(12, ge=1, le=32, description="of a tree at most")
    pixels: int = Field(
        200, ge=1, le=100_000, description="of each kind that an image teaches; drawn at random"
    )

    def mask(self, fitted: FittedRule, heat: Floats, image: Any, truth: Any) -> Bools:
        assert fitted.trained is not None
        features = fitted.trained.features(image)
        forest = forest_of(fitted.trained.arrays)
        return random_forest_mask(heat, image, features, forest, warm=self.warm, at=self.at)


@dataclass(frozen=True, eq=False)
class Forest:
    """Binary decision trees one behind the other, as arrays over all their nodes.

    Attributes
    ----------
    roots : (T,) ndarray of int32
        The first node of each tree.
    feature : (K,) ndarray of int32
        Which feature a node asks for.
    threshold : (K,) ndarray of float64
        Values that are not above it go to ``left``, others to ``right``.
    left, right : (K,) ndarray of int32
        The nodes below; of a leaf itself.
    lesion : (K,) ndarray of float64
        Share of lesion at a node.
    """

    roots: npt.NDArray[np.int32]
    feature: npt.NDArray[np.int32]
    threshold: Floats
    left: npt.NDArray[np.int32]
    right: npt.NDArray[np.int32]
    lesion: Floats

    def probability(self, features: npt.ArrayLike) -> Floats:
        """Probability of a lesion of pixels (P, D), (P,): the mean over the trees."""
        x = np.asarray(features, dtype=np.float32)
        at = np.broadcast_to(self.roots, (len(x), len(self.roots)))
        rows = np.arange(len(x))[:, None]
        while True:
            low = x[rows, self.feature[at]] <= self.threshold[at]
            below = np.where(low, self.left[at], self.right[at])
            if np.array_equal(below, at):
                return np.asarray(self.lesion[at].mean(axis=1))
            at = below

    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        """As they are stored."""
        return {name: getattr(self, name) for name in Forest.__dataclass_fields__}


def forest_of(arrays: Mapping[str, npt.NDArray[Any]]) -> Forest:
    """The forest that `Forest.arrays` gave.

    Raises
    ------
    KeyError, RuntimeError
        For arrays of something else, or whose nodes lead nowhere.
    """
    forest = Forest(*(np.asarray(arrays[n]) for n in Forest.__dataclass_fields__))
    nodes = np.arange(len(forest.lesion))
    same = {a.shape for a in (forest.feature, forest.threshold, forest.left, forest.right)}
    ends = (forest.roots, forest.left, forest.right)
    if same != {nodes.shape} or any(_leave(e, len(nodes)) for e in ends):
        raise RuntimeError("the nodes of the forest do not fit together")
    leaf = (forest.left == nodes) & (forest.right == nodes)
    # Upwards there is no way back, so that every pixel comes to a leaf.
    if not (leaf | (forest.left > nodes) & (forest.right > nodes)).all():
        raise RuntimeError("the nodes of the forest go in a circle")
    return forest


def _leave(nodes: npt.NDArray[Any], count: int) -> bool:
    """Whether some of these numbers are none of so many nodes."""
    return bool(((nodes < 0) | (nodes >= count)).any())


def pixel_features(image: npt.ArrayLike, channels: int) -> npt.NDArray[np.float32]:
    """Intensity, edges and texture around every pixel of an image, at scales that double.

    Parameters
    ----------
    image : (M, N[, C]) array_like
        Of any range, which becomes 0 to 1.
    channels : {1, 3}
        1 takes the channels' mean; 3 takes each, a grey image three times.

    Returns
    -------
    (h, w, D) ndarray of float32
        Of the image, made smaller where its longer side is above `LONGEST_SIDE`.

    References
    ----------
    scikit-image's ``multiscale_basic_features``: Gaussian, Gaussian gradient magnitude, and the
    eigenvalues of the Hessian.
    """
    from skimage.feature import multiscale_basic_features
    from skimage.transform import resize

    values = np.asarray(image, dtype=np.float64)
    grey = brightness(values)
    if channels == 1:
        values = grey
    elif values.ndim == 2:
        values = np.repeat(values[..., None], channels, axis=2)
    values = unit_range(values)
    shrink = LONGEST_SIDE / max(grey.shape)
    if shrink < 1:
        small = tuple(max(1, round(side * shrink)) for side in grey.shape)
        values = resize(values, small, order=1, anti_aliasing=True)
    rows, columns = values.shape[:2]
    # Its gradients need two pixels a side.
    pad = [(0, max(0, 2 - side)) for side in (rows, columns)] + [(0, 0)] * (values.ndim - 2)
    features = multiscale_basic_features(
        np.pad(values, pad, mode="edge").astype(np.float32),
        sigma_min=SIGMA_MIN,
        sigma_max=SIGMA_MAX,
        channel_axis=None if channels == 1 else -1,
    )
    return np.asarray(features[:rows, :columns], dtype=np.float32)


def fit_forest(
    features: npt.ArrayLike, lesion: npt.ArrayLike, *, trees: int, depth: int, seed: int
) -> Forest:
    """Train a forest, both kinds counting alike however many there are of each.

    Parameters
    ----------
    features : (P, D) array_like
    lesion : (P,) array_like of bool
    trees, depth : int
    seed : int

    Raises
    ------
    LookupError
        If there are fewer than `FEWEST` of a kind.

    References
    ----------
    L. Breiman, "Random forests", Machine Learning 45(1), 2001, by scikit-learn.
    """
    from sklearn.ensemble import RandomForestClassifier

    x, y = np.asarray(features, dtype=np.float32), np.asarray(lesion, dtype=bool)
    few = min(int(y.sum()), int((~y).sum()))
    if few < FEWEST:
        kind = "a lesion" if y.sum() < FEWEST else "background"
        raise LookupError(
            f"the training heatmaps are sure of only {few} pixels of {kind}, {FEWEST} are needed"
        )
    model = RandomForestClassifier(
        trees, max_depth=depth, class_weight="balanced", random_state=seed, n_jobs=1
    )
    model.fit(x, y)
    parts = [e.tree_ for e in model.estimators_]
    starts = np.cumsum([0, *(t.node_count for t in parts[:-1])]).astype(np.int32)

    def below(side: str) -> npt.NDArray[np.int32]:
        ends = []
        for start, tree in zip(starts, parts, strict=True):
            node, to = np.arange(tree.node_count), getattr(tree, side)
            ends.append(start + np.where(to < 0, node, to))
        return np.concatenate(ends).astype(np.int32)

    return Forest(
        roots=starts,
        feature=np.concatenate([np.maximum(t.feature, 0) for t in parts]).astype(np.int32),
        threshold=np.concatenate([t.threshold for t in parts]).astype(np.float64),
        left=below("children_left"),
        right=below("children_right"),
        lesion=np.concatenate([t.value[:, 0, 1] for t in parts]).astype(np.float64),
    )


def random_forest_mask(
    heatmap: npt.ArrayLike,
    image: npt.ArrayLike,
    features: npt.NDArray[np.float32],
    forest: Forest,
    *,
    warm: float = 0.25,
    at: float = 0.5,
) -> Bools:
    """The pixels of an image's warm region that a forest calls lesion.

    Parameters
    ----------
    heatmap : (M, N) array_like
        Raw heat.
    image : (M, N[, C]) array_like
    features : (h, w, D) ndarray
        See `pixel_features`.
    forest : Forest
    warm : float, optional
        Pixels whose heat is not above this share of the heatmap's maximum are left out, in [0, 1);
        0 leaves out none.
    at : float, optional
        Probability above which a pixel is lesion, in (0, 1).

    Returns
    -------
    (M, N) ndarray of bool
        Empty for a flat heatmap.

    Raises
    ------
    ValueError
        For shapes that differ, or parameters out of range.
    """
    from skimage.transform import resize

    below_one(warm=warm)
    fraction("at", at)
    heat, _ = heat_and_grey(heatmap, image)
    shape = features.shape[:2]
    warm_places = coarse_heat(heat, shape) > warm if warm > 0 else np.ones(shape, bool)
    if not heat.any() or not warm_places.any():
        return np.zeros(heat.shape, dtype=bool)
    p = np.zeros(shape)
    p[warm_places] = forest.probability(features[warm_places])
    mask = apply_threshold(p if shape == heat.shape else resize(p, heat.shape, order=1), at)
    return mask & (heat > warm) if warm > 0 else mask
