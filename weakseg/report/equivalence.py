"""How many masks is a heatmap worth? The table, the figure and the sentences of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from weakseg.report import words
from weakseg.report.figures import COLOURS, INK, SERIES, STYLE, as_svg, legend, shorten
from weakseg.scores import Interval, curve_at, mask_equivalence, weak_to_full_ratio
from weakseg.scores.equivalence import CurvePoint, Equivalence
from weakseg.scores.learning_curve import monotone

MOST_METHODS = 4
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
"""Field of `weakseg.scores.CurvePoint` at the masks that a threshold was tuned on → its column."""
EQUIVALENCE_COLUMNS = (
    "method", "kind", "group", "masks_seen", *Equivalence._fields[1:],
    "ratio", "ratio_low", "ratio_high", *AT_MASKS.values(),
)  # fmt: skip
_CURVE = SERIES[2]
_LABEL_GAP = 0.062  # of the height of the axes: a line of text at the size of the labels


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
        ``group``, "no-masks", "masks" (the threshold was chosen on masks) or "oracle" (an upper
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
        group = ("masks" if seen > 0 else "no-masks") if kind == "heatmap" else kind
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
    table: pd.DataFrame,
    network: str,
    *,
    reference: str | None = None,
    names: Mapping[str, str] | None = None,
) -> list[str]:
    """What the table says: for each method its worth in masks, then the ratio; then a caution.

    Parameters
    ----------
    table : DataFrame
        As `equivalence_table`.
    network : str
        The network whose curve it is.
    reference : str, optional
        What to call the fully supervised method that the ratios are to; default: ``network``.
    names : mapping, optional
        Method → how to call it, where that is not its own name.
    """
    said = []
    for row in table.to_dict(orient="records"):
        name = (names or {}).get(row["method"], row["method"])
        said.append(_worth(name, row, network))
        if row["group"] == "masks":
            said.append(_better_spent(name, row, network))
        if not pd.isna(row["ratio"]):
            said.append(_ratio(name, row, reference or network))
    if len(table):
        said += _caution(table.iloc[0], network)
    return said


def _worth(name: str, row: Mapping[Any, Any], network: str) -> str:
    subject = name
    if row["group"] == "oracle":
        subject = f"{name}, an upper bound whose threshold was chosen on the test masks,"
    fewest = _masks_of(row["fewest"], row["fewest_patients"])
    most = _masks_of(row["most"], row["most_patients"])
    low, high = (_end(row, end) for end in ("low", "high"))
    if row["below"]:
        least = words.count(round(row["fewest"]), "mask")
        claim = (
            f"{subject} is worth fewer than {least}, the fewest tried: {network} trained on "
            f"{fewest} reaches a higher Dice on these test images"
        )
        sure = low == "" or row["high_below"]
        return f"{claim}." if sure else f"{claim}, though the interval reaches up to {high} masks."
    if row["above"]:
        sure = low == "" or row["low_above"]
        if sure:
            return f"{subject} beats {network} trained on {most}, the most tried."
        return (
            f"{subject} scores higher than {network} trained on {most}, the most tried; that it "
            f"is better is not shown, for the interval begins at {low} masks."
        )
    if row["low_below"] and row["high_above"]:
        return (
            f"What {subject} is worth in masks cannot be told: {network} reaches the same Dice "
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
    """Whether the masks that tuned a threshold had better trained the network."""
    seen = words.count(int(row["masks_seen"]), "mask")
    tuned = f"The threshold of {name} was tuned on {seen}"
    reached = words.with_interval(row["seen_dice"], row["seen_dice_low"], row["seen_dice_high"])
    by = words.signed(row["seen_difference"])
    ends = words.interval(row["seen_difference_low"], row["seen_difference_high"])
    by = f"{by} {ends}".strip()
    say = words.verdict(row["seen_difference_low"], row["seen_difference_high"])
    # The curve rises, so that outside of what was tried it bounds what is not known.
    if row["seen_below"]:
        with_fewest = _masks_of(row["fewest"], row["fewest_patients"])
        start = f"{tuned}, fewer than {network} was tried with; with {with_fewest}"
        if say == "above":
            return f"{start} it reaches {reached}, and {name} is better all the same: {by}."
        return (
            f"{start} it reaches {reached}. Whether it would be better with {seen} cannot be told."
        )
    if row["seen_above"]:
        start = (
            f"{tuned}, more than {network} was tried with; "
            f"with {_masks_of(row['most'], row['most_patients'])}"
        )
        if say == "below":
            return f"{start} it reaches {reached}, and {name} is already worse: {by}."
        return (
            f"{start} it reaches {reached}. Whether it would be better with {seen} cannot be told."
        )
    start = f"{tuned}; {network} trained on that many masks instead reaches {reached}"
    if say == "unclear":
        return f"{start}. Which of the two is better cannot be told: the difference is {by}."
    comparison = "better" if say == "above" else "worse"
    return f"{start}. {name} is {comparison}: the difference is {by}."


def _ratio(name: str, row: Mapping[Any, Any], reference: str) -> str:
    ends = words.interval(100 * row["ratio_low"], 100 * row["ratio_high"], 0)
    share = f"{words.percent(row['ratio'])} {ends}".strip()
    return f"{name} reaches {share} of the Dice of the fully supervised {reference}."


def _caution(row: pd.Series, network: str) -> list[str]:
    said = []
    if row["test_patients"] < 2:
        said.append("There are no intervals: the test lesions are of a single patient.")
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


def equivalence_figure(
    curve: pd.DataFrame,
    methods: pd.DataFrame,
    network: str,
    draws: pd.DataFrame | None = None,
) -> str:
    """Dice over the number of masks, with the methods as lines across.

    Parameters
    ----------
    curve : DataFrame
        As `weakseg.scores.mask_curve`.
    methods : DataFrame
        Rows of `equivalence_table`, the one spoken of first; at most `MOST_METHODS` are drawn.
    network : str
        What to call the curve.
    draws : DataFrame, optional
        As `weakseg.scores.draw_curves`: drawn faintly.

    Returns
    -------
    str
        An ``<svg>`` element. The curve is drawn as it is crossed, that is monotone; dots are the
        means that were measured. A diamond stands on a method's line at the number of masks that
        its threshold was tuned on.
    """
    shown = methods.head(MOST_METHODS).reset_index(drop=True)
    with matplotlib.rc_context(STYLE):
        fig = Figure(figsize=(6.8, 4.3), layout="constrained")
        ax = fig.add_subplot()
        ax.set_xscale("log", base=2)
        _limits(ax, curve, shown, draws)
        if draws is not None and draws["draw"].nunique() > 1:
            for i, (_, rows) in enumerate(draws.groupby("draw")):
                ax.plot(
                    rows["masks"], rows["dice"], color=_CURVE, lw=0.8, alpha=0.55, marker=".", ms=4,
                    label="single draws of the patients" if i == 0 else None,
                )  # fmt: skip
        _draw_curve(ax, curve)
        looks = _draw_methods(ax, shown)
        _draw_drop(ax, shown)
        _label_right(ax, curve, shown, looks, network)
        _mask_axes(ax, curve)
        ax.grid(axis="y")
        ax.set_ylabel("mean Dice, images with a lesion")
        legend(fig, ax)
        return as_svg(fig, "equivalence")


def _limits(
    ax: Axes, curve: pd.DataFrame, methods: pd.DataFrame, draws: pd.DataFrame | None
) -> None:
    seen = methods.loc[methods["group"] == "masks", "masks_seen"]
    places = [*curve["masks"], *curve["masks_low"], *curve["masks_high"], *seen]
    x = np.log2(np.array(places, dtype=np.float64))
    room = max(0.04 * float(np.ptp(x)), 0.25)
    ax.set_xlim(2 ** (x.min() - room), 2 ** (x.max() + room))
    dice = [*curve["dice"], *curve["dice_high"], *methods["dice"], *methods["dice_high"]]
    if draws is not None:
        dice += [*draws["dice"]]
    top = float(np.nanmax(np.array(dice, dtype=np.float64)))
    ax.set_ylim(0, min(1.0, 1.08 * top) if top > 0 else 1.0)


def _draw_curve(ax: Axes, curve: pd.DataFrame) -> None:
    band = curve.dropna(subset=["dice_low", "dice_high"])
    if len(curve) > 1:
        ax.fill_between(
            band["masks"], band["dice_low"], band["dice_high"], color=_CURVE, alpha=0.18, lw=0
        )
        ax.plot(curve["masks"], curve["dice_monotone"], color=_CURVE, lw=2)
    else:
        ax.vlines(band["masks"], band["dice_low"], band["dice_high"], colors=_CURVE, lw=2)
    ax.plot(curve["masks"], curve["dice"], "o", color=_CURVE, ms=5)


def _draw_methods(ax: Axes, methods: pd.DataFrame) -> list[tuple[str, str]]:
    """Lines and bands across; returns each one's colour and style."""
    looks: list[tuple[str, str]] = []
    tuned = False
    for i, row in methods.iterrows():
        before = int((methods["group"][:i] == row["group"]).sum())
        look = (COLOURS.get(row["group"], SERIES[4]), ("-", "--", "-.", ":")[before % 4])
        looks.append(look)
        if pd.notna(row["dice_low"]):
            ax.axhspan(row["dice_low"], row["dice_high"], color=look[0], alpha=0.1, lw=0)
        # The first lies on top, where lines coincide.
        ax.axhline(
            row["dice"], color=look[0], linestyle=look[1], lw=1.5, zorder=2.4 - 0.1 * len(looks)
        )
        if row["group"] == "masks":
            ax.plot(
                [row["masks_seen"]], [row["dice"]], "D", color=look[0], ms=7, mec=INK, mew=0.7,
                linestyle="none", label=None if tuned else "masks that the threshold was tuned on",
            )  # fmt: skip
            tuned = True
    return looks


