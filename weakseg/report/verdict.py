"""The verdict on a run in one sentence, and a light that follows stated rules on intervals."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import pandas as pd

from weakseg.report import words
from weakseg.settings import LEAST_PATIENTS

Light = Literal["worth using", "better than nothing", "worth nothing", "not shown"]

GOOD_DICE = 0.5
"""A Dice of 0.5: what mask and truth share is half of their mean size."""
FAILS = "the run fails"
MOST_ALARMS = 0.25
"""Share of the healthy images on which a method that is worth using marks something, at most."""

RULES: dict[Light, str] = {
    "worth nothing": "The whole 95 % interval of the method's lead in Dice over the best trivial "
    "floor lies below 0; or, for a method that lives off a classifier, the whole interval of the "
    f"classifier's AUC lies below 0.5. The test lesions are of {LEAST_PATIENTS} patients or "
    "more.",
    "not shown": "The interval of the lead holds 0, or there is none: nothing was scored, or no "
    f"floor; or the test lesions are of fewer than {LEAST_PATIENTS} patients, of which no "
    "interval can be trusted; or a check of how the run was kept honest fails.",
    "better than nothing": "The whole interval of the lead lies above 0, and a condition of "
    '"worth using" does not hold.',
    "worth using": "The whole interval of the lead lies above 0, and every condition below holds.",
}
"""Light → when it stands, the first that fits."""


class Condition(NamedTuple):
    """What "worth using" asks for besides a lead.

    Attributes
    ----------
    rule : str
    found : str
        What the run has.
    holds : bool
    but : str
        What follows "but" in the sentence where it does not hold.
    """

    rule: str
    found: str
    holds: bool
    but: str


@dataclass(frozen=True)
class Verdict:
    """What a run has come to.

    Attributes
    ----------
    light : str
        A key of `RULES`.
    sentence : str
        For people: the method by its spoken name.
    conditions : tuple of Condition
        Of "worth using", whichever the light is; empty where nothing was scored.
    """

    light: Light
    sentence: str
    conditions: tuple[Condition, ...] = ()


def judge(
    methods: pd.DataFrame,
    method: str | None,
    spoken: Callable[[str], str],
    auc: Mapping[str, Any] | None = None,
    depends: str | None = None,
    failed: Sequence[str] | None = None,
) -> Verdict:
    """The verdict on the method that a run is judged by.

    Parameters
    ----------
    methods : DataFrame
        As `weakseg.report.tables.method_table`.
    method : str or None
        The row; None where nothing was scored.
    spoken : callable
        Name of a method or floor → how people say it, see `weakseg.methods.spoken`.
    auc : mapping, optional
        ``value``, ``low``, ``high`` of the test AUC of the classifier that the method lives off.
    depends : str, optional
        Whether predictions depend mainly on the lesion, by filtered retraining: ``yes``, ``no``
        or another word for "cannot be told"; None where it was not tried.
    failed : sequence of str, optional
        The checks of how the run was kept honest that fail, see `weakseg.report.honesty`; None
        where nobody looked.
    """
    if method is None:
        return Verdict(
            "not shown",
            "Not shown: no test image with a lesion has a true mask, so that no mask of this run "
            "could be scored.",
        )
    row = methods[methods["method"] == method].iloc[0]
    conditions = (*_conditions(row, auc, depends), *_honest(failed))
    light = _light(row, auc, conditions, failed)
    said = _sentence(light, row, _floor_dice(methods, row), spoken, auc, conditions, failed)
    return Verdict(light, said, conditions)


def _floor_dice(methods: pd.DataFrame, row: pd.Series) -> str:
    """Of the best floor."""
    return words.number(methods.loc[methods["method"] == row["floor"], "dice"].mean(), 2)


def _light(
    row: pd.Series,
    auc: Mapping[str, Any] | None,
    conditions: tuple[Condition, ...],
    failed: Sequence[str] | None,
) -> Light:
    lead = _lead(row)
    few = words.few_patients(int(row["difference_patients" if row["floor"] else "patients"]))
    if lead == "below" or (_chance(auc) == "below" and not few):
        return "worth nothing"
    if lead == "unclear" or failed:
        return "not shown"
    return "worth using" if all(c.holds for c in conditions) else "better than nothing"


def _conditions(
    row: pd.Series, auc: Mapping[str, Any] | None, depends: str | None
) -> tuple[Condition, ...]:
    patients = int(row["patients"])
    conditions = [
        Condition(
            f"The lower end of the Dice's interval is {GOOD_DICE:g} or more.",
            words.with_interval(row["dice"], row["dice_low"], row["dice_high"], 2),
            _at_least(row["dice_low"], GOOD_DICE),
            f"that the Dice is {GOOD_DICE:g} or more is not certain",
        ),
        _alarms(row),
        Condition(
            f"The test images come from {words.FEW_PATIENTS} patients or more.",
            words.count(patients, "patient"),
            patients >= words.FEW_PATIENTS,
            f"the test images come from only {words.count(patients, 'patient')}",
        ),
    ]
    if auc is not None:
        conditions.append(
            Condition(
                "The whole interval of the classifier's AUC lies above 0.5.",
                words.with_interval(auc.get("value"), auc.get("low"), auc.get("high"), 2),
                _chance(auc) == "above",
                "the classifier behind it is not clearly better than chance",
            )
        )
    if depends is not None:
        conditions.append(
            Condition(
                "Filtered retraining, where it ran, does not say that a network gets by without "
                "the lesion.",
                {"yes": "it needs the lesion", "no": "it gets by without"}.get(
                    depends, "cannot be told"
                ),
                depends != "no",
                "a network gets by without the lesion on these images, so that heatmaps may mark "
                "something else",
            )
        )
    return tuple(conditions)


def _honest(failed: Sequence[str] | None) -> tuple[Condition, ...]:
    if failed is None:
        return ()
    named = ", ".join(f'"{what}"' for what in failed)
    return (
        Condition(
            "No check of how the run was kept honest fails.",
            f"failed: {named}" if failed else "none failed",
            not failed,
            f"{FAILS} {words.count(len(failed), 'check')} of how it was kept honest: {named}",
        ),
    )


def _alarms(row: pd.Series) -> Condition:
    rate, low, high = (row[f"false_positive_rate{end}"] for end in ("", "_low", "_high"))
    rule = (
        "The upper end of the interval of the share of healthy images that get a mark is "
        f"{words.percent(MOST_ALARMS)} or less, where healthy images were tested."
    )
    if pd.isna(rate):
        return Condition(rule, "no healthy image was tested", True, "")
    ends = f" [{words.percent(low)}, {words.percent(high)}]" if pd.notna(low) else ""
    return Condition(
        rule,
        f"{words.percent(rate)}{ends}",
        pd.notna(high) and bool(high <= MOST_ALARMS),
        f"it may mark something on more than {words.percent(MOST_ALARMS)} of healthy images",
    )


def _sentence(
    light: Light,
    row: pd.Series,
    floor_dice: str,
    spoken: Callable[[str], str],
    auc: Mapping[str, Any] | None,
    conditions: tuple[Condition, ...],
    failed: Sequence[str] | None,
) -> str:
    """Light, method, Dice, floor, and what stands in the way of a better light."""
    method, seen = spoken(row["method"]), int(row["masks_seen"])
    taught = "without seeing a mask" if seen == 0 else f"after seeing {words.count(seen, 'mask')}"
    taught += " of this set, but with masks seen elsewhere" if row["group"] == "foundation" else ""
    dice = words.number(row["dice"], 2)
    if pd.notna(row["dice_low"]):
        low, high = (words.number(row[f"dice_{end}"], 2) for end in ("low", "high"))
        dice += f" (95\N{NO-BREAK SPACE}% interval {low} to {high})"
    start = f"{light.capitalize()}: {method}, {taught}, reaches a Dice of {dice}"
    lead, patients = _lead(row), int(row["difference_patients"])
    if light == "worth nothing" and lead != "below" and auc is not None:
        return (
            f"{start}, but the classifier behind it does worse than chance (AUC "
            f"{words.number(auc.get('value'), 2)})."
        )
    if light == "not shown" and failed:
        why = next(c.but for c in conditions if c.but.startswith(FAILS))
        return f"{start}, but {why}; what stands on it is not shown."
    if not row["floor"]:
        return f"{start}, and no trivial floor was scored to hold it against."
    floor = f"marking {spoken(row['floor'])} ({floor_dice})"
    if light == "worth nothing":
        return f"{start}, less than {floor} does without looking for a lesion."
    if light == "not shown":
        why = f": {words.too_few(patients)}" if words.few_patients(patients) else ""
        return f"{start}; whether that beats {floor} cannot be told from these images{why}."
    against = f"{start}, clearly more than {floor}"
    buts = [c.but for c in conditions if not c.holds]
    return f"{against}, but {', and '.join(buts)}." if buts else f"{against}."


def _lead(row: pd.Series) -> str:
    """Whether the lead over the best floor is above, below or about 0."""
    ends = row["difference_low"], row["difference_high"]
    return words.side_of_zero(*ends, int(row["difference_patients"]))


def _chance(auc: Mapping[str, Any] | None) -> str:
    """Whether an AUC is above, below or about 0.5."""
    if auc is None:
        return "unclear"
    ends = (auc.get("low"), auc.get("high"))
    return words.side_of_zero(*(None if e is None or pd.isna(e) else e - 0.5 for e in ends))


def _at_least(end: Any, least: float) -> bool:
    return bool(pd.notna(end) and end >= least)
