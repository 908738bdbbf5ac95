"""Whether a second run is better than a first one, where both were scored on the same images."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pandas as pd

from weakseg.scores.paired import holm, signed_rank_p
from weakseg.scores.statistics import cluster_mean_interval

ALL = "all"
"""The row of all images."""

TWO_RUNS_COLUMNS = (
    *("group", "images", "patients"),
    *("lesion_images", "lesion_patients", "dice_a", "dice_b"),
    *("difference", "low", "high", "p", "p_holm", "missed_a", "missed_b"),
    *("healthy_images", "false_positive_rate_a", "false_positive_rate_b"),
)
_AVERAGED = ("dice", "missed", "false_alarm", "has_lesion")


def compare_two_runs(
    a: pd.DataFrame,
    b: pd.DataFrame,
    groups: Mapping[str, str] | None = None,
    *,
    bootstrap: int = 2000,
    seed: int = 0,
) -> pd.DataFrame:
    """Paired differences of the scores of two runs, of all images and of groups of them.

    Seeds are averaged within a case first. Images with a lesion of which one of the two has no Dice
    are left out of both.

    Parameters
    ----------
    a, b : DataFrame
        Rows of one method each, with the columns ``case``, ``patient``, ``has_lesion``, ``dice``,
        ``missed`` and ``false_alarm`` of ``per_case.csv``; of the same cases.
    groups : mapping of str to str, optional
        Case → its group, for instance the hospital.
    bootstrap, seed : int, optional
        See `weakseg.scores.cluster_mean_interval`.

    Returns
    -------
    DataFrame
        One row of all images, which is called "all" whatever a group is called, and one a group in
        the order of their names, with `TWO_RUNS_COLUMNS`:

        - ``dice_a``, ``dice_b``: means over images with a lesion;
        - ``difference``, ``low``, ``high``: the mean of b - a over these images, with a 95 %
          interval over patients;
        - ``p``: two-sided Wilcoxon signed-rank test over the patients' mean differences, see
          `weakseg.scores.paired.signed_rank_p`; NaN without a patient;
        - ``p_holm``: of groups, with Holm's correction for all of them; of all images ``p``;
        - ``missed_a``, ``missed_b``: share of these images with an empty mask;
        - ``false_positive_rate_a``, ``false_positive_rate_b``: share of images without a lesion
          whose mask is not empty.

    Raises
    ------
    ValueError
        Where the cases differ, or whose they are, or which have a lesion; or a case has no group.
    """
    first, second = _by_case(a), _by_case(b)
    if set(first.index) != set(second.index):
        raise ValueError("a and b must hold the same cases")
    both = first.add_suffix("_a").join(second.add_suffix("_b"))
    for column in ("patient", "has_lesion"):
        if (both[f"{column}_a"] != both[f"{column}_b"]).any():
            raise ValueError(f"a and b must agree in the {column} of every case")
    rows = [_row(ALL, both, bootstrap, seed)]
    rows += [_row(name, of, bootstrap, seed) for name, of in _parted(both, groups or {})]
    table = pd.DataFrame(rows)
    table["p_holm"] = [*table["p"][:1], *holm(table["p"][1:])]
    return table[list(TWO_RUNS_COLUMNS)]


def _parted(both: pd.DataFrame, groups: Mapping[str, str]) -> Iterator[tuple[str, pd.DataFrame]]:
    """The cases of each group; none where there are no groups."""
    if not groups:
        return
    missing = [c for c in both.index if c not in groups]
    if missing:
        raise ValueError(f"groups must hold every case, got none of {missing[0]!r}")
    of = pd.Series({c: groups[c] for c in both.index})
    for name, cases in both.groupby(of.reindex(both.index)):
        yield str(name), cases


def _by_case(rows: pd.DataFrame) -> pd.DataFrame:
    """A row a case: means over the seeds, and whose it is."""
    cases = rows["case"].astype(str)
    means = rows[list(_AVERAGED)].astype(float).groupby(cases).mean()
    return means.assign(patient=rows["patient"].astype(str).groupby(cases).first())


def _row(name: str, both: pd.DataFrame, bootstrap: int, seed: int) -> dict[str, Any]:
    """A row of the table, but for what depends on the others."""
    lesion = both[both["has_lesion_a"] > 0].dropna(subset=["dice_a", "dice_b"])
    healthy = both[both["has_lesion_a"] == 0]
    gain, patient = lesion["dice_b"] - lesion["dice_a"], lesion["patient_a"]
    ends = cluster_mean_interval(
        gain.to_numpy(), patient.to_numpy(dtype=str), bootstrap=bootstrap, seed=seed
    )
    p = signed_rank_p(gain.groupby(patient).mean().to_numpy()) if len(gain) else np.nan
    return {
        "group": name,
        "images": len(both),
        "patients": both["patient_a"].nunique(),
        "lesion_images": len(lesion),
        "lesion_patients": patient.nunique(),
        "difference": ends.value,
        "low": ends.low,
        "high": ends.high,
        "p": p,
        "healthy_images": len(healthy),
        **{f"{c}_{k}": lesion[f"{c}_{k}"].mean() for c in ("dice", "missed") for k in "ab"},
        **{f"false_positive_rate_{k}": healthy[f"false_alarm_{k}"].mean() for k in "ab"},
    }