def _draw_drop(ax: Axes, methods: pd.DataFrame) -> None:
    """From where the curve crosses the first method down to the number of masks."""
    if methods.empty or pd.isna(methods["masks"][0]):
        return
    masks, dice = methods["masks"][0], methods["dice"][0]
    ax.vlines([masks], 0, dice, colors=INK, linestyles=":", lw=1.2)
    ax.plot([masks], [dice], "o", color="none", mec=INK, ms=9, mew=1.2)
    left, right = np.log2(ax.get_xlim())
    far = np.log2(masks) > left + 0.7 * (right - left)
    ax.annotate(
        words.count(round(masks), "mask"), (masks, 0), xytext=(-5 if far else 5, 5),
        textcoords="offset points", ha="right" if far else "left", va="bottom", weight="bold",
    )  # fmt: skip


def _label_right(
    ax: Axes,
    curve: pd.DataFrame,
    methods: pd.DataFrame,
    looks: Sequence[tuple[str, str]],
    network: str,
) -> None:
    """Names beside the ends of the lines, moved apart where they would overlap."""
    end = curve.iloc[-1]
    entries = [(float(end["dice_monotone"]), shorten(network, 26), _CURVE)]
    for (_, row), (colour, _) in zip(methods.iterrows(), looks, strict=True):
        entries.append((float(row["dice"]), shorten(str(row["method"]), 26), colour))
    bottom, top = ax.get_ylim()
    heights = spread([e[0] for e in entries], _LABEL_GAP * (top - bottom), bottom, top)
    across = ax.get_yaxis_transform()
    for (dice, name, colour), y in zip(entries, heights, strict=True):
        ax.plot([1.0, 1.025], [dice, y], color=colour, lw=0.9, transform=across, clip_on=False)
        ax.text(
            1.035, y, f"{name}  {words.number(dice, 2)}", color=colour, fontsize=9,
            transform=across, va="center", ha="left",
        )  # fmt: skip


