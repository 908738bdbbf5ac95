"""What intervals of heatmap-filtered retraining allow to say: yes, no, or that one cannot tell.

Every answer is decided by the ends of intervals alone, never by the value between them, and an end
that touches a bound has not passed it. With each answer comes the key of its reason, for whoever
puts it into words. An end that is NaN, as for a single patient, means "cannot tell".
"""

from __future__ import annotations

import math
from typing import Literal, NamedTuple, Protocol

from weakseg.scores.retraining_effects import CHANCE
from weakseg.settings import LEAST_PATIENTS

MARGIN = 0.05
"""Differences of AUC within it are too small to matter."""

LEAST_SEEDS = 6
"""With fewer, percentile intervals are clearly too narrow, see `caution`."""

Reason = Literal[
    "clear",
    "interval",
    "too few",
    "chance",
    "below chance",
    "no control",
    "beyond shape",
    "only shape",
    "shape",
]


class Ends(Protocol):
    """Anything with the ends of an interval, such as `weakseg.scores.Interval`."""

    @property
    def low(self) -> float: ...
    @property
    def high(self) -> float: ...


class Estimate(Ends, Protocol):
    """Ends of an interval and the value itself."""

    @property
    def value(self) -> float: ...


class Verdict(NamedTuple):
    """An answer and why.

    Attributes
    ----------
    answer : {"yes", "no", "cannot tell"}
    reason : str
        A key; each function says which it gives.
    """

    answer: Literal["yes", "no", "cannot tell"]
    reason: Reason


class Comparison(NamedTuple):
    """An answer to which of two keeps more, and why.

    Attributes
    ----------
    answer : {"more", "less", "as much", "cannot tell"}
    reason : str
        A key; each function says which it gives.
    """

    answer: Literal["more", "less", "as much", "cannot tell"]
    reason: Reason


def depends_mainly(share: Estimate, shape: Ends | None = None) -> Verdict:
    """Does the classification depend mainly on the region that was removed?

    Parameters
    ----------
    share : Estimate
        The share of the AUC above chance that is lost without the region, see
        `weakseg.scores.Evidence.share_lost`.
    shape : Ends, optional
        AUC of the shape control: networks that see the removed region's outline and no pixel.

    Returns
    -------
    Verdict
        In this order:

        - cannot tell, "chance", where the share is NaN: with all of the image the classifier is
          not clearly above chance, so that there is nothing to lose;
        - cannot tell, "too few", where an end is NaN;
        - yes, "clear", for more than half: low > 0.5;
        - no, "clear", for less than half: high < 0.5; but cannot tell, "shape", where the outline
          of what was removed tells the class (shape.low > 0.5), for a network may go by the hole;
        - cannot tell, "interval": half lies within the interval.
    """
    if math.isnan(share.value):
        return Verdict("cannot tell", "chance")
    if _endless(share):
        return Verdict("cannot tell", "too few")
    if share.low > 0.5:
        return Verdict("yes", "clear")
    if share.high < 0.5:
        by_outline = shape is not None and shape.low > CHANCE
        return Verdict("cannot tell", "shape") if by_outline else Verdict("no", "clear")
    return Verdict("cannot tell", "interval")


