"""How many masks a heatmap is worth: the figure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from weakseg.report import words
from weakseg.report.colours import COLOURS
from weakseg.report.figures import INK, SERIES, STYLE, as_svg, legend, shorten
from weakseg.scores.learning_curve import monotone

MOST_METHODS = 4
_CURVE = SERIES[2]
_LABEL_GAP = 0.062  # of the height of the axes: a line of text at the size of the labels


def equivalence_figure(
    curve: pd.DataFrame,
    methods: pd.DataFrame,
    network: str,
    draws: pd.DataFrame | None = None,
    colours: Mapping[str, str] | None = None,
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
    colours : mapping, optional
        Method → its colour; default: that of its group.

    Returns
    -------
    str
        An ``<svg>`` element. The curve is drawn as it is crossed, that is monotone; dots are the
        means that were measured. A diamond stands on a method's line at the number of masks that
        it saw.
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
        looks = _draw_methods(ax, shown, colours)
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


def _draw_methods(
    ax: Axes, methods: pd.DataFrame, colours: Mapping[str, str] | None
) -> list[tuple[str, str]]:
    """Lines and bands across; returns each one's colour and style."""
    looks: list[tuple[str, str]] = []
    told = False
    for i, row in methods.iterrows():
        before = int((methods["group"][:i] == row["group"]).sum())
        look = (
            (colours or {}).get(row["method"], COLOURS[row["group"]]),
            ("-", "--", "-.", ":")[before % 4],
        )
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
                linestyle="none", label=None if told else "masks that the method saw",
            )  # fmt: skip
            told = True
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
