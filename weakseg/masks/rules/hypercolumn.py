"""Superpixels that vote over hypercolumns: which look to the network like what is surely hot?

A hypercolumn is what a network says of a place at several of its depths, one above the other. A
linear classifier of the superpixels' hypercolumns is trained on those of which the training
heatmaps are sure; no true mask has a part in it unless `teacher` asks for them. (The default
parameters, and those of `weakseg.masks.rules.affinity`, were chosen on 60 validation masks of the
glioma set.)
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field

from weakseg.masks.checks import Bools, Floats, fraction
from weakseg.masks.region import brightness, unit_range
from weakseg.masks.rules.arguments import below_one, heat_and_grey, in_order
from weakseg.masks.rules.base import FittedRule
from weakseg.masks.rules.crf import crf_probability, package
from weakseg.masks.rules.trained import TrainableRule
from weakseg.masks.superpixels import Ints, part_means, slic_parts
from weakseg.masks.thresholds import normalise
from weakseg.settings import Fraction

if TYPE_CHECKING:
    from scipy import sparse

LONGEST_SIDE = 384
"""Superpixels of larger images are found in a smaller copy."""

FEWEST = 10
"""Confident superpixels of each kind without which nothing is learnt."""

OF_HYPERCOLUMN = "masks.rules: hypercolumn: crf"


class HypercolumnRule(TrainableRule):
    """Superpixels that a linear classifier of the network's activations calls lesion, trained on
    the training heatmaps, see `hypercolumn_mask`. The defaults saw 60 validation masks of the
    glioma set."""

    rule: Literal["hypercolumn"] = "hypercolumn"
    spoken = "a classifier of superpixels"
    warm: float = Field(
        0.5,
        ge=0.0,
        lt=1.0,
        description="superpixels of a lower mean heat are no lesion; 0: all ask",
    )
    at: Fraction = Field(0.5, description="probability above which a superpixel is lesion")
    count: int = Field(300, ge=2, le=10_000, description="how many superpixels an image has")
    compactness: float = Field(0.1, gt=0.0, description="space against grey values, see SLIC")
    penalty: float = Field(1000.0, gt=0.0, description="L2 penalty of the linear classifier")
    crf: int = Field(
        0,
        ge=0,
        le=100,
        description="steps of a dense conditional random field that the votes go through; 0: none; "
        "needs the extra `crf`",
    )

    later = frozenset({"teacher", "crf"})

    def require(self) -> None:
        if self.crf:
            package(OF_HYPERCOLUMN)

    def mask(self, fitted: FittedRule, heat: Floats, image: Any, truth: Any) -> Bools:
        assert fitted.trained is not None
        return hypercolumn_mask(
            heat,
            image,
            fitted.trained.features(image),
            vote_of(fitted.trained.arrays),
            warm=self.warm,
            at=self.at,
            count=self.count,
            compactness=self.compactness,
            crf=self.crf,
        )


@dataclass(frozen=True, eq=False)
class Vote:
    """A linear classifier of superpixels, as arrays.

    Attributes
    ----------
    mean, scale : (C,) ndarray
        Of the features it was trained on.
    coefficients : (C,) ndarray
        Of the features less ``mean`` and over ``scale``.
    intercept : () ndarray
    """

    mean: Floats
    scale: Floats
    coefficients: Floats
    intercept: Floats

    def probability(self, features: npt.ArrayLike) -> Floats:
        """Probability of a lesion of superpixels (K, C), (K,)."""
        from scipy.special import expit

        scaled = (np.asarray(features, dtype=np.float64) - self.mean) / self.scale
        return np.asarray(expit(scaled @ self.coefficients + self.intercept))

    def arrays(self) -> dict[str, Floats]:
        """As they are stored."""
        return {
            "mean": self.mean,
            "scale": self.scale,
            "coefficients": self.coefficients,
            "intercept": self.intercept,
        }


def vote_of(arrays: Mapping[str, npt.NDArray[Any]]) -> Vote:
    """The classifier that `Vote.arrays` gave."""
    return Vote(*(np.asarray(arrays[n], dtype=np.float64) for n in Vote.__dataclass_fields__))


def coarse_superpixels(image: npt.ArrayLike, *, count: int = 300, compactness: float = 0.1) -> Ints:
    """Superpixels of an image, those of a large one found in a smaller copy.

    Parameters
    ----------
    image : (M, N[, C]) array_like
    count : int, optional
        About how many.
    compactness : float, optional
        How much distance counts beside grey values in [0, 1].

    Returns
    -------
    (M, N) ndarray of int64
        Numbers from 0 without a gap.
    """
    grey = unit_range(brightness(image))
    shape, shrink = grey.shape, LONGEST_SIDE / max(grey.shape)
    if shrink < 1:
        from skimage.transform import resize

        small = tuple(max(1, round(side * shrink)) for side in shape)
        grey = resize(grey, small)
    parts = slic_parts(grey, count=count, compactness=compactness)
    if parts.shape != shape:
        rows, columns = (
            ((np.arange(n) + 0.5) * m // n).astype(np.int64)
            for n, m in zip(shape, parts.shape, strict=True)
        )
        parts = parts[np.ix_(rows, columns)]
    return np.unique(parts, return_inverse=True)[1]


def superpixel_features(
    image: npt.ArrayLike, parts: Ints, columns: npt.NDArray[np.float32]
) -> npt.NDArray[np.float32]:
    """What is known of every superpixel: its mean hypercolumn and its mean brightness.

    Parameters
    ----------
    image : (M, N[, C]) array_like
    parts : (M, N) ndarray of int
        See `coarse_superpixels`.
    columns : (h, w, C) ndarray
        Hypercolumns on a coarse grid over the same image. They are enlarged bilinearly, with
        half-pixel centres.

    Returns
    -------
    (K, C + 1) ndarray of float32
    """
    from scipy import sparse

    h, w, c = columns.shape
    M, N = parts.shape
    # The mean of an enlarged map is linear in the map: nothing needs to be enlarged.
    enlarge = sparse.kron(_bilinear(M, h), _bilinear(N, w), format="csr")
    flat = parts.ravel()
    sizes = np.bincount(flat)
    member = sparse.csr_array((1 / sizes[flat], (flat, np.arange(flat.size))))
    deep = (member @ enlarge).astype(np.float32) @ columns.reshape(h * w, c)
    grey = part_means(parts, unit_range(brightness(image)))
    return np.column_stack([deep, grey]).astype(np.float32)


def _bilinear(fine: int, coarse: int) -> sparse.csr_array:
    """The matrix (fine, coarse) that enlarges a row of values."""
    from scipy import sparse

    at = np.maximum((np.arange(fine) + 0.5) * coarse / fine - 0.5, 0)
    left = at.astype(np.int64)
    right = np.minimum(left + 1, coarse - 1)
    weight = at - left
    rows = np.arange(fine)
    entries = (np.r_[1 - weight, weight], (np.r_[rows, rows], np.r_[left, right]))
    return sparse.coo_array(entries, shape=(fine, coarse)).tocsr()


def sure_superpixels(
    heatmap: npt.ArrayLike, parts: Ints, *, high: float, low: float
) -> tuple[Ints, Ints]:
    """Which superpixels a heatmap is sure of: numbers of those with a lesion, and of those without.

    Parameters
    ----------
    heatmap : (M, N) array_like
        Raw heat. Of a flat one nothing is sure.
    parts : (M, N) ndarray of int
    high, low : float
        Shares of the heatmap's maximum that the mean heat is above, or below.
    """
    in_order(low=low, high=high)
    heat = normalise(heatmap)
    if not heat.any():
        return np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64)
    mean = part_means(parts, heat)
    return np.flatnonzero(mean > high), np.flatnonzero(mean < low)


def fit_vote(features: npt.ArrayLike, lesion: npt.ArrayLike, *, penalty: float = 1000.0) -> Vote:
    """Train the linear classifier.

    Parameters
    ----------
    features : (K, C) array_like
    lesion : (K,) array_like of bool
        Both kinds count alike, however many there are of each.
    penalty : float, optional
        Of the squared coefficients of standardised features.

    Raises
    ------
    LookupError
        If there are fewer than `FEWEST` of a kind.
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression
    from sklearn.preprocessing import StandardScaler

    x, y = np.asarray(features), np.asarray(lesion, dtype=bool)
    few = min(int(y.sum()), int((~y).sum()))
    if few < FEWEST:
        kind = "a lesion" if y.sum() < FEWEST else "background"
        raise LookupError(
            f"the training heatmaps are sure of only {few} superpixels of {kind}, {FEWEST} are "
            "needed"
        )
    scaler = StandardScaler().fit(x)
    model = LogisticRegression(C=1 / penalty, class_weight="balanced", max_iter=200)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(scaler.transform(x), y)
    learnt = (scaler.mean_, scaler.scale_, model.coef_[0], model.intercept_[0])
    return Vote(*(np.asarray(v, dtype=np.float64) for v in learnt))


