"""Which of several methods is better, where all of them were scored on the same images."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from weakseg.errors import did_you_mean
from weakseg.scores.checks import Floats
from weakseg.scores.statistics import cluster_mean_interval

ALPHA = 0.05
PAIRED_COLUMNS = (
    "method", "other", "difference", "low", "high", "patients", "p", "p_holm", "better", "too_few",
)  # fmt: skip
_EXACT_PATIENTS = 200
_DECIMALS = 12


def paired_tests(
    per_case: pd.DataFrame,
    methods: Sequence[str] | None = None,
    *,
    bootstrap: int = 2000,
    seed: int = 0,
) -> pd.DataFrame:
    """Compare every pair of methods on the images with a lesion that both were scored on.

    Parameters
    ----------
    per_case : DataFrame
        One row a case, method and seed, see `weakseg.scores.cases.case_columns`.
    methods : sequence of str, optional
        Those to compare; default: all with an image with a lesion, in order of appearance. Each
        further one makes Holm's correction harsher on the others.
    bootstrap, seed : int, optional
        See `weakseg.scores.cluster_mean_interval`.

    Returns
    -------
    DataFrame
        One row a pair, with `PAIRED_COLUMNS`:

        - ``difference``, ``low``, ``high``: mean over cases of Dice of ``method`` minus Dice of
          ``other``, seeds averaged within a case first, with a 95 % interval over patients;
        - ``patients``: with at least one image that both were scored on;
        - ``p``: two-sided `signed_rank_p` of the patients' mean differences. A patient counts
          once here however many images there are, for slices of one patient are no independent
          witnesses; NaN without a patient;
        - ``p_holm``: `holm` over all pairs of the table;
        - ``better``: "method" or "other" where ``p_holm`` is below 0.05 and the mean difference
          and the ranks point the same way, otherwise "unclear";
        - ``too_few``: even if every pair of the table came out as clearly as its number of
          patients allows (p = 2 / 2 ** patients), ``p_holm`` would not fall below 0.05. That is
          so for fewer than 6 patients, and for more of them where there are many pairs: "unclear"
          then says nothing about the methods.

    Raises
    ------
    ValueError
        For a method that is not in the table or has no image with a lesion.

    References
    ----------
    J. Demšar, "Statistical comparisons of classifiers over multiple data sets", JMLR 7, 2006.
    """
    if methods is None:
        with_lesion = per_case[per_case["has_lesion"].astype(bool)]
        methods = [str(m) for m in with_lesion["method"].unique()]
    dice = {m: lesion_dice(per_case, m) for m in methods}
    rows = [_compared(a, b, dice[a], dice[b], bootstrap, seed) for a, b in combinations(methods, 2)]
    table = pd.DataFrame(rows, columns=[*PAIRED_COLUMNS, "ranks"])
    table["p_holm"] = holm(table["p"])
    table["too_few"] = ~(holm(_smallest_p(table["patients"].to_numpy(float))) < ALPHA)
    clear = (table["p_holm"] < ALPHA) & (np.sign(table["difference"]) == table["ranks"])
    table["better"] = np.select(
        [clear & (table["ranks"] > 0), clear & (table["ranks"] < 0)], ["method", "other"], "unclear"
    )
    return table[list(PAIRED_COLUMNS)]


def lesion_dice(per_case: pd.DataFrame, method: str) -> pd.DataFrame:
    """A method's Dice on each image with a lesion.

    Returns
    -------
    DataFrame
        ``dice`` (mean over seeds) and ``patient``, indexed by ``case``; names are text. Cases
        without a Dice are left out.

    Raises
    ------
    ValueError
        For a method that is not in the table, or that has no scored image with a lesion.
    """
    names = per_case["method"].astype(str)
    if not (names == method).any():
        methods = [str(m) for m in names.unique()]
        raise ValueError(f"method {method!r} is not in per_case; {did_you_mean(method, methods)}")
    rows = per_case[(names == method) & per_case["has_lesion"].astype(bool)]
    rows = rows.dropna(subset=["dice"])
    if rows.empty:
        raise ValueError(f"method {method!r} has no scored image with a lesion in per_case")
    by_case = rows.groupby(rows["case"].astype(str))
    patient = by_case["patient"].first()
    return pd.DataFrame(
        {
            "dice": by_case["dice"].mean().astype(float),
            "patient": patient.astype(str).where(patient.notna(), ""),
        }
    )


def signed_rank_p(differences: ArrayLike) -> float:
    """Two-sided p of Wilcoxon's signed-rank test that differences are symmetric about 0.

    Zeros are ranked with the others and then drop out, as Pratt proposed. To drop them before
    (Wilcoxon's way) can turn a clear result around when all differences shrink a little; to split
    their ranks between both sides adds a spread that sign flips do not have. Ties share the mean
    of their ranks. Differences that agree to twelve decimals are ties.

    Up to 200 differences that are not zero the p is exact whatever the ties: all sign flips are
    counted. Beyond that it is `scipy.stats.wilcoxon`'s normal approximation, corrected for ties.

    Parameters
    ----------
    differences : (N,) array_like of float
        NaN are left out.

    Returns
    -------
    float
        At least 2 / 2 ** N. 1 where all differences are zero; NaN where there is none.

    References
    ----------
    J. W. Pratt, "Remarks on zeros and ties in the Wilcoxon signed rank procedures", JASA 54, 1959.
    B. Streitberg, J. Röhmel, "Exact distributions for permutation and rank tests", Statistical
    Software Newsletter 12, 1986.

    Examples
    --------
    >>> signed_rank_p([0.1, 0.2, 0.3])
    0.25
    """
    from scipy import stats  # of what only predicts it would take seconds, and memory

    d = _rounded(differences)
    if d.size == 0:
        return np.nan
    if not d.any():
        return 1.0
    if np.count_nonzero(d) > _EXACT_PATIENTS:
        result: Any = stats.wilcoxon(d, zero_method="pratt")
        return float(result.pvalue)
    # Twice the mean ranks are whole numbers, so that their sums can be counted in an array.
    ranks = np.rint(2 * stats.rankdata(np.abs(d))).astype(int)
    observed = int(ranks[d > 0].sum())
    chance = np.ones(1)
    for rank in ranks[d != 0]:
        longer = np.zeros(len(chance) + rank)
        longer[: len(chance)] = chance / 2
        longer[rank:] += chance / 2
        chance = longer
    one_side = min(chance[: observed + 1].sum(), chance[observed:].sum())
    return float(min(1.0, 2 * one_side))


def holm(p: ArrayLike) -> Floats:
    """Holm's step-down adjustment: p-values that bound the chance of a single false finding.

    The smallest of m is multiplied by m, the next by m - 1, ...; none may be smaller than one
    before it, and none is above 1.

    Parameters
    ----------
    p : (N,) array_like of float
        In [0, 1]; NaN (nothing was tested) stays NaN and is not counted in m.

    Returns
    -------
    (N,) ndarray of float
        In the order of ``p``.

    Raises
    ------
    ValueError
        For values outside [0, 1].

    References
    ----------
    S. Holm, "A simple sequentially rejective multiple test procedure", Scand. J. Stat. 6, 1979.

    Examples
    --------
    >>> holm([0.01, 0.04, 0.03]).round(3).tolist()
    [0.03, 0.06, 0.06]
    """
    values = np.asarray(p, dtype=np.float64)
    tested = np.flatnonzero(~np.isnan(values))
    tested_values = values[tested]
    if ((tested_values < 0) | (tested_values > 1)).any():
        raise ValueError(
            f"p must lie between 0 and 1, got {tested_values.min():g} to {tested_values.max():g}"
        )
    order = np.argsort(tested_values)
    steps = tested_values[order] * np.arange(len(tested_values), 0, -1)
    adjusted = np.full(values.shape, np.nan)
    adjusted[tested[order]] = np.minimum(np.maximum.accumulate(steps), 1.0)
    return adjusted


def _compared(
    a: str, b: str, one: pd.DataFrame, other: pd.DataFrame, bootstrap: int, seed: int
) -> dict[str, Any]:
    """A row of `paired_tests` without what depends on the other rows."""
    both = one.join(other["dice"].rename("other"), how="inner")
    lead = both["dice"] - both["other"]
    difference = cluster_mean_interval(
        lead.to_numpy(), both["patient"].to_numpy(dtype=str), bootstrap=bootstrap, seed=seed
    )
    each = lead.groupby(both["patient"]).mean().to_numpy()
    return {
        "method": a,
        "other": b,
        "difference": difference.value,
        "low": difference.low,
        "high": difference.high,
        "patients": difference.patients,
        "p": signed_rank_p(each),
        "ranks": _leaning(each),
    }


def _leaning(differences: ArrayLike) -> int:
    """The side of the greater rank sum: 1, -1, or 0 for a draw."""
    from scipy import stats

    d = _rounded(differences)
    return int(np.sign(np.sum(np.sign(d) * stats.rankdata(np.abs(d))))) if d.size else 0


def _rounded(differences: ArrayLike) -> Floats:
    """Differences that differ only by rounding are made ties, so that order cannot break them."""
    d = np.asarray(differences, dtype=np.float64)
    return np.round(d[~np.isnan(d)], _DECIMALS)


def _smallest_p(patients: Floats) -> Floats:
    """The p of a test whose differences all have one sign."""
    return np.where(patients > 0, np.exp2(1 - patients), np.nan)