def dark_contributes(
    dark: Ends,
    dark_minus_shape: Ends | None = None,
    raw_minus_shape: Ends | None = None,
    margin: float = MARGIN,
) -> Verdict:
    """Do the pixels outside the heatmap's bright region say something of the class?

    A network that sees only them sees the outline of what was removed as well, and that alone may
    give the class away. The shape control is a network that sees the outline and no pixel of the
    image: the dark pixels contribute where they add to it.

    Parameters
    ----------
    dark : Ends
        AUC of the networks that see the dark pixels only.
    dark_minus_shape : Ends, optional
        That AUC minus the AUC of the shape control, paired.
    raw_minus_shape : Ends, optional
        AUC on the unfiltered images minus that of the shape control, paired: the headroom, which
        is how much pixels can add to the shape at all. Both, or neither without a shape control.
    margin : float, optional
        A smaller AUC above chance, or above the shape's, is none. Not negative.

    Returns
    -------
    Verdict
        In this order:

        - cannot tell, "too few", where any end is NaN;
        - yes, "beyond shape": above chance (dark.low > 0.5) and above the shape control
          (dark_minus_shape.low > 0); without a control yes, "no control", for above chance. A
          certain contribution counts however tiny it is;
        - cannot tell, "below chance": dark.high < 0.5, which is no lack of evidence but a
          network that learnt something else than what it is tested on;
        - no, "chance": dark.high < 0.5 + margin, whatever the shape does;
        - no, "only shape": dark_minus_shape.high < margin although there was headroom,
          raw_minus_shape.low > margin;
        - cannot tell, "shape": no certain headroom, raw_minus_shape.low <= margin: the shape
          alone does about as well as the whole image;
        - cannot tell, "interval": the intervals are too wide.

    Raises
    ------
    ValueError
        For one of the two differences without the other, or a negative margin.
    """
    _check_margin(margin)
    if (dark_minus_shape is None) != (raw_minus_shape is None):
        raise ValueError(
            "dark_minus_shape and raw_minus_shape belong to one shape control: give both or neither"
        )
    given = [i for i in (dark, dark_minus_shape, raw_minus_shape) if i is not None]
    if any(_endless(i) for i in given):
        return Verdict("cannot tell", "too few")
    above_chance, at_chance = dark.low > CHANCE, dark.high < CHANCE + margin
    if dark.high < CHANCE:
        return Verdict("cannot tell", "below chance")
    if dark_minus_shape is None or raw_minus_shape is None:
        if above_chance:
            return Verdict("yes", "no control")
        return Verdict("no", "chance") if at_chance else Verdict("cannot tell", "interval")
    headroom = raw_minus_shape.low > margin
    if above_chance and dark_minus_shape.low > 0:
        return Verdict("yes", "beyond shape")
    if at_chance:
        return Verdict("no", "chance")
    if dark_minus_shape.high < margin and headroom:
        return Verdict("no", "only shape")
    return Verdict("cannot tell", "interval" if headroom else "shape")


def keeps_more(difference: Ends, margin: float = MARGIN) -> Comparison:
    """Does the first of two conditions keep more of the classification than the second?

    Parameters
    ----------
    difference : Ends
        AUC of the first minus AUC of the second, paired.
    margin : float, optional
        Smaller differences do not matter. Not negative.

    Returns
    -------
    Comparison
        In this order:

        - cannot tell, "too few", where an end is NaN;
        - more, "clear": low > 0; less, "clear": high < 0. A difference that is certain is
          named even where it is tiny, all of it within the margin;
        - as much, "clear": -margin < low and high < margin;
        - cannot tell, "interval".

    Raises
    ------
    ValueError
        For a negative margin.
    """
    _check_margin(margin)
    if _endless(difference):
        return Comparison("cannot tell", "too few")
    if difference.low > 0:
        return Comparison("more", "clear")
    if difference.high < 0:
        return Comparison("less", "clear")
    if -margin < difference.low and difference.high < margin:
        return Comparison("as much", "clear")
    return Comparison("cannot tell", "interval")


def caution(seeds: int, patients: int) -> list[str]:
    """Why intervals over so few seeds or patients are not to be trusted, in sentences.

    A percentile interval only sees the spread between those that it has: of n it finds (n - 1) / n
    of their variance, and its ends are values that were seen. Both make it too narrow.

    Parameters
    ----------
    seeds, patients : int
        How many of each the intervals rest on.

    Returns
    -------
    list of str
        Empty for at least `LEAST_SEEDS` and `LEAST_PATIENTS`.
    """
    sentences = []
    if seeds == 1:
        sentences.append(
            "Each network was trained with one seed: the intervals do not know how much "
            f"training again would change, and are too narrow; train at least {LEAST_SEEDS} seeds."
        )
    elif seeds < LEAST_SEEDS:
        sentences.append(
            f"Each network was trained with only {seeds} seeds: the intervals hardly know how much "
            f"training again would change, and are too narrow; train at least {LEAST_SEEDS}."
        )
    if patients == 1:
        sentences.append("All test images are of one patient: there are no intervals.")
    elif patients < LEAST_PATIENTS:
        sentences.append(
            f"The test images are of only {patients} patients, fewer than {LEAST_PATIENTS}: the "
            "intervals are too narrow."
        )
    return sentences


def _endless(interval: Ends) -> bool:
    return math.isnan(interval.low) or math.isnan(interval.high)


def _check_margin(margin: float) -> None:
    if not margin >= 0:
        raise ValueError(f"margin must not be negative, got {margin}")
