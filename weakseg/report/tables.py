"""The report's tables: data frames in, data frames out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from weakseg.report.read import RunTables
from weakseg.scores import Interval, by_lesion_size, cluster_mean_interval

GROUPS = {
    "no-masks": "Methods that saw no masks",
    "masks": "Methods that saw some masks, to choose a threshold or to be trained on",
    "foundation": "Methods that stand on masks seen elsewhere, those of other sets",
    "supervised": "Fully supervised networks: trained on masks",
    "floor": "Trivial floors: the same mask for every image, or a part told by its greys alone",
    "oracle": "Upper bounds: chosen on the test masks themselves, never results",
}
"""Group of methods → its heading, in the order of the table."""
DIFFERENCE_COLUMNS = (
    "floor", "difference", "difference_low", "difference_high", "difference_patients",
)  # fmt: skip
CLASSIFIER_COLUMNS = ("split", "score", "seed", "value", "low", "high", "seed_sd")
SIZE_COLUMNS = ("method", "size", "pixels_low", "pixels_high", "dice", "n")
SPREAD_COLUMNS = ("method", "q05", "q25", "median", "q75", "q95")
THRESHOLD_COLUMNS = (
    "method", "seed", "threshold", "scale", "chosen_on", "masks_seen", "gate", "upper_bound",
)  # fmt: skip
SPLIT_COLUMNS = ("split", "images", "patients", "masks")


def paired_difference(
    per_case: pd.DataFrame, method: str, other: str, *, bootstrap: int = 2000, seed: int = 0
) -> Interval:
    """How much higher the Dice of a method is, case by case, on images with a lesion.

    Parameters
    ----------
    per_case : DataFrame
        As ``scores/per_case.csv``.
    method, other : str
        Two of its methods. Their seeds are averaged within a case first.
    bootstrap, seed : int, optional
        See `weakseg.scores.cluster_mean_interval`.

    Returns
    -------
    Interval
        Mean of method - other with a 95 % interval over patients. Both are scored on the same
        images, so that what makes an image hard for both cancels out: the interval is mostly
        narrower than two separate ones suggest.
    """
    pairs = pd.concat({"a": _case_dice(per_case, method), "b": _case_dice(per_case, other)}, axis=1)
    pairs = pairs.dropna()
    patient = per_case.groupby("case")["patient"].first().astype(str).reindex(pairs.index)
    return cluster_mean_interval(
        (pairs["a"] - pairs["b"]).to_numpy(), patient.to_numpy(), bootstrap=bootstrap, seed=seed
    )


def method_table(
    summary: pd.DataFrame, per_case: pd.DataFrame, *, bootstrap: int = 2000, seed: int = 0
) -> pd.DataFrame:
    """The summary in the order of the report, with each method's lead over the best floor.

    Returns
    -------
    DataFrame
        The columns of ``summary``, ``group`` (one of `GROUPS`), and `DIFFERENCE_COLUMNS`: the
        floor of the highest Dice, and the `paired_difference` to it with the patients that it rests
        on; empty, NaN and 0 where there is no floor, and for that floor itself. The interval of
        ``false_positive_rate`` is that of `alarm_interval`. Groups in the order of `GROUPS`, each
        by falling Dice.
    """
    if summary.empty:
        return pd.DataFrame(columns=[*summary.columns, "group", *DIFFERENCE_COLUMNS])
    groups = [group_of(k, m) for k, m in zip(summary["kind"], summary["masks_seen"], strict=True)]
    summary = with_alarm_intervals(summary, per_case)
    floor = best_floor(summary)
    rows = []
    for method in summary["method"]:
        if floor is None or method == floor:
            rows.append((floor or "", np.nan, np.nan, np.nan, 0))
            continue
        lead = paired_difference(per_case, method, floor, bootstrap=bootstrap, seed=seed)
        rows.append((floor, lead.value, lead.low, lead.high, lead.patients))
    lead_columns = pd.DataFrame(rows, columns=list(DIFFERENCE_COLUMNS), index=summary.index)
    table = pd.concat([summary.assign(group=groups), lead_columns], axis=1)
    order = table["group"].map(list(GROUPS).index)
    table = table.assign(_order=order).sort_values(
        ["_order", "dice"], ascending=[True, False], kind="stable", na_position="last"
    )
    return table.drop(columns="_order").reset_index(drop=True)


def alarm_interval(share: float, low: float, high: float, patients: int) -> tuple[float, float]:
    """The 95 % interval of a share of healthy images that get a mark.

    Parameters
    ----------
    share : float
    low, high : float
        Of the bootstrap over patients.
    patients : int
        How many the healthy images are of. Those of one resemble each other: they count as one.

    Returns
    -------
    low, high : float
        Where no image gets a mark, or every one does, each draw of patients is like that, however
        few they are: the exact binomial interval (Clopper and Pearson, Biometrika 26, 1934) of
        none, or all, of so many patients stands in. NaN where there is no interval, as of a single
        patient.
    """
    if pd.isna(share) or pd.isna(low) or pd.isna(high) or patients < 1 or 0 < share < 1:
        return low, high
    tail = 0.025 ** (1 / patients)
    return (0.0, 1 - tail) if share == 0 else (tail, 1.0)


def with_alarm_intervals(summary: pd.DataFrame, per_case: pd.DataFrame) -> pd.DataFrame:
    """``summary.csv`` with the `alarm_interval` of each method's share of healthy images marked."""
    name = "false_positive_rate"
    columns = [name, f"{name}_low", f"{name}_high"]
    if not set(columns) <= set(summary.columns):
        return summary
    healthy = per_case[~per_case["has_lesion"].astype(bool)]
    of = healthy.groupby(healthy["method"].astype(str))["patient"].nunique()
    counts = [int(of.get(str(m), 0)) for m in summary["method"]]
    rates = zip(*(summary[c] for c in columns), counts, strict=True)
    ends = [alarm_interval(*row) for row in rates]
    low, high = zip(*ends, strict=True)
    return summary.assign(**{columns[1]: low, columns[2]: high})


