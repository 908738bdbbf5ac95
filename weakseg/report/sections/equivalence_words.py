"""How many masks a heatmap is worth: the table and its sentences."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from weakseg.report import words
from weakseg.report.tables import group_of
from weakseg.report.words import Spoken
from weakseg.scores import Interval, curve_at, mask_equivalence, weak_to_full_ratio
from weakseg.scores.equivalence import CurvePoint, Equivalence

FEW_DRAWS = 5
AT_MASKS = {
    "below": "seen_below",
    "above": "seen_above",
    "dice": "seen_dice",
    "dice_low": "seen_dice_low",
    "dice_high": "seen_dice_high",
    "difference": "seen_difference",
    "difference_low": "seen_difference_low",
    "difference_high": "seen_difference_high",
}
"""Field of `weakseg.scores.CurvePoint` at the masks that a method saw → its column."""
EQUIVALENCE_COLUMNS = (
    "method", "kind", "group", "masks_seen", *Equivalence._fields[1:],
    "ratio", "ratio_low", "ratio_high", *AT_MASKS.values(),
)  # fmt: skip


def equivalence_table(
    per_case: pd.DataFrame,
    curve_cases: pd.DataFrame,
    methods: Sequence[str],
    *,
    reference: str | None = None,
    bootstrap: int = 2000,
    seed: int = 0,
) -> pd.DataFrame:
    """What each method is worth in masks, and how near it comes to full supervision.

    Parameters
    ----------
    per_case : DataFrame
        As ``scores/per_case.csv``.
    curve_cases : DataFrame
        As for `weakseg.scores.mask_curve`.
    methods : sequence of str
        Of ``per_case``, in the order that the table shall have.
    reference : str, optional
        The fully supervised method of ``per_case``; without it the ratios are NaN.
    bootstrap, seed : int, optional
        The same test patients and draws are drawn for every method.

    Returns
    -------
    DataFrame
        `EQUIVALENCE_COLUMNS`, one row a method: ``kind`` and ``masks_seen`` of ``per_case``;
        ``group``, "no-masks", "masks" (masks had a part in it) or "oracle" (an upper
        bound, never a result); the fields of `weakseg.scores.Equivalence`; ``ratio``,
        `weakseg.scores.weak_to_full_ratio` with its interval; and for the group "masks", under
        ``seen_...``, `weakseg.scores.curve_at` the number of masks that the method saw (NaN, and
        False, for the others).

    Raises
    ------
    ValueError
        As `weakseg.scores.mask_equivalence`.
    """
    draw = {"bootstrap": bootstrap, "seed": seed}
    rows = []
    for method in methods:
        worth = mask_equivalence(per_case, method, curve_cases, **draw)
        of = per_case[per_case["method"].astype(str) == method]
        kind, seen = str(of["kind"].iloc[0]), int(of["masks_seen"].max())
        group = group_of(kind, seen)
        ratio = Interval(np.nan, np.nan, np.nan, 0, 0)
        if reference is not None:
            ratio = weak_to_full_ratio(per_case, method, reference, **draw)
        point: CurvePoint | None = None
        if group == "masks":
            point = curve_at(per_case, method, curve_cases, seen, **draw)
        row: dict[str, Any] = {"kind": kind, "group": group, "masks_seen": seen}
        row |= worth._asdict()
        row |= {"ratio": ratio.value, "ratio_low": ratio.low, "ratio_high": ratio.high}
        row |= {column: _field(point, field) for field, column in AT_MASKS.items()}
        rows.append(row)
    return pd.DataFrame(rows, columns=list(EQUIVALENCE_COLUMNS))


def _field(point: CurvePoint | None, name: str) -> float | bool:
    if point is None:
        return False if name in ("below", "above") else float("nan")
    return getattr(point, name)


def equivalence_sentences(
    table: pd.DataFrame, network: str, *, reference: str | None = None, spoken: Spoken = str
) -> list[str]:
    """What the table says: for each method its worth in masks, then the ratio; then cautions.

    Parameters
    ----------
    table : DataFrame
        As `equivalence_table`.
    network : str
        The network whose curve it is.
    reference : str, optional
        The fully supervised method that the ratios are to; default: ``network``.
    spoken : callable, optional
        Name of a method → how people say it.
    """
    rows = table.to_dict(orient="records")
    of_methods = [method_sentences(r, network, reference=reference, spoken=spoken) for r in rows]
    return [*(s for said in of_methods for s in said), *cautions(table, network, spoken=spoken)]


def method_sentences(
    row: Mapping[Any, Any], network: str, *, reference: str | None = None, spoken: Spoken = str
) -> list[str]:
    """What a row of `equivalence_table` says of its method; see `equivalence_sentences`."""
    name = spoken(row["method"])
    said = [_worth(name, row, spoken(network)), *better_spent(row, network, spoken=spoken)]
    if not pd.isna(row["ratio"]):
        ratio = Interval(row["ratio"], row["ratio_low"], row["ratio_high"], 0, 0)
        said.append(ratio_sentence(name, spoken(reference or network), ratio))
    return said


def better_spent(row: Mapping[Any, Any], network: str, *, spoken: Spoken = str) -> list[str]:
    """Whether the masks that a method saw had better trained the network; of others none."""
    saw = row["group"] == "masks"
    return [_better_spent(spoken(row["method"]), row, spoken(network))] if saw else []


def cautions(table: pd.DataFrame, network: str, *, spoken: Spoken = str) -> list[str]:
    """What to keep in mind of the curve and its intervals."""
    return _caution(table.iloc[0], spoken(network)) if len(table) else []


def ratio_sentence(name: str, reference: str, ratio: Interval) -> str:
    """How near a method comes to full supervision."""
    ends = words.interval(100 * ratio.low, 100 * ratio.high, 0)
    share = f"{words.percent(ratio.value)} {ends}".strip()
    said = words.opening(name)
    return f"{said} reaches {share} of the Dice of the fully supervised {reference}."


def _worth(name: str, row: Mapping[Any, Any], network: str) -> str:
    subject = words.opening(name)
    if row["group"] == "oracle":
        subject = f"{subject}, an upper bound whose threshold was chosen on the test masks,"
    fewest = _masks_of(row["fewest"], row["fewest_patients"])
    most = _masks_of(row["most"], row["most_patients"])
    low, high = (_end(row, end) for end in ("low", "high"))
    patients = int(row["test_patients"])
    few = words.few_patients(patients)
    if row["below"]:
        least = words.count(round(row["fewest"]), "mask")
        claim = (
            f"{subject} is worth fewer than {least}, the fewest tried: {network} trained on "
            f"{fewest} reaches a higher Dice on these test images"
        )
        if few:
            return f"{claim}, as far as can be told: {words.too_few(patients)}."
        if row["high_below"]:
            return f"{claim}."
        return f"{claim}, though the interval reaches up to {high} masks."
    if row["above"]:
        if row["low_above"] and not few:
            return f"{subject} beats {network} trained on {most}, the most tried."
        why = words.too_few(patients) if few else f"the interval begins at {low} masks"
        return (
            f"{subject} scores higher than {network} trained on {most}, the most tried; that it "
            f"is better is not shown, for {why}."
        )
    if row["low_below"] and row["high_above"]:
        return (
            f"What {name}{subject[len(name) :]} is worth in masks cannot be told: {network} reaches the same Dice "
            f"with {_masks_of(row['masks'], row['patients'])}, but the interval is "
            f"[{low}, {high}]."
        )
    ends = f" [{low}, {high}]" if low else ""
    return (
        f"{subject} is worth {words.count(round(row['masks']), 'mask')}{ends} of "
        f"{words.count(round(row['patients']), 'patient')}: {network} trained on that many masks "
        "reaches the same Dice on these test images."
    )


def _better_spent(name: str, row: Mapping[Any, Any], network: str) -> str:
    """Whether the masks that a method saw had better trained the network."""
    seen = words.count(int(row["masks_seen"]), "mask")
    saw = f"{words.opening(name)} saw {seen}"
    reached = words.with_interval(row["seen_dice"], row["seen_dice_low"], row["seen_dice_high"])
    by = words.signed(row["seen_difference"])
    ends = words.interval(row["seen_difference_low"], row["seen_difference_high"])
    by = f"{by} {ends}".strip()
    say = words.side_of_zero(
        row["seen_difference_low"], row["seen_difference_high"], int(row["test_patients"])
    )
    # The curve rises, so that outside of what was tried it bounds what is not known.
    if row["seen_below"]:
        with_fewest = _masks_of(row["fewest"], row["fewest_patients"])
        start = f"{saw}, fewer than {network} was tried with; with {with_fewest}"
        if say == "above":
            return f"{start} it reaches {reached}, and {name} is better all the same: {by}."
        return (
            f"{start} it reaches {reached}. Whether it would be better with {seen} cannot be told."
        )
    if row["seen_above"]:
        start = (
            f"{saw}, more than {network} was tried with; "
            f"with {_masks_of(row['most'], row['most_patients'])}"
        )
        if say == "below":
            return f"{start} it reaches {reached}, and {name} is already worse: {by}."
        return (
            f"{start} it reaches {reached}. Whether it would be better with {seen} cannot be told."
        )
    start = f"{saw}; {network} trained on that many masks reaches {reached}"
    if say == "unclear":
        return f"{start}. Which of the two is better cannot be told: the difference is {by}."
    comparison = "better" if say == "above" else "worse"
    return f"{start}. {words.opening(name)} is {comparison}: the difference is {by}."


def _caution(row: pd.Series, network: str) -> list[str]:
    said = []
    if row["test_patients"] < 2:
        said.append("There are no intervals: the test lesions are of a single patient.")
    elif words.few_patients(int(row["test_patients"])):
        said.append(
            f"{words.opening(words.too_few(int(row['test_patients'])))}: no interval of so "
            "few can be trusted."
        )
    draws = int(row["draws"])
    if draws == 1:
        said.append(
            f"The curve of {network} is of a single choice of training patients: how much "
            "another choice would change is not known, and not in the intervals."
        )
    elif draws < FEW_DRAWS:
        said.append(
            f"The curve of {network} is the mean of {draws} choices of training patients: too "
            "few to show how much the choice matters, so that the intervals are too narrow."
        )
    return said


def _masks_of(masks: float, patients: float) -> str:
    many = words.count(round(masks), "mask")
    return f"{many} of {words.count(round(patients), 'patient')}"


def _end(row: Mapping[Any, Any], end: str) -> str:
    """An end of the interval in masks; empty where there is none."""
    if row[f"{end}_below"]:
        return f"fewer than {round(row['fewest'])}"
    if row[f"{end}_above"]:
        return f"more than {round(row['most'])}"
    value = row[f"masks_{end}"]
    return "" if pd.isna(value) else str(round(value))
