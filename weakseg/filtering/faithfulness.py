"""Whether a network's answer depends on what its heatmap marks, without training it again.

Pixels are taken away, or given back, in the order of their heat, and the same network predicts
again. Networks enter as functions of arrays; images are not normalised yet, so that a fill is what
it says. Every random draw comes from (seed, key of the image, purpose): a score depends neither on
the batch size nor on which other images, orders or shares are asked for.

One room for the measures that share the order of removal.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy.ndimage import gaussian_filter

from weakseg.filtering.imputation import linear_imputation
from weakseg.filtering.perturbed import (
    ORDERS,
    Fill,
    Floats,
    Images,
    Predict,
    Row,
    as_fill,
    curves,
    prediction_change,
    predictions,
)
from weakseg.scores.checks import Mask, as_mask

ROAD_PERCENTS = (10, 30, 50, 70, 90)
BLUR_SIGMA = 5 / 224
"""Standard deviation of the blur that insertion begins with, in sides of the image."""


class Area(NamedTuple):
    """Areas under one curve, by the trapezoid rule over the share from 0 to 1.

    Attributes
    ----------
    image, measure, order
        See `Row`.
    target, predicted : float
        In [0, 1]: of ``p_target`` and ``p_predicted``.
    """

    image: int
    measure: str
    order: str
    target: float
    predicted: float


class Preserved(NamedTuple):
    """What is left of one image and of its prediction, see `preserved`.

    Attributes
    ----------
    image : int
        The image's key.
    image_preserved : float
        Share of the valid pixels that stay, in [0, 1].
    prediction_preserved : bool
        Whether the predicted class stays the same.
    probability_kept : float
        Probability, afterwards, of the class that was predicted before.
    p_target : float
        Probability of the target classes together, afterwards.
    predicted : int
        The class that is predicted afterwards; of equals, the first.
    """

    image: int
    image_preserved: float
    prediction_preserved: bool
    probability_kept: float
    p_target: float
    predicted: int


def road(
    predict: Predict,
    images: ArrayLike,
    heat: ArrayLike,
    valid: ArrayLike,
    target: Sequence[int],
    *,
    keys: Sequence[int],
    percents: Sequence[float] = ROAD_PERCENTS,
    orders: Sequence[str] = ORDERS,
    fill: Fill | None = None,
    noise: float = 0.01,
    seed: int = 0,
    batch_size: int = 64,
) -> list[Row]:
    """Remove and debias: remove the hottest or coldest pixels by imputation, and predict again.

    Parameters
    ----------
    predict : callable
        See `Predict`.
    images : (N, C, H, W) array_like of float
        In [0, 1], before normalisation.
    heat : (N, H, W) array_like of float
        Signed ranking scores, that is before a ReLU. Scores that are not finite rank as coldest.
    valid : (N, H, W) array_like of bool
        The part of each square that shows the image. The rest is padding: it is never changed and
        enters no fill.
    target : sequence of int
        The class numbers that the heatmap explains together.
    keys : (N,) sequence of int
        A number of 0 or more for each image, from which its random draws derive.
    percents : sequence of float, optional
        Of the valid pixels to remove, each in [0, 100]; see `share_count` for the rounding. At
        100 the default fill has nothing to go by and gives 0.
    orders : sequence of {"most", "least", "random"}, optional
        ``most`` removes the hottest pixels first (MoRF), ``least`` the coldest (LeRF, the same
        ranking backwards), ``random`` is the control: it removes as many by a random ranking,
        which depends on seed and key only, so that it is the same for all heatmaps of an image.
    fill : callable, optional
        See `Fill`. By default noisy linear imputation inside ``valid``. All fills of one image
        start from the same generator.
    noise : float, optional
        Standard deviation of the noise of that default.
    seed : int, optional
    batch_size : int, optional
        Images a call of ``predict``.

    Returns
    -------
    list of Row
        One for each image, order and percent, in this order of loops.

    Raises
    ------
    ValueError
        For arrays that do not fit together, parameters out of range, or predictions that are no
        probabilities.

    References
    ----------
    Y. Rong et al., "A consistent and efficient evaluation strategy for attribution methods", ICML
    2022. There ties are broken by noise of 1e-4 added to the map; here by the ranking itself.
    """
    bad = [t for t in percents if not 0 <= t <= 100]
    if bad:
        raise ValueError(f"percents must lie in [0, 100], got {bad[0]!r}")
    data = Images(images, valid, keys, seed)

    def removed(i: int, missing: Mask) -> Floats:
        inside = data.valid[i]  # known to the default only: a `Fill` sees no padding as such

        def imputed(image: Floats, missing: Mask, rng: np.random.Generator) -> Floats:
            return linear_imputation(image, missing, noise=noise, rng=rng, valid=inside)

        return data.filled(i, missing, fill or imputed)

    shares = [t / 100 for t in percents]
    return curves("road", predict, data, heat, target, shares, orders, removed, batch_size)


def deletion(
    predict: Predict,
    images: ArrayLike,
    heat: ArrayLike,
    valid: ArrayLike,
    target: Sequence[int],
    *,
    keys: Sequence[int],
    fill: ArrayLike | Fill,
    steps: int = 20,
    orders: Sequence[str] = ("most",),
    seed: int = 0,
    batch_size: int = 64,
) -> list[Row]:
    """Probabilities while pixels are replaced, hottest first. A low area speaks for the heatmap.

    Parameters
    ----------
    predict, images, heat, valid, target, keys, orders, seed, batch_size
        See `road`.
    fill : (C,) array_like of float, or callable
        Value of each channel that takes a pixel's place, such as the mean of the training images
        (the paper: 0); or a `Fill`.
    steps : int, optional
        Equal steps from the whole image to none of it; after step k, k/steps of the pixels are
        replaced, rounded as in `share_count`.

    Returns
    -------
    list of Row
        ``steps + 1`` for each image and order, shares 0 to 1; `areas` sums them up.

    Raises
    ------
    ValueError
        See `road`.

    References
    ----------
    V. Petsiuk, A. Das, K. Saenko, "RISE: randomized input sampling for explanation of black-box
    models", BMVC 2018.
    """
    data = Images(images, valid, keys, seed)
    put = as_fill(fill, data.images.shape[1])

    def replaced(i: int, missing: Mask) -> Floats:
        return data.filled(i, missing, put)

    shares = _equal_steps(steps)
    return curves("deletion", predict, data, heat, target, shares, orders, replaced, batch_size)


def insertion(
    predict: Predict,
    images: ArrayLike,
    heat: ArrayLike,
    valid: ArrayLike,
    target: Sequence[int],
    *,
    keys: Sequence[int],
    steps: int = 20,
    orders: Sequence[str] = ("most",),
    seed: int = 0,
    batch_size: int = 64,
) -> list[Row]:
    """Probabilities while a blurred image is revealed, hottest first. A high area speaks for it.

    Parameters
    ----------
    predict, images, heat, valid, target, keys, orders, seed, batch_size
        See `road`.
    steps : int, optional
        Equal steps from the image that is blurred all over (`blurred`) to the image itself; see
        `deletion`.

    Returns
    -------
    list of Row
        ``steps + 1`` for each image and order, shares 0 to 1; `areas` sums them up.

    Raises
    ------
    ValueError
        See `road`.

    References
    ----------
    See `deletion`.
    """
    data = Images(images, valid, keys, seed)
    # One image after the other is worked through, so that one blurred copy at a time is enough.
    last: dict[int, Floats] = {}

    def revealed(i: int, shown: Mask) -> Floats:
        if i not in last:
            last.clear()
            last[i] = blurred(data.images[i], data.valid[i])
        return np.where(shown, data.images[i], last[i])

    shares = _equal_steps(steps)
    return curves("insertion", predict, data, heat, target, shares, orders, revealed, batch_size)


def areas(rows: Iterable[Row]) -> list[Area]:
    """The area under each curve of `deletion` and `insertion`.

    Parameters
    ----------
    rows : iterable of Row
        With every curve from share 0 to share 1, in any order.

    Returns
    -------
    list of Area
        One for each image, measure and order, in the order in which they come first.

    Raises
    ------
    ValueError
        For a curve that does not reach from 0 to 1, such as those of `road`, or holds a share
        twice, as where two images have one key.
    """
    curves: dict[tuple[int, str, str], list[Row]] = {}
    for row in rows:
        curves.setdefault((row.image, row.measure, row.order), []).append(row)
    totals = []
    for (image, measure, order), curve in curves.items():
        curve.sort(key=lambda row: row.share)
        share = [row.share for row in curve]
        if share[0] != 0 or share[-1] != 1:
            raise ValueError(
                f"the {measure} curve of image {image} must reach from share 0 to share 1, "
                f"got {share[0]:g} to {share[-1]:g}"
            )
        if len(set(share)) < len(share):
            raise ValueError(
                f"the {measure} curve of image {image} must hold each share once, got "
                f"{len(share)} rows of {len(set(share))} shares; give every image a key of its own"
            )
        target = float(np.trapezoid([row.p_target for row in curve], share))
        predicted = float(np.trapezoid([row.p_predicted for row in curve], share))
        totals.append(Area(image, measure, order, target, predicted))
    return totals


def preserved(
    predict: Predict,
    images: ArrayLike,
    marks: ArrayLike,
    valid: ArrayLike,
    target: Sequence[int],
    *,
    keys: Sequence[int],
    fill: ArrayLike | Fill,
    seed: int = 0,
    batch_size: int = 64,
) -> list[Preserved]:
    """Keep the marked pixels only, and see how much of the prediction is kept.

    The names *Prediction Preserved* and *Image Preserved* come from work on attribution of
    segmentation networks, whose formulas we do not know. The definitions, for classifiers, are
    ours: the valid pixels outside the mark are filled; the prediction is preserved where the
    predicted class stays the same; the image is preserved by the share of its valid pixels that
    stay. A good mark preserves much of the prediction by little of the image.

    Parameters
    ----------
    predict, images, valid, target, keys, seed, batch_size
        See `road`.
    marks : (N, H, W) array_like of bool
        Of the heatmap; what lies outside ``valid`` does not count.
    fill : (C,) array_like of float, or callable
        See `deletion`.

    Returns
    -------
    list of Preserved
        One for each image.

    Raises
    ------
    ValueError
        See `road`.
    """
    data = Images(images, valid, keys, seed)
    kept = as_mask("marks", marks)
    if kept.shape != data.valid.shape:
        raise ValueError(
            f"marks must have the shape of valid, {data.valid.shape}, got {kept.shape}"
        )
    put = as_fill(fill, data.images.shape[1])
    gone = data.valid & ~kept

    before = predictions(predict, data.images, batch_size)
    stream = (data.filled(i, missing, put) for i, missing in enumerate(gone))
    rows = []
    for i, (first, now) in enumerate(
        zip(before, predictions(predict, stream, batch_size), strict=True)
    ):
        p_target, p_kept, predicted, same = prediction_change(first, now, target)
        stays = 1 - float(gone[i].sum() / data.valid[i].sum())
        rows.append(Preserved(data.keys[i], stays, same, p_kept, p_target, predicted))
    return rows


def blurred(image: ArrayLike, valid: ArrayLike) -> Floats:
    """A blurred copy of an image, into which no padding is mixed.

    A Gaussian of `BLUR_SIGMA` of the longer side, cut off at 4 standard deviations, as a
    normalised convolution: every pixel is the weighted mean of the valid pixels around it.
    (RISE has a sigma of 5 pixels of 224 as well, cut off after 5 pixels.)

    Parameters
    ----------
    image : (C, H, W) array_like of float
    valid : (H, W) array_like of bool

    Returns
    -------
    (C, H, W) ndarray of float32
        Outside ``valid`` the image as it was.

    References
    ----------
    H. Knutsson, C.-F. Westin, "Normalized and differential convolution", CVPR 1993.
    """
    planes, inside = np.asarray(image, dtype=np.float32), np.asarray(valid, dtype=np.bool_)
    sigma = BLUR_SIGMA * max(inside.shape)
    weight = gaussian_filter(inside.astype(np.float64), sigma, mode="constant")
    valid_planes = np.where(inside, planes, 0).astype(np.float64)
    blur = gaussian_filter(valid_planes, (0, sigma, sigma), mode="constant")
    mean = np.divide(blur, weight, out=np.zeros_like(blur), where=inside)
    return np.where(inside, mean, planes).astype(np.float32)


def _equal_steps(steps: int) -> list[float]:
    if steps < 1:
        raise ValueError(f"steps must be at least 1, got {steps}")
    return [k / steps for k in range(steps + 1)]
