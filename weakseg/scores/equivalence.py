"""How many masks is a heatmap worth? Where a supervised learning curve crosses a method's Dice.

A method is worth the number of masks with which the network of `weakseg.scores.learning_curve`
reaches the same mean Dice on the same test images with a lesion. Three rules hold throughout:

- The curve is the mean over draws at each number of patients, made monotone by pooling adjacent
  violators with equal weights: a Dice that falls with more masks is noise of the training.
- Between its points the curve is linear in log2 of the masks (of the patients likewise). The
  crossing is the fewest masks that reach the method's Dice; a Dice within 1e-9 is reached.
- Nothing is extrapolated: a method worse than the first point is worth fewer masks than were
  tried, one better than the last point more.

Intervals resample test patients and draws as those of the curve do, with the same patients for
the method. Seeds of the method are averaged within a case and not drawn.

One room for one question, its crossing, its intervals and its ends.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from weakseg.scores.checks import Floats
from weakseg.scores.learning_curve import Curve, monotone, read_curve, resampled_curves
from weakseg.scores.paired import lesion_dice
from weakseg.scores.statistics import (
    Interval,
    check_bootstrap,
    patient_numbers,
    percentile_interval,
    ratio,
    resampled_counts,
)

_LEVEL = 0.95
_TOLERANCE = 1e-9


class Equivalence(NamedTuple):
    """What a method is worth in masks, see the rules at the head of the module.

    A number that lies outside what was tried is NaN, and a flag says on which side. A single test
    patient leaves all ends of intervals NaN without a flag.

    Attributes
    ----------
    method : str
    dice, dice_low, dice_high : float
        Its mean on the test images with a lesion that curve and method share.
    masks, masks_low, masks_high : float
        The masks that it is worth, with a 95 % interval.
    patients, patients_low, patients_high : float
        The same in training patients.
    below, low_below, high_below : bool
        It, or the end of its interval, is worth fewer masks than the fewest tried.
    above, low_above, high_above : bool
        It, or the end of its interval, is worth more masks than the most tried.
    fewest, most : float
        Masks at the first and the last point of the curve, means over draws.
    fewest_patients, most_patients : int
        Patients there.
    draws : int
        How many draws the curve rests on.
    lesion_images, test_patients : int
        How many of each curve and method share.
    """

    method: str
    dice: float
    dice_low: float
    dice_high: float
    masks: float
    masks_low: float
    masks_high: float
    patients: float
    patients_low: float
    patients_high: float
    below: bool
    low_below: bool
    high_below: bool
    above: bool
    low_above: bool
    high_above: bool
    fewest: float
    most: float
    fewest_patients: int
    most_patients: int
    draws: int
    lesion_images: int
    test_patients: int


class CurvePoint(NamedTuple):
    """The monotone curve at some number of masks, and a method's lead over it.

    Attributes
    ----------
    masks : float
        Where the curve was asked for.
    below, above : bool
        That is less than the fewest, or more than the most masks tried; the numbers are then
        those of the nearest point that was.
    dice, dice_low, dice_high : float
        Of the curve.
    difference, difference_low, difference_high : float
        Dice of the method minus that of the curve, with a paired 95 % interval.
    """

    masks: float
    below: bool
    above: bool
    dice: float
    dice_low: float
    dice_high: float
    difference: float
    difference_low: float
    difference_high: float


def mask_equivalence(
    per_case: pd.DataFrame,
    method: str,
    curve_cases: pd.DataFrame,
    *,
    bootstrap: int = 2000,
    seed: int = 0,
) -> Equivalence:
    """The number of masks at which the curve crosses the method's mean Dice.

    Parameters
    ----------
    per_case : DataFrame
        See `weakseg.scores.cases.case_columns`.
    method : str
        One of its methods.
    curve_cases : DataFrame
        As for `weakseg.scores.learning_curve.mask_curve`.
    bootstrap, seed : int, optional
        As for `mask_curve`.

    Returns
    -------
    Equivalence
        The ends of the interval are order statistics of the resampled crossings, the outer one
        where they fall between two. Crossings outside what was tried count as minus or plus
        infinity there, so that an end may be open.

    Raises
    ------
    ValueError
        As `mask_curve`; for an unknown method, one without an image with a lesion or without one
        that is on the curve, or images that have another patient there.
    """
    check_bootstrap(bootstrap)
    curve, own = _paired(per_case, method, curve_cases)
    count = patient_numbers(curve.patients)[1]
    masks, patients = _worth(
        np.log2(curve.masks.mean(axis=0))[None],
        curve.dice.mean(axis=(0, 1))[None],
        np.array([own.mean()]),
        curve.ks,
    )
    drawn = [
        (mean, *_worth(x, y, mean, curve.ks))
        for (x, y), mean in resampled_curves(curve, own, bootstrap, seed)
    ]
    means, many, many_patients = (np.concatenate(part) for part in zip(*drawn, strict=True))
    dice_low, dice_high = percentile_interval(means, count, _LEVEL)
    low, high = _outer_ends(many, count)
    patients_low, patients_high = _outer_ends(many_patients, count)
    span = curve.masks.mean(axis=0)
    return Equivalence(
        method=method,
        dice=float(own.mean()),
        dice_low=dice_low,
        dice_high=dice_high,
        masks=_finite(masks[0]),
        masks_low=_finite(low),
        masks_high=_finite(high),
        patients=_finite(patients[0]),
        patients_low=_finite(patients_low),
        patients_high=_finite(patients_high),
        below=bool(masks[0] == -np.inf),
        low_below=low == -np.inf,
        high_below=high == -np.inf,
        above=bool(masks[0] == np.inf),
        low_above=low == np.inf,
        high_above=high == np.inf,
        fewest=float(span[0]),
        most=float(span[-1]),
        fewest_patients=int(curve.ks[0]),
        most_patients=int(curve.ks[-1]),
        draws=curve.masks.shape[0],
        lesion_images=len(own),
        test_patients=count,
    )


def curve_at(
    per_case: pd.DataFrame,
    method: str,
    curve_cases: pd.DataFrame,
    masks: float,
    *,
    bootstrap: int = 2000,
    seed: int = 0,
) -> CurvePoint:
    """What the network reaches with some number of masks, and the method's lead over that.

    For a method whose threshold was tuned on masks: would they have been better spent on training?

    Parameters
    ----------
    per_case, method, curve_cases, bootstrap, seed
        As for `mask_equivalence`.
    masks : float
        At least 1.

    Raises
    ------
    ValueError
        As `mask_equivalence`, and for fewer than one mask.
    """
    check_bootstrap(bootstrap)
    if not masks >= 1:
        raise ValueError(f"masks must be at least 1, got {masks}")
    curve, own = _paired(per_case, method, curve_cases)
    count = patient_numbers(curve.patients)[1]
    span = curve.masks.mean(axis=0)
    at = float(np.log2(masks))
    dice = float(_height(np.log2(span)[None], curve.dice.mean(axis=(0, 1))[None], at)[0])
    drawn = [
        (height := _height(x, y, at), mean - height)
        for (x, y), mean in resampled_curves(curve, own, bootstrap, seed)
    ]
    heights, leads = (np.concatenate(part) for part in zip(*drawn, strict=True))
    return CurvePoint(
        float(masks),
        bool(masks < span[0] - _TOLERANCE),
        bool(masks > span[-1] + _TOLERANCE),
        dice,
        *percentile_interval(heights, count, _LEVEL),
        float(own.mean()) - dice,
        *percentile_interval(leads, count, _LEVEL),
    )


def weak_to_full_ratio(
    per_case: pd.DataFrame, method: str, reference: str, *, bootstrap: int = 2000, seed: int = 0
) -> Interval:
    """Mean Dice of a method over mean Dice of a reference, on the same images with a lesion.

    Parameters
    ----------
    per_case : DataFrame
        See `weakseg.scores.cases.case_columns`.
    method, reference : str
        Two of its methods; their seeds are averaged within a case.
    bootstrap, seed : int, optional
        Resamples of the patients, the same for both.

    Returns
    -------
    Interval
        The ratio with a 95 % interval over patients. NaN where the reference's mean is 0;
        resamples in which it is 0 are dropped.

    Raises
    ------
    ValueError
        For an unknown method, or one without an image with a lesion.
    """
    check_bootstrap(bootstrap)
    pairs = lesion_dice(per_case, method).join(
        lesion_dice(per_case, reference)["dice"].rename("reference"), how="inner"
    )
    if pairs.empty:
        return Interval(np.nan, np.nan, np.nan, 0, 0)
    number, count = patient_numbers(pairs["patient"].to_numpy(dtype=str))
    above = np.bincount(number, weights=pairs["dice"])
    below = np.bincount(number, weights=pairs["reference"])
    value = float(ratio(above.sum(), below.sum()))
    if np.isnan(value):
        return Interval(value, value, value, len(pairs), count)
    ratios = [ratio(w @ above, w @ below) for w in resampled_counts(count, bootstrap, seed)]
    return Interval(
        value, *percentile_interval(np.concatenate(ratios), count, _LEVEL), len(pairs), count
    )


def _worth(x: Floats, y: Floats, means: Floats, ks: NDArray[np.int64]) -> tuple[Floats, Floats]:
    """Masks and patients at the crossings of B curves with B means; infinite outside."""
    position = _crossing(monotone(y), means)
    steps = np.broadcast_to(np.log2(ks), x.shape)
    return _along(x, position), _along(steps, position)


def _crossing(fit: Floats, means: Floats) -> Floats:
    """Where each rising curve first reaches its mean, in points from 0 to K - 1; else infinite.

    Parameters
    ----------
    fit : (B, K) ndarray of float
    means : (B,) ndarray of float
    """
    rows = np.arange(len(fit))
    reached = fit >= means[:, None] - _TOLERANCE
    after = reached.argmax(axis=1)
    before = np.maximum(after - 1, 0)
    rise = fit[rows, after] - fit[rows, before]
    way = np.divide(means - fit[rows, before], rise, out=np.ones_like(means), where=rise > 0)
    position = np.where(after > 0, before + np.minimum(way, 1), 0.0)
    position[means < fit[:, 0] - _TOLERANCE] = -np.inf
    position[~reached.any(axis=1)] = np.inf
    return position


def _along(log2: Floats, position: Floats) -> Floats:
    """Two to the power of what lies at each position along a row of points."""
    inside = np.isfinite(position)
    at = np.where(inside, position, 0.0)
    before = np.floor(at).astype(np.intp)
    after = np.minimum(before + 1, log2.shape[1] - 1)
    rows = np.arange(len(log2))
    low, high = log2[rows, before], log2[rows, after]
    return np.where(inside, np.exp2(low + (at - before) * (high - low)), position)


def _height(x: Floats, y: Floats, at: float) -> Floats:
    """The monotone curves' height at one place; that of the nearest point outside.

    Parameters
    ----------
    x, y : (B, K) ndarray of float
        log2 of the masks, never falling, and the Dice.
    at : float
        log2 of the masks.

    Returns
    -------
    (B,) ndarray of float
    """
    fit = monotone(y)
    rows, size = np.arange(len(x)), x.shape[1]
    # Points whose masks are equal count as one: the last of them, which has the greater Dice.
    before = np.maximum((x <= at + _TOLERANCE).sum(axis=1) - 1, 0)
    after = np.minimum(before + 1, size - 1)
    run = x[rows, after] - x[rows, before]
    way = np.divide(at - x[rows, before], run, out=np.zeros(len(x)), where=run > 0)
    low, high = fit[rows, before], fit[rows, after]
    return low + np.maximum(way, 0) * (high - low)


def _outer_ends(values: Floats, patients: int) -> tuple[float, float]:
    """The middle 95 % of values that may be infinite, between which no mean can be taken."""
    if patients < 2:
        return np.nan, np.nan
    tail, ordered = (1 - _LEVEL) / 2, np.sort(values)
    last = len(ordered) - 1
    return float(ordered[int(tail * last)]), float(ordered[int(np.ceil((1 - tail) * last))])


def _finite(value: float) -> float:
    return float(value) if np.isfinite(value) else np.nan


def _paired(per_case: pd.DataFrame, method: str, curve_cases: pd.DataFrame) -> tuple[Curve, Floats]:
    """The curve and the method's Dice on the images that both have."""
    own, curve = lesion_dice(per_case, method), read_curve(curve_cases)
    shared = curve.cases.isin(own.index)
    if not shared.any():
        raise ValueError(
            f"method {method!r} and the curve must share images with a lesion, got none; "
            "were they scored on one test split?"
        )
    own = own.loc[curve.cases[shared]]
    other = own["patient"].to_numpy(dtype=str) != curve.patients[shared]
    if other.any():
        raise ValueError(
            f"an image must have the same patient in per_case and on the curve, got another for "
            f"{own.index[other][0]!r}"
        )
    curve = curve._replace(
        dice=curve.dice[shared], cases=curve.cases[shared], patients=curve.patients[shared]
    )
    return curve, own["dice"].to_numpy(dtype=np.float64)