def group_of(kind: str, masks_seen: int) -> str:
    """The group of `GROUPS` that a kind of ``per_case.csv`` belongs to."""
    if kind in ("floor", "oracle", "supervised", "foundation"):
        return kind
    return "masks" if masks_seen > 0 else "no-masks"


def best_floor(summary: pd.DataFrame) -> str | None:
    """The trivial floor of the highest Dice, or None where floors were not scored."""
    return _best(summary[summary["kind"] == "floor"]) if len(summary) else None


def reference_of(run: RunTables) -> str | None:
    """The network that stands for full supervision: the first of the experiment that was scored."""
    scored = set(run.per_case["method"]) if len(run.per_case) else set()
    supervised = [n for n, s in run.config.segmenters.items() if not s.weak]
    return next((n for n in supervised if n in scored), None)


def headline(methods: pd.DataFrame, order: Sequence[str], wanted: str | None = None) -> str | None:
    """The method that the report speaks of first, chosen without looking at its score.

    Parameters
    ----------
    methods : DataFrame
        As `method_table`.
    order : sequence of str
        The methods in the order of the experiment file.
    wanted : str, optional
        The one that the experiment asks for.

    Returns
    -------
    str or None
        ``wanted``, where it was scored and is no upper bound. Else the first method that saw no
        masks; without such a method, the first whose threshold saw some; then the first that
        stands on masks seen elsewhere; then the first supervised network; None where there is none
        of them. `weakseg predict` takes the same one by default, but asks for a name where every
        heatmap method saw masks.
    """
    scored = methods.dropna(subset=["dice"]) if len(methods) else methods
    if len(scored) and wanted in set(scored.loc[scored["group"] != "oracle", "method"]):
        return wanted
    for group in ("no-masks", "masks", "foundation", "supervised"):
        members = set(scored.loc[scored["group"] == group, "method"]) if len(scored) else set()
        first = next((m for m in order if m in members), None)
        if first is not None:
            return first
    return None


def _best(rows: pd.DataFrame) -> str | None:
    scored = rows.dropna(subset=["dice"])
    return str(scored["method"].iloc[scored["dice"].argmax()]) if len(scored) else None


def _case_dice(per_case: pd.DataFrame, method: str) -> pd.Series:
    rows = per_case[(per_case["method"] == method) & per_case["has_lesion"].astype(bool)]
    return rows.groupby("case")["dice"].mean()


def size_table(per_case: pd.DataFrame, methods: Sequence[str]) -> pd.DataFrame:
    """`weakseg.scores.by_lesion_size` of several methods, one below the other."""
    parts = [by_lesion_size(per_case, m).assign(method=m) for m in methods]
    if not parts:
        return pd.DataFrame(columns=list(SIZE_COLUMNS))
    return pd.concat(parts, ignore_index=True)[list(SIZE_COLUMNS)]