def hypercolumn_mask(
    heatmap: npt.ArrayLike,
    image: npt.ArrayLike,
    columns: npt.NDArray[np.float32],
    vote: Vote,
    *,
    warm: float = 0.5,
    at: float = 0.5,
    count: int = 300,
    compactness: float = 0.1,
    crf: int = 0,
) -> Bools:
    """The superpixels of an image's warm region that are voted lesion.

    Parameters
    ----------
    heatmap : (M, N) array_like
        Raw heat.
    image : (M, N[, C]) array_like
    columns : (h, w, C) ndarray
        Hypercolumns over the image.
    vote : Vote
    warm : float, optional
        Superpixels whose mean heat is not above this share of the heatmap's maximum are left out,
        in [0, 1); 0 lets all of them vote.
    at : float, optional
        Probability above which a superpixel is lesion, in (0, 1).
    count, compactness
        See `coarse_superpixels`.
    crf : int, optional
        Steps of a dense conditional random field between the votes, of superpixels that are not
        left out, and the image; 0: none. ``at`` then is of what it makes of them.

    Returns
    -------
    (M, N) ndarray of bool
        Empty for a flat heatmap.

    Raises
    ------
    ValueError
        For shapes that differ, or parameters out of range.

    References
    ----------
    Hariharan et al., "Hypercolumns for object segmentation and fine-grained localization", CVPR
    2015. Achanta et al., "SLIC superpixels", IEEE TPAMI 34(11), 2012.
    """
    below_one(warm=warm)
    fraction("at", at)
    heat, _ = heat_and_grey(heatmap, image)
    if not heat.any():
        return np.zeros(heat.shape, dtype=bool)
    parts = coarse_superpixels(image, count=count, compactness=compactness)
    probability = vote.probability(superpixel_features(image, parts, columns))
    asked = part_means(parts, heat) > warm if warm > 0 else np.ones(len(probability), dtype=bool)
    if crf:
        said = (probability * asked)[parts]
        return np.asarray(crf_probability(said, image, crf, where=OF_HYPERCOLUMN) > at)
    return np.asarray(((probability > at) & asked)[parts])
