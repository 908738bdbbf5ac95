"""Learning curves of a supervised network over the number of masks that it was trained with.

A network is trained with the masks of 1, 2, 4, ... patients, in several draws (random orders of
the patients; within a draw the patients of a smaller number are among those of a larger). The
table of such an experiment, ``curve_cases``, holds one row a test image, draw and number of
patients: `CURVE_CASE_COLUMNS`, where ``k`` is the number of training patients whose masks were
seen and ``masks`` the number of those masks, which differs between draws.

Intervals come from a two-way bootstrap: test patients and draws are both drawn with replacement,
independently. Such intervals are a little too wide where both vary much (McCullagh), and too
narrow for few draws, from which the spread of draws cannot be learned.

References
----------
P. McCullagh, "Resampling and exchangeable arrays", Bernoulli 6(2), 2000.
A. B. Owen, "The pigeonhole bootstrap", Annals of Applied Statistics 1(2), 2007.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from weakseg.scores.checks import Floats
from weakseg.scores.statistics import (
    check_bootstrap,
    other_seed,
    patient_numbers,
    percentile_interval,
    resampled_counts,
)

CURVE_CASE_COLUMNS = ("case", "patient", "draw", "k", "masks", "dice", "has_lesion", "false_alarm")
CURVE_COLUMNS = (
    "k", "masks", "masks_low", "masks_high", "draws", "dice", "dice_low", "dice_high",
    "dice_monotone", "draw_sd", "false_positive_rate", "lesion_images", "patients",
)  # fmt: skip


class Curve(NamedTuple):
    """The Dice of N test images with a lesion in D draws at K numbers of patients."""

    draws: pd.Index  # (D,), sorted
    ks: NDArray[np.int64]  # (K,), rising
    masks: Floats  # (D, K)
    dice: Floats  # (N, D, K), no NaN
    cases: pd.Index
    patients: NDArray[np.str_]  # (N,)


def mask_curve(curve_cases: pd.DataFrame, *, bootstrap: int = 2000, seed: int = 0) -> pd.DataFrame:
    """The learning curve: Dice over the number of masks.

    Parameters
    ----------
    curve_cases : DataFrame
        `CURVE_CASE_COLUMNS`, one row a test image, draw and ``k``, every draw at every ``k``.
        Images that have no Dice somewhere are left out everywhere, so that all points are means
        over the same images.
    bootstrap, seed : int, optional
        Resamples of test patients and draws, and the seed of both.

    Returns
    -------
    DataFrame
        `CURVE_COLUMNS`, one row a ``k``, rising:

        - ``masks``, ``masks_low``, ``masks_high``: mean, least and most over draws;
        - ``draws``: their number;
        - ``dice``, ``dice_low``, ``dice_high``: mean over draws of the mean over test images with
          a lesion, with a 95 % interval (NaN for a single test patient);
        - ``dice_monotone``: the same after pooling adjacent violators;
        - ``draw_sd``: standard deviation (n - 1) over draws; NaN for one draw;
        - ``false_positive_rate``: share of test images without a lesion whose mask is not empty;
          NaN without such images;
        - ``lesion_images``, ``patients``: test images with a lesion, and their patients.

    Raises
    ------
    ValueError
        For missing columns, no image with a lesion, a draw that lacks a ``k``, an image that
        stands twice, or masks that are not at least 1 or fall as ``k`` rises.
    """
    check_bootstrap(bootstrap)
    curve = read_curve(curve_cases)
    number, count = patient_numbers(curve.patients)
    means = curve.dice.mean(axis=0)
    parts = [drawn for drawn, _ in resampled_curves(curve, None, bootstrap, seed)]
    replicates = np.concatenate([y for _, y in parts])
    ends = np.array([percentile_interval(column, count) for column in replicates.T])
    draws = len(means)
    return pd.DataFrame(
        {
            "k": curve.ks,
            "masks": curve.masks.mean(axis=0),
            "masks_low": curve.masks.min(axis=0),
            "masks_high": curve.masks.max(axis=0),
            "draws": draws,
            "dice": means.mean(axis=0),
            "dice_low": ends[:, 0],
            "dice_high": ends[:, 1],
            "dice_monotone": monotone(means.mean(axis=0)),
            "draw_sd": means.std(axis=0, ddof=1) if draws > 1 else np.nan,
            "false_positive_rate": _false_positives(curve_cases, curve.ks),
            "lesion_images": len(number),
            "patients": count,
        }
    )


def draw_curves(curve_cases: pd.DataFrame) -> pd.DataFrame:
    """Every draw's own curve: ``draw``, ``k``, ``masks``, ``dice`` (mean over lesion images).

    Raises
    ------
    ValueError
        As `mask_curve`.
    """
    curve = read_curve(curve_cases)
    means = curve.dice.mean(axis=0)
    return pd.DataFrame(
        {
            "draw": np.repeat(curve.draws.to_numpy(), len(curve.ks)),
            "k": np.tile(curve.ks, len(curve.draws)),
            "masks": curve.masks.ravel(),
            "dice": means.ravel(),
        }
    )


def monotone(values: ArrayLike) -> Floats:
    """The least-squares fit that never falls along the last axis (pool adjacent violators).

    Parameters
    ----------
    values : (..., K) array_like of float
        No NaN; all of equal weight.

    Returns
    -------
    (..., K) ndarray of float

    Examples
    --------
    >>> monotone([0.1, 0.5, 0.3, 0.6]).round(3).tolist()
    [0.1, 0.4, 0.4, 0.6]
    """
    y = np.asarray(values, dtype=np.float64)
    size = y.shape[-1]
    sums = np.concatenate([np.zeros((*y.shape[:-1], 1)), np.cumsum(y, axis=-1)], axis=-1)
    first, last = np.arange(size)[:, None], np.arange(size)
    # means[..., a, b] is the mean of points a to b; the fit at i is the greatest, over a up to i,
    # of the least mean from a to any b from i on. All curves of a bootstrap at once.
    means = (sums[..., None, 1:] - sums[..., :-1, None]) / np.maximum(last - first + 1, 1)
    means = np.where(last >= first, means, np.inf)
    least = np.minimum.accumulate(means[..., ::-1], axis=-1)[..., ::-1]
    fit = np.where(last >= first, least, -np.inf).max(axis=-2)
    # Rounding may leave the points of one pool apart by a last bit.
    return np.maximum.accumulate(fit, axis=-1)


def read_curve(curve_cases: pd.DataFrame) -> Curve:
    """The table as arrays, images with a lesion only, see `mask_curve` for what is refused."""
    missing = [c for c in CURVE_CASE_COLUMNS if c not in curve_cases.columns]
    if missing:
        raise ValueError(f"curve_cases must have the columns {missing}, got none of that name")
    rows = curve_cases[curve_cases["has_lesion"].astype(bool)]
    if rows["dice"].notna().sum() == 0:
        raise ValueError("curve_cases must hold a scored image with a lesion, got none")
    rows = rows.assign(case=rows["case"].astype(str))
    twice = rows.duplicated(["case", "draw", "k"])
    if twice.any():
        case, draw, k = rows.loc[twice, ["case", "draw", "k"]].iloc[0]
        raise ValueError(
            f"curve_cases must hold an image once for each draw and k, got {case!r} twice in "
            f"draw {draw}, k {k}"
        )
    masks = _masks(rows)
    dice = rows.set_index(["case", "draw", "k"])["dice"].astype(np.float64)
    wide = dice.unstack(["draw", "k"]).sort_index(axis=1).dropna()
    if wide.empty:
        raise ValueError("curve_cases must hold an image that is scored in every draw at every k")
    patients = rows.drop_duplicates("case").set_index("case")["patient"].reindex(wide.index)
    return Curve(
        draws=masks.index,
        ks=masks.columns.to_numpy(dtype=np.int64),
        masks=masks.to_numpy(dtype=np.float64),
        dice=wide.to_numpy(dtype=np.float64).reshape(len(wide), *masks.shape),
        cases=wide.index,
        patients=patients.astype(str).where(patients.notna(), "").to_numpy(dtype=str),
    )


def _masks(rows: pd.DataFrame) -> pd.DataFrame:
    """The number of masks of each draw (down) at each k (across)."""
    of = rows.groupby(["draw", "k"])["masks"]
    if (of.nunique() > 1).any():
        raise ValueError("masks must be one number in each draw and k of curve_cases, got several")
    table = of.first().unstack("k")
    if table.isna().any(axis=None):
        row, column = np.argwhere(table.isna().to_numpy())[0]
        raise ValueError(
            "every draw of curve_cases must have every k, got no k "
            f"{table.columns[column]!s} in draw {table.index[row]!s}"
        )
    if not (table >= 1).all(axis=None):
        raise ValueError(f"masks must be at least 1, got {table.to_numpy().min():g}")
    if (table.diff(axis=1) < 0).any(axis=None):
        raise ValueError(
            "masks must not fall as k rises within a draw: the patients of a smaller k are to be "
            "among those of a larger"
        )
    return table


def resampled_curves(
    curve: Curve, own: Floats | None, bootstrap: int, seed: int
) -> Iterator[tuple[tuple[Floats, Floats], Floats]]:
    """Curves, and the method's means, of resampled test patients and draws, block by block.

    Yields
    ------
    (x, y) : ((B, K), (B, K)) ndarray of float
        log2 of the masks, and the Dice before it is made monotone.
    means : (B,) ndarray of float
        Of ``own``; empty without it.
    """
    number, count = patient_numbers(curve.patients)
    draws, points = curve.masks.shape
    columns = curve.dice.reshape(len(number), draws * points)
    if own is not None:
        columns = np.column_stack([columns, own])
    sums = np.zeros((count, columns.shape[1]))
    np.add.at(sums, number, columns)
    sizes = np.bincount(number)
    chosen = np.concatenate(list(resampled_counts(draws, bootstrap, other_seed(seed)))) / draws
    start = 0
    for weights in resampled_counts(count, bootstrap, seed):
        share = chosen[start : start + len(weights)]
        start += len(weights)
        means = (weights @ sums) / (weights @ sizes)[:, None]
        each = means[:, : draws * points].reshape(len(means), draws, points)
        y = np.einsum("bd,bdk->bk", share, each)
        yield (np.log2(share @ curve.masks), y), means[:, draws * points :].ravel()


def _false_positives(curve_cases: pd.DataFrame, ks: NDArray[np.int64]) -> Floats:
    """Share of healthy images with a mark at each k: the mean over draws of each draw's share."""
    healthy = curve_cases[~curve_cases["has_lesion"].astype(bool)].dropna(subset=["false_alarm"])
    if healthy.empty:
        return np.full(len(ks), np.nan)
    marked = healthy["false_alarm"].astype(bool).astype(np.float64)
    each = marked.groupby([healthy["draw"], healthy["k"]]).mean()
    share = each.groupby(level="k").mean().reindex(ks)
    return np.asarray(share, dtype=np.float64)