def spread_table(per_case: pd.DataFrame, methods: Sequence[str]) -> pd.DataFrame:
    """Quantiles of each method's Dice over the cases with a lesion, seeds averaged."""
    rows = []
    for method in methods:
        dice = _case_dice(per_case, method).dropna().to_numpy()
        if dice.size:
            rows.append((method, *np.quantile(dice, [0.05, 0.25, 0.5, 0.75, 0.95])))
    return pd.DataFrame(rows, columns=list(SPREAD_COLUMNS))


def classifier_table(scores: Mapping[int, Mapping[str, Any]]) -> pd.DataFrame:
    """Every seed's classification scores, and their mean.

    Parameters
    ----------
    scores : mapping
        seed → the content of ``scores.json``.

    Returns
    -------
    DataFrame
        `CLASSIFIER_COLUMNS`; ``seed`` is "mean" or a number as text. The ends of the mean's
        interval are the means of the seeds' ends: a little too wide, since seeds' errors differ.
        ``seed_sd`` is NaN but for means over two seeds or more.
    """
    rows = []
    for seed, splits in scores.items():
        for split, values in splits.items():
            for name, v in values.items():
                ends = [np.nan if v.get(k) is None else v[k] for k in ("value", "low", "high")]
                rows.append((split, name, str(seed), *ends, np.nan))
    each = pd.DataFrame(rows, columns=list(CLASSIFIER_COLUMNS))
    if each.empty:
        return each
    by_score = each.groupby(["split", "score"], sort=False)
    mean = by_score[["value", "low", "high"]].mean().assign(seed="mean")
    mean["seed_sd"] = by_score["value"].std(ddof=1)
    columns = list(CLASSIFIER_COLUMNS)
    return pd.concat([mean.reset_index()[columns], each], ignore_index=True)


def confusion_table(
    predictions: Sequence[pd.DataFrame], labels: Sequence[str], split: str
) -> pd.DataFrame:
    """True labels down, predicted labels across; counts, averaged over the seeds."""
    counts = pd.DataFrame(0.0, index=list(labels), columns=list(labels))
    for table in predictions:
        chosen = table[table["split"] == split]
        crossed = pd.crosstab(chosen["label"], chosen["predicted"])
        counts += crossed.reindex(index=list(labels), columns=list(labels), fill_value=0) / len(
            predictions
        )
    return counts


def threshold_table(thresholds: Mapping[str, Mapping[str, Any]]) -> pd.DataFrame:
    """What each method's threshold is for each seed, and what it was chosen on."""
    rows = [
        {"method": method, "seed": _seed_words(seed.removeprefix("seed-"), entry), **entry}
        for method, entries in thresholds.items()
        for seed, entry in entries.items()
    ]
    return pd.DataFrame(rows, columns=list(THRESHOLD_COLUMNS))


def _seed_words(seed: str, entry: Mapping[str, Any]) -> str:
    """A seed, or those whose networks were averaged."""
    together = entry.get("networks", [])
    return f"mean of {', '.join(map(str, together))}" if len(together) > 1 else seed


def split_table(data: Mapping[str, Any]) -> pd.DataFrame:
    """Images, patients, masks and labels of each split."""
    splits = data.get("splits", [])
    labels = [*data.get("healthy_labels", []), *data.get("lesion_labels", [])]
    rows = [
        {c: s.get(c) for c in SPLIT_COLUMNS}
        | {f"label {name}": s.get("labels", {}).get(name, 0) for name in labels}
        for s in splits
    ]
    return pd.DataFrame(rows, columns=[*SPLIT_COLUMNS, *(f"label {name}" for name in labels)])


def stage_table(stages: Mapping[str, Mapping[str, Any]]) -> pd.DataFrame:
    """How long each stage took, and on what."""
    columns = [
        *("stage", "seconds", "ended", "device", "precision", "best_epoch", "epochs", "flat"),
        "images",
    ]
    rows = [
        {"stage": name, "best_epoch": entry.get("kept_epoch"), **entry}
        for name, entry in stages.items()
    ]
    return pd.DataFrame(rows, columns=columns)


def comparable(
    fingerprints: Sequence[str], splits: Sequence[pd.DataFrame]
) -> tuple[bool, str | None]:
    """Whether runs were scored on the same test images, and if not, why not."""
    if len(set(fingerprints)) > 1:
        return False, "their data differ"
    tests = {_members(s[s["split"] == "test"]) for s in splits}
    if len(tests) > 1:
        return False, "their test splits differ"
    if len({_members(s) for s in splits}) > 1:
        return True, "their test images are the same, but training or validation images differ"
    return True, None


def _members(splits: pd.DataFrame) -> frozenset[tuple[str, str]]:
    return frozenset(zip(splits["case"], splits["split"], strict=True))
