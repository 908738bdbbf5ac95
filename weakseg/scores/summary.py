"""From one row a case to one row a method."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from weakseg.errors import check_argument, did_you_mean
from weakseg.scores.cases import FLAG_COLUMNS
from weakseg.scores.metrics import METRICS
from weakseg.scores.statistics import Interval, cluster_mean_interval

SUMMARY_COLUMNS = (
    *("method", "kind", "masks_seen", "seeds"),
    *("dice", "dice_low", "dice_high", "dice_seed_sd"),
    *("dice_all", "dice_all_low", "dice_all_high"),
    *("dice_patient", "dice_patient_low", "dice_patient_high"),
    *(c for m in METRICS if m.column != "dice" for c in m.summary_columns),
    *("flat", "gated_lesions", "lesion_images", "healthy_images", "patients"),
)
_REQUIRED = ("case", "patient", "method", "kind", "masks_seen", "has_lesion", "dice")
_SCORES = (*(m.column for m in METRICS), *FLAG_COLUMNS)


def summarise(per_case: pd.DataFrame, *, bootstrap: int = 2000, seed: int = 0) -> pd.DataFrame:
    """Average the cases of each method.

    Seeds are averaged within a case first, then cases are: an interval thus says how the mean
    would move with other patients, and ``dice_seed_sd`` how it moves with another training.

    Parameters
    ----------
    per_case : DataFrame
        One row a case, method and seed, see `weakseg.scores.cases.case_columns`, of one split.
        ``seed`` may be empty for methods without one. Other score columns than ``dice`` may be
        absent; what depends on them is NaN.
    bootstrap : int, optional
        Resamples of the patients for the 95 % intervals (``_low``, ``_high``).
    seed : int, optional
        Of the draw, the same for every method.

    Returns
    -------
    DataFrame
        One row a method in the order of first appearance, with `SUMMARY_COLUMNS`:

        - ``masks_seen``: the most over the rows; ``seeds``: different seeds, 0 without any;
        - ``dice``, ``iou``, ``precision``, ``recall``, ``hd95``, ``msd``, ``missed``,
          ``no_overlap``, ``ap``, ``pointing``, ``energy``: means over images with a lesion;
        - ``dice_seed_sd``: standard deviation (n - 1) over seeds of the mean Dice on images with
          a lesion; NaN for fewer than two seeds;
        - ``dice_all``: mean over all images, under `weakseg.scores.overlap.EMPTY_RULE`;
        - ``dice_patient``: mean over patients with a lesion of the Dice of all images of a patient
          taken together, healthy ones included, as if they were one volume;
        - ``false_positive_rate``: share of images without a lesion whose mask is not empty;
        - ``flat``: share of all images with a flat heatmap;
        - ``gated_lesions``: share of images with a lesion whose mask the gate has emptied;
        - ``lesion_images``, ``healthy_images``, ``patients``: counts of different ones.

    Raises
    ------
    ValueError
        For missing columns or values, several splits, a case that stands twice under a method
        and seed, or one that has a lesion in one row and none in another.
    """
    _check(per_case)
    rows = [
        _method_row(str(method), group, bootstrap, seed)
        for method, group in per_case.groupby("method", sort=False)
    ]
    return pd.DataFrame(rows, columns=list(SUMMARY_COLUMNS))


def by_lesion_size(per_case: pd.DataFrame, method: str, bins: int = 3) -> pd.DataFrame:
    """Mean Dice of a method on small, middling and large lesions.

    Parameters
    ----------
    per_case : DataFrame
        As for `summarise`, with ``lesion_pixels``.
    method : str
        One of the table's methods.
    bins : int, optional
        Groups of about equal number, split at quantiles of the area. Lesions of equal area stay
        together; one on a quantile belongs to the lower group.

    Returns
    -------
    DataFrame
        One row a group, smallest lesions first: ``size`` (from 1), ``pixels_low`` and
        ``pixels_high`` (smallest and largest area in it), ``dice``, ``n`` (images). An empty
        group has ``n`` 0 and NaN.

    Raises
    ------
    ValueError
        For an unknown method, no bin, a table without ``lesion_pixels``, or as `summarise`.
    """
    _check(per_case)
    if bins < 1:
        raise ValueError(f"bins must be at least 1, got {bins}")
    if "lesion_pixels" not in per_case.columns:
        raise ValueError("per_case must have the column 'lesion_pixels'")
    methods = [str(m) for m in per_case["method"].unique()]
    if method not in methods:
        raise ValueError(f"method {method!r} is not in per_case; {did_you_mean(method, methods)}")
    cases = _case_means(per_case[per_case["method"].astype(str) == method])
    cases = cases[cases["has_lesion"] > 0]
    pixels = cases["lesion_pixels"]
    edges = np.quantile(pixels, np.arange(1, bins) / bins) if len(pixels) else []
    group = np.searchsorted(edges, pixels)
    rows: list[dict[str, Any]] = []
    for b in range(bins):
        of = cases[group == b]
        area = of["lesion_pixels"]
        rows.append(
            {
                "size": b + 1,
                "pixels_low": area.min(),
                "pixels_high": area.max(),
                "dice": of["dice"].mean(),
                "n": len(of),
            }
        )
    return pd.DataFrame(rows)


def patient_dice(rows: pd.DataFrame) -> pd.Series:
    """Dice of all images of a patient taken together, seeds averaged.

    Parameters
    ----------
    rows : DataFrame
        Of one method, with ``dice``, ``lesion_pixels`` and ``predicted_pixels``.

    Returns
    -------
    Series
        patient → Dice; patients without a lesion are left out, and so are images whose areas are
        not known.
    """
    if not {"lesion_pixels", "predicted_pixels"}.issubset(rows.columns):
        return pd.Series(dtype=float)
    area = rows[["lesion_pixels", "predicted_pixels"]].apply(_numbers).sum(axis=1, skipna=False)
    table = pd.DataFrame(
        {
            "patient": rows["patient"].astype(str),
            "seed": _seeds(rows),
            # Of a healthy image the Dice is 0, or there is no area.
            "overlap": _numbers(rows["dice"]) * area / 2,
            "area": area,
            "lesion": _numbers(rows["lesion_pixels"]),
        }
    )
    sums = table.groupby(["patient", "seed"], dropna=False).sum(min_count=1)
    sums = sums[sums["lesion"] > 0]
    return (2 * sums["overlap"] / sums["area"]).dropna().groupby("patient").mean()


def _method_row(method: str, rows: pd.DataFrame, bootstrap: int, seed: int) -> dict[str, Any]:
    cases = _case_means(rows)
    lesion = cases[cases["has_lesion"] > 0]
    healthy = cases[cases["has_lesion"] == 0]
    row: dict[str, Any] = {
        "method": method,
        "kind": rows["kind"].iloc[0],
        "masks_seen": int(_numbers(rows["masks_seen"]).max()),
        "seeds": int(_seeds(rows).nunique()),
        "dice_seed_sd": _seed_sd(rows),
        "flat": float(cases["flat"].mean()),
        "gated_lesions": float(lesion["gated"].mean()),
        "lesion_images": len(lesion),
        "healthy_images": len(healthy),
        "patients": int(cases["patient"].nunique()),
    }
    subsets = {"lesions": lesion, "healthy": healthy, "all": cases}

    def interval(values: Any, patients: Any) -> Interval:
        return cluster_mean_interval(values, patients, bootstrap=bootstrap, seed=seed)

    together = patient_dice(rows)
    row |= _with_ends("dice_patient", interval(together.to_numpy(), together.index.to_numpy()))
    averaged = [(m, m.summary, subsets[m.over]) for m in METRICS if m.summary]
    averaged.append((METRICS[0], "dice_all", cases))
    for metric, name, subset in averaged:
        values = subset[metric.column]
        if metric.interval:
            row |= _with_ends(name, interval(values.to_numpy(), subset["patient"].to_numpy()))
        else:
            row[name] = float(values.mean())
    return row


def _with_ends(name: str, mean: Interval) -> dict[str, float]:
    return {name: mean.value, f"{name}_low": mean.low, f"{name}_high": mean.high}


def _case_means(rows: pd.DataFrame) -> pd.DataFrame:
    """One row a case: its patient and the mean of each score over seeds."""
    table = pd.DataFrame(
        {name: _numbers(rows[name]) if name in rows else np.nan for name in _SCORES}
    )
    means = table.groupby(rows["case"]).mean()
    return means.assign(patient=rows.groupby("case")["patient"].first().astype(str))


def _seed_sd(rows: pd.DataFrame) -> float:
    """Spread over seeds of the mean Dice on images with a lesion; NaN for one seed or none."""
    with_lesion = _numbers(rows["has_lesion"]) > 0
    means = _numbers(rows["dice"])[with_lesion].groupby(_seeds(rows)[with_lesion]).mean()
    return float(means.std())


def _seeds(rows: pd.DataFrame) -> pd.Series:
    if "seed" not in rows:
        return pd.Series(np.nan, index=rows.index)
    return pd.to_numeric(rows["seed"])


def _numbers(column: pd.Series) -> pd.Series:
    """A column as floats: a CSV with gaps gives back booleans as objects."""
    return pd.to_numeric(column).astype(np.float64)


def _check(per_case: pd.DataFrame) -> None:
    check_argument(per_case, pd.DataFrame, "per_case", "a table of cases, as a pandas DataFrame")
    missing = [c for c in _REQUIRED if c not in per_case.columns]
    if missing:
        raise ValueError(
            f"per_case must have the columns {_listed(_REQUIRED)}, got none named "
            f"{_listed(missing)}"
        )
    for column in _REQUIRED:
        empty = int(per_case[column].isna().sum())
        if empty:
            raise ValueError(f"per_case must have {column!r} in every row, got {empty} without")
    if "split" in per_case.columns and per_case["split"].nunique() > 1:
        raise ValueError(
            "per_case must hold one split, since a mean over several means nothing, got "
            f"{_listed([str(s) for s in per_case['split'].unique()])}"
        )
    keys = per_case[["method", "case"]].assign(seed=_seeds(per_case))
    if keys.duplicated().any():
        method, case, seed = keys[keys.duplicated()].iloc[0]
        raise ValueError(
            f"per_case must hold a case once for each method and seed, got case {case!r} twice "
            f"under method {method!r}, seed {seed}"
        )
    for column in ("has_lesion", "patient"):
        several = per_case.groupby("case")[column].nunique() > 1
        if several.any():
            raise ValueError(
                f"per_case must give a case one {column!r}, got several for "
                f"{_listed([str(c) for c in several.index[several][:3]])}"
            )


def _listed(names: Sequence[str]) -> str:
    return ", ".join(repr(n) for n in names)
