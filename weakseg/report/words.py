"""Sentences that follow from the numbers: what is said depends on intervals, never on taste."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import pandas as pd

from weakseg.errors import count as count
from weakseg.layout import MASKS, SEGMENT_STAGE
from weakseg.masks.rules import RULE_NAMES
from weakseg.scores import Interval
from weakseg.settings import LEAST_PATIENTS

Spoken = Callable[[str], str]
"""Name of a method or floor → how people say it, see `weakseg.methods.spoken`."""

FEW_PATIENTS = 10
NONE = "–"

DATA_CHANGED = (
    "The manifest, or an image or mask that it names, has changed since this run was made: the "
    "pictures here are of the files as they are now, the figures of those before. Make the run "
    "again with `weakseg compare`."
)


def number(value: Any, digits: int = 3) -> str:
    """A number for reading; a dash for None and NaN."""
    if _missing(value):
        return NONE
    text = f"{float(value):.{digits}f}"
    return text.replace("-", "−") if float(text) else f"{0:.{digits}f}"


def signed(value: Any, digits: int = 3) -> str:
    """A difference with its sign."""
    text = number(value, digits)
    return text if text[0] in "−–" or not float(text) else f"+{text}"


def percent(value: Any) -> str:
    """A share as a percentage: one decimal below ten, none above."""
    if _missing(value):
        return NONE
    share = 100 * float(value)
    digits = 1 if 0 < share < 10 or 99 < share < 100 else 0
    return f"{share:.{digits}f}\N{NO-BREAK SPACE}%"


def interval(low: Any, high: Any, digits: int = 3) -> str:
    """The ends of an interval in brackets; nothing where there is none."""
    if _missing(low) or _missing(high):
        return ""
    return f"[{number(low, digits)}, {number(high, digits)}]"


def masks_told(row: Mapping[Any, Any]) -> str:
    """How many masks a method saw, of its ``masks_seen`` and ``kind``; nothing of a floor.

    Of methods that stand on masks seen elsewhere that is said, for nobody counts those.
    """
    if row["kind"] == "floor":
        return ""
    return str(int(row["masks_seen"])) + (" + elsewhere" if row["kind"] == "foundation" else "")


def with_interval(value: Any, low: Any, high: Any, digits: int = 3) -> str:
    """A number and, where it has one, its interval."""
    return f"{number(value, digits)} {interval(low, high, digits)}".strip()


def opening(name: str) -> str:
    """A name as a sentence begins with it; one of a single word is as files have it."""
    return name[:1].upper() + name[1:] if " " in name else name


def side_of_zero(
    low: Any, high: Any, patients: int | None = None
) -> Literal["above", "below", "unclear"]:
    """What the interval of a difference says: whether 0 lies below, above or within it.

    An end at 0 counts as within, and so does an interval that does not exist, or that rests on
    fewer than `LEAST_PATIENTS` patients: of two patients both differ to one side by chance in
    every second set, and the interval that is drawn from them never holds 0 then.
    """
    if _missing(low) or _missing(high) or few_patients(patients):
        return "unclear"
    if low > 0:
        return "above"
    return "below" if high < 0 else "unclear"


def few_patients(patients: int | None) -> bool:
    """Whether intervals rest on too few patients for a claim; False where nobody counted."""
    return patients is not None and patients < LEAST_PATIENTS


def too_few(patients: int) -> str:
    """Why so few patients tell nothing, as the end of a sentence that says so."""
    if patients == 1:
        return "the test lesions are of a single patient"
    return f"the test lesions are of {count(patients, 'patient')}, fewer than {LEAST_PATIENTS}"


def answer(
    methods: pd.DataFrame,
    method: str | None,
    classifier: Mapping[str, Any] | None,
    worth: Sequence[str] = (),
    averaged: Sequence[int] = (),
    *,
    spoken: Spoken = str,
) -> list[str]:
    """The result of a run in a few sentences.

    Parameters
    ----------
    methods : DataFrame
        As `weakseg.report.tables.method_table`.
    method : str or None
        The row that is spoken of.
    classifier : mapping or None
        ``value``, ``low``, ``high`` of the test AUC, and ``seeds``.
    worth : sequence of str, optional
        What the method is worth beside a supervised network.
    averaged : sequence of int, optional
        Seeds of the networks whose mean the method is.
    spoken : callable, optional
        Name of a method or floor → how people say it.
    """
    if method is None:
        return [
            "Nothing could be scored: no test image with a lesion has a mask. "
            "Heatmaps and masks were made, but how good they are is not known.",
            *_auc(classifier),
        ]
    row = _row(methods, method)
    return [
        _reached(spoken(method), row, averaged),
        *worth,
        *_against_floor(row, spoken),
        *_auc(classifier),
        _errors(row),
    ]


def mean_of_networks(seeds: Sequence[int]) -> str:
    """The networks whose mean a method is, in words."""
    return f"the mean of {len(seeds)} networks (seeds {', '.join(map(str, seeds))})"


def _reached(method: str, row: pd.Series, averaged: Sequence[int]) -> str:
    seen = int(row["masks_seen"])
    start = "Without seeing a mask" if seen == 0 else f"After seeing {count(seen, 'mask')}"
    start += " of this set, but with masks seen elsewhere" if row["group"] == "foundation" else ""
    seeds = int(row["seeds"])
    over = f", as the mean of {seeds} seeds" if seeds > 1 else ""
    over = f", by {mean_of_networks(averaged)}" if averaged else over
    return (
        f"{start}, {method} reaches a Dice of "
        f"{with_interval(row['dice'], row['dice_low'], row['dice_high'])} on "
        f"{count(int(row['lesion_images']), 'test image')} with a lesion{over}."
    )


def _against_floor(row: pd.Series, spoken: Spoken) -> list[str]:
    if not row["floor"] and row["group"] == "supervised":
        return []
    if not row["floor"]:
        return ["No trivial floor was scored, so it is not known whether that is worth anything."]
    lead, floor = row["difference"], f"marking {spoken(row['floor'])}"
    ends = interval(row["difference_low"], row["difference_high"])
    by = f"{signed(lead)} {ends}".strip()
    patients = int(row["difference_patients"])
    say = side_of_zero(row["difference_low"], row["difference_high"], patients)
    if say == "above":
        return [f"That is above the best trivial floor, {floor}: the difference is {by}."]
    if say == "below":
        return [
            f"That is below the best trivial floor, {floor} (difference {by}): as a "
            "segmentation it is worth nothing, since a mask that never looks for a lesion does "
            "better."
        ]
    why = f" {opening(too_few(patients))}." if few_patients(patients) else ""
    return [
        f"Whether that beats the best trivial floor, {floor}, cannot be told: the "
        f"difference is {by}.{why}"
    ]


def _auc(classifier: Mapping[str, Any] | None) -> list[str]:
    if classifier is None or _missing(classifier.get("value")):
        return []
    value, low, high = (classifier.get(k) for k in ("value", "low", "high"))
    said = (
        f"The classifier tells images with a lesion from healthy ones with an AUC of "
        f"{with_interval(value, low, high)}"
    )
    # The interval of an AUC is a verdict on its distance to 0.5, which is chance.
    say = side_of_zero(*(None if e is None or _missing(e) else e - 0.5 for e in (low, high)))
    if say == "below":
        return [f"{said}: worse than chance, so its heatmaps mean nothing."]
    if say == "unclear":
        return [f"{said}; that it does better than chance is not shown."]
    return [f"{said}."]


def _errors(row: pd.Series) -> str:
    missed = f"it leaves {percent(row['missed'])} of the images with a lesion without any mask"
    if _missing(row["false_positive_rate"]):
        return f"No healthy image was tested; {missed}."
    ends = ""
    if not _missing(row["false_positive_rate_low"]):
        low, high = (
            percent(row["false_positive_rate_low"]),
            percent(row["false_positive_rate_high"]),
        )
        ends = f" [{low}, {high}]"
    return (
        f"The method marks something on {percent(row['false_positive_rate'])}{ends} of the "
        f"{count(int(row['healthy_images']), 'healthy image')}, and {missed}."
    )


def choice_note(
    methods: pd.DataFrame, method: str | None, wanted: bool = False, *, spoken: Spoken = str
) -> str | None:
    """Why this method is spoken of, where another of its kind scored higher."""
    if method is None:
        return None
    row = _row(methods, method)
    rivals = methods[methods["group"] == row["group"]].dropna(subset=["dice"])
    best = rivals.loc[rivals["dice"].idxmax()]
    if best["method"] == method:
        return None
    why = "the experiment asks for it" if wanted else "it stands first in the experiment file"
    reached = with_interval(best["dice"], best["dice_low"], best["dice_high"])
    return (
        f"{opening(spoken(method))} is spoken of because {why}. On these test "
        f"images {spoken(best['method'])} scored higher ({reached}); to say so took the test "
        "masks, so take that as a hint for the next experiment."
    )


def lead(one: str, other: str, difference: Interval) -> str:
    """Whether one of two is better, by the interval of their paired difference in Dice."""
    by = f"{signed(difference.value)} {interval(difference.low, difference.high)}".strip()
    say = side_of_zero(difference.low, difference.high, difference.patients)
    if say == "unclear":
        return f"Whether {one} is better than {other} cannot be told: the difference is {by}."
    comparison = "better" if say == "above" else "worse"
    return f"{one} is {comparison} than {other}: the difference is {by}."


def warnings(
    methods: pd.DataFrame,
    method: str | None,
    stages: Mapping[str, Mapping[str, Any]],
    epochs: int,
) -> list[str]:
    """What a reader should know before trusting the numbers."""
    out = []
    if method is not None:
        row = _row(methods, method)
        if row["gated_lesions"] > 0:
            out.append(
                f"The gate on the classifier's probability emptied the masks of "
                f"{percent(row['gated_lesions'])} of the test images with a lesion."
            )
        patients = int(row["patients"])
        if patients < FEW_PATIENTS:
            few = "intervals from so few are rough, and mostly too narrow"
            out.append(
                f"The test images come from {count(patients, 'patient')}: "
                f"{few if patients > 1 else 'there are no intervals'}."
            )
    flat = {n: s for n, s in stages.items() if n.startswith("heatmaps/") and s.get("flat")}
    for name, stage in flat.items():
        out.append(
            f"{stage['flat']} of {stage.get('images', '?')} heatmaps of "
            f"{name.removeprefix('heatmaps/')} are flat: nothing in the image speaks for a lesion. "
            "Their masks are empty."
        )
    last = [n for n, s in stages.items() if n.startswith("classifier/")]
    last = [n for n in last if epochs > 1 and stages[n].get("best_epoch") == epochs]
    if last:
        out.append(
            f"The best epoch was the last ({epochs}) for {_listed(last)}: "
            "longer training might do better."
        )
    of_masks = (s for n, s in stages.items() if n == SEGMENT_STAGE or n.startswith(MASKS))
    for what, why in (pair for s in of_masks for pair in s.get("left_out", {}).items()):
        # Earlier versions named the rule alone, of whatever heatmap it was.
        kind = "threshold rule" if what in RULE_NAMES else "method"
        out.append(f"The {kind} {what} was left out: {why}.")
    return out


def _row(methods: pd.DataFrame, method: str) -> pd.Series:
    return methods[methods["method"] == method].iloc[0]


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names)


def _missing(value: Any) -> bool:
    return value is None or bool(pd.isna(value))