def spread(wanted: Sequence[float], gap: float, low: float, high: float) -> list[float]:
    """Places at least ``gap`` apart, as near as can be (least squares) to where they are wanted.

    Parameters
    ----------
    wanted : sequence of float
        Equal ones keep their order.
    gap, low, high : float
        Places stay within low and high as long as there is room; then they leave upwards.
    """
    if not wanted:
        return []
    order = np.argsort(wanted, kind="stable")
    steps = gap * np.arange(len(order))
    # With the gaps taken out, places that must not cross are places that must not fall.
    free = monotone(np.asarray(wanted, dtype=np.float64)[order] - steps)
    free = np.maximum(np.minimum(free, high - steps[-1]), low)
    places = np.empty(len(order))
    places[order] = free + steps
    return [float(p) for p in places]


def _mask_axes(ax: Axes, curve: pd.DataFrame) -> None:
    """Masks below and patients above, at the points of the curve that leave room for a number."""
    left, right = np.log2(ax.get_xlim())
    at = np.log2(curve["masks"].to_numpy(dtype=np.float64))
    kept: list[int] = []
    for i in reversed(range(len(at))):
        if not kept or at[kept[-1]] - at[i] >= 0.07 * (right - left):
            kept.append(i)
    masks, ks = curve["masks"].to_numpy()[kept], curve["k"].to_numpy()[kept]
    ax.set_xticks(masks, labels=[words.number(m, 0) for m in masks])
    ax.xaxis.set_minor_locator(NullLocator())
    ax.set_xlabel("masks that the network was trained on (mean of the draws)")
    top = ax.secondary_xaxis("top")
    top.set_xticks(masks, labels=[str(k) for k in ks])
    top.xaxis.set_minor_locator(NullLocator())
    top.set_xlabel("training patients whose masks these are")
