"""The table of metrics: what is scored of every case, how it is averaged, how it is shown.

Per-case scores, the summary of the methods and the report's page read this table. A further metric
is a function and an entry here.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from weakseg.scores.lesions import false_lesions_of, sensitivity_of
from weakseg.scores.localisation import energy_inside, pixel_average_precision, pointing_game
from weakseg.scores.mask_pair import MaskPair
from weakseg.scores.surface_dice import TOLERANCE, surface_dice_of

NAN = float("nan")


@dataclass(frozen=True)
class Metric:
    """A score of one case.

    Attributes
    ----------
    column : str
        Its column in ``per_case.csv``.
    of : callable
        `MaskPair` → number, or yes or no; NaN where it means nothing.
    over : {"lesions", "healthy", "all"}
        The images that its mean is over.
    mean : str, optional
        The mean's column in ``summary.csv``; ``column`` where it is None, and no mean at all where
        it is empty.
    interval : bool
        Whether the mean has an interval over patients (``_low``, ``_high``).
    of_heat : bool
        Whether it says something of the heatmap, and nothing of the mask.
    heading : str, optional
        Over its column on the page; not shown there without one.
    digits : int or {"%"}
        How the mean is shown.
    better : {"high", "low"}, optional
        Which way is better.
    """

    column: str
    of: Callable[[MaskPair], float | int | bool]
    over: Literal["lesions", "healthy", "all"] = "lesions"
    mean: str | None = None
    interval: bool = False
    of_heat: bool = False
    heading: str | None = None
    digits: int | Literal["%"] = 3
    better: Literal["high", "low"] | None = None

    @property
    def summary(self) -> str:
        """The mean's column in ``summary.csv``; empty where there is none."""
        return self.column if self.mean is None else self.mean

    @property
    def summary_columns(self) -> tuple[str, ...]:
        """All columns that it has in ``summary.csv``."""
        ends = ("", "_low", "_high") if self.interval else ("",)
        return tuple(self.summary + end for end in ends) if self.summary else ()


def _on_lesion(pair: MaskPair, value: float) -> float:
    """Distances are averaged over images with a lesion, and mean nothing without."""
    return value if pair.has_lesion else NAN


METRICS: tuple[Metric, ...] = (
    Metric("dice", lambda x: x.overlap["dice"], interval=True, better="high"),
    Metric("iou", lambda x: x.overlap["iou"], heading="IoU", better="high"),
    Metric("precision", lambda x: x.overlap["precision"], better="high"),
    Metric("recall", lambda x: x.overlap["recall"], better="high"),
    Metric(
        "hd95",
        lambda x: _on_lesion(x, x.apart[0]),
        interval=True,
        heading="HD95",
        digits=1,
        better="low",
    ),
    Metric("msd", lambda x: _on_lesion(x, x.apart[1]), heading="MSD", digits=1, better="low"),
    Metric(
        "nsd",
        lambda x: _on_lesion(x, surface_dice_of(x)),
        heading=f"NSD ({TOLERANCE:g})",
        better="high",
    ),
    Metric(
        "missed",
        lambda x: x.has_lesion and x.predicted_pixels == 0,
        heading="missed",
        digits="%",
        better="low",
    ),
    Metric("no_overlap", lambda x: x.has_lesion and x.overlap["dice"] == 0, better="low"),
    Metric(
        "false_alarm",
        lambda x: not x.has_lesion and x.predicted_pixels > 0,
        over="healthy",
        mean="false_positive_rate",
        interval=True,
        heading="false positives",
        digits="%",
        better="low",
    ),
    Metric(
        "lesion_sensitivity", sensitivity_of, heading="lesions found", digits="%", better="high"
    ),
    Metric(
        "false_lesions",
        false_lesions_of,
        over="all",
        heading="false lesions an image",
        digits=2,
        better="low",
    ),
    Metric("has_lesion", lambda x: x.has_lesion, mean=""),
    Metric("lesion_pixels", lambda x: x.lesion_pixels, mean=""),
    Metric("predicted_pixels", lambda x: x.predicted_pixels, mean=""),
    Metric("image_pixels", lambda x: x.truth.size, mean=""),
    Metric(
        "ap",
        lambda x: NAN if x.heat is None else pixel_average_precision(x.heat, x.truth),
        of_heat=True,
        heading="AP",
        better="high",
    ),
    Metric(
        "pointing",
        lambda x: NAN if x.heat is None else pointing_game(x.heat, x.truth),
        of_heat=True,
        heading="pointing",
        better="high",
    ),
    Metric(
        "energy",
        lambda x: NAN if x.heat is None else energy_inside(x.heat, x.truth),
        of_heat=True,
        heading="energy",
        better="high",
    ),
)

SHOWN = tuple(m for m in METRICS if m.heading)
"""Those with a column of their own on the page, besides the Dice."""

OF_HEAT = tuple(m.column for m in METRICS if m.of_heat)
"""Columns that say something of the heatmap alone, and are the same under every rule."""
