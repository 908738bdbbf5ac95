"""Means with confidence intervals that know of patients.

Slices of one patient resemble each other. A bootstrap that drew slices would take them for
independent and give intervals that are too narrow; here patients are drawn, each with all its
images.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from weakseg.scores.checks import Floats

_BLOCK_CELLS = 4_000_000


class Interval(NamedTuple):
    """A mean and its confidence interval.

    Attributes
    ----------
    value : float
        The mean over cases.
    low, high : float
        The ends of the interval; NaN where a single patient leaves nothing to resample.
    cases, patients : int
        How many of each went into the mean.
    """

    value: float
    low: float
    high: float
    cases: int
    patients: int


def cluster_mean_interval(
    values: ArrayLike,
    patients: ArrayLike,
    *,
    bootstrap: int = 2000,
    level: float = 0.95,
    seed: int = 0,
) -> Interval:
    """Mean over cases with a percentile bootstrap interval over patients.

    Parameters
    ----------
    values : (N,) array_like of float
        One score a case; NaN cases are left out.
    patients : (N,) array_like of str
        The patient of each case.
    bootstrap : int, optional
        Number of resamples. In each, as many patients as there are, are drawn with replacement;
        the mean is over all cases of the drawn patients, so that a patient with more images
        weighs more, as in the mean itself.
    level : float, optional
        Coverage that the interval aims at, in (0, 1).
    seed : int, optional
        Of the draw. The same seed draws the same patients for every score of a set of cases.

    Returns
    -------
    Interval
        With NaN value and ends where no case is left, and NaN ends for a single patient.

    Raises
    ------
    ValueError
        For lengths that differ, infinite values, cases without a patient, or parameters out of
        range.

    References
    ----------
    C. A. Field, A. H. Welsh, "Bootstrapping clustered data", J. R. Stat. Soc. B 69(3), 2007.

    Examples
    --------
    >>> cluster_mean_interval([0.2, 0.4, 0.9], ["a", "a", "b"]).value
    0.5
    """
    x = np.asarray(values, dtype=np.float64)
    names = np.asarray(patients)
    if x.ndim != 1 or names.shape != x.shape:
        raise ValueError(
            f"values and patients must be of one length, got shapes {x.shape} and {names.shape}"
        )
    if np.isinf(x).any():
        raise ValueError(
            f"values must not be infinite, got {int(np.isinf(x).sum())}; "
            "charge a missed lesion the image diagonal"
        )
    check_bootstrap(bootstrap, level)
    kept = ~np.isnan(x)
    x, names = x[kept], names[kept]
    if x.size == 0:
        return Interval(np.nan, np.nan, np.nan, 0, 0)
    patient, count = patient_numbers(names)
    sums, sizes = np.bincount(patient, weights=x), np.bincount(patient)
    means = [w @ sums / (w @ sizes) for w in resampled_counts(count, bootstrap, seed)]
    low, high = percentile_interval(np.concatenate(means), count, level)
    return Interval(float(x.mean()), low, high, int(x.size), count)


def patient_numbers(patients: ArrayLike) -> tuple[NDArray[np.intp], int]:
    """Number the patients from 0 in the order of their names.

    Returns
    -------
    number : (N,) ndarray of int
        The patient of each case.
    count : int
        How many there are.

    Raises
    ------
    ValueError
        Where a case has no patient (missing or empty).
    """
    names = np.asarray(patients)
    missing = np.asarray(pd.isna(names)) | (names.astype(str) == "")
    if missing.any():
        raise ValueError(
            f"patients must name the patient of every case, got {int(missing.sum())} without"
        )
    distinct, number = np.unique(names.astype(str), return_inverse=True)
    return number, len(distinct)


def resampled_counts(patients: int, bootstrap: int, seed: int) -> Iterator[Floats]:
    """How often each patient is drawn in each resample, in blocks that fit into memory.

    Yields
    ------
    (B, patients) ndarray of float
        Whole numbers that sum to ``patients`` in each row; the blocks' B sum to ``bootstrap``.
    """
    rng = np.random.default_rng(seed)
    block = max(1, _BLOCK_CELLS // patients)
    for start in range(0, bootstrap, block):
        rows = min(block, bootstrap - start)
        drawn = rng.integers(patients, size=(rows, patients))
        drawn += patients * np.arange(rows)[:, None]
        counts = np.bincount(drawn.ravel(), minlength=rows * patients)
        yield counts.reshape(rows, patients).astype(np.float64)


def other_seed(seed: int) -> int:
    """A seed for a second draw: with the patients' own both would be drawn alike."""
    return int(np.random.SeedSequence([seed, 1]).generate_state(1)[0])


def percentile_interval(
    replicates: Floats, patients: int, level: float = 0.95
) -> tuple[float, float]:
    """The middle ``level`` of the resampled scores.

    NaN replicates, in which the score was undefined, are dropped. Both ends are NaN where none
    is left, and for fewer than two patients: every resample is then the sample itself.
    """
    defined = replicates[~np.isnan(replicates)]
    if defined.size == 0 or patients < 2:
        return np.nan, np.nan
    tail = (1 - level) / 2
    low, high = np.quantile(defined, [tail, 1 - tail])
    return float(low), float(high)


def ratio(top: ArrayLike, bottom: ArrayLike) -> Floats:
    """Quotient, NaN where the denominator is 0."""
    above, below = np.asarray(top), np.asarray(bottom)
    return np.divide(above, below, out=np.full(above.shape, np.nan), where=below != 0)


def check_bootstrap(bootstrap: int, level: float = 0.95) -> None:
    """Refuse fewer than one resample and levels outside (0, 1).

    Raises
    ------
    ValueError
        With the name and the value.
    """
    if bootstrap < 1:
        raise ValueError(f"bootstrap must be at least 1 resample, got {bootstrap}")
    if not 0 < level < 1:
        raise ValueError(f"level must lie between 0 and 1, got {level}")
