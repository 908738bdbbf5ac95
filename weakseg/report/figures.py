"""The report's figures, as SVG that stands inside a page.

Text, axes and grid take the colour of the page's own text, so that one figure serves light and
dark pages.
"""

from __future__ import annotations

import io
import re
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
from markupsafe import escape
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from weakseg.report.colours import COLOURS, method_colours
from weakseg.scores import reliability_curve

SERIES = ("#0a84c6", "#d98a00", "#00a077", "#b8579b", "#d55e00", "#8c8c8c")
INK = "#010203"  # stands for the page's text colour until `as_svg` puts it in
STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "weakseg",
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 9.5,
    "text.parse_math": False,  # a label may hold a dollar sign
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "text.color": INK,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.7,
    "legend.frameon": False,
    "grid.color": INK,
    "grid.alpha": 0.15,
    "grid.linewidth": 0.6,
}


def shorten(name: str, most: int = 44) -> str:
    """A name that leaves room for the plot: long ones (paths of runs) lose their beginning."""
    return name if len(name) <= most else "…" + name[1 - most :]


def dice_figure(methods: pd.DataFrame, names: Sequence[str] | None = None) -> str:
    """Dice and interval of every method, with a line at the best floor.

    Parameters
    ----------
    methods : DataFrame
        As `weakseg.report.tables.method_table`.
    names : sequence of str, optional
        What to write at each row instead of the method.
    """
    n = len(methods)
    with matplotlib.rc_context(STYLE):
        fig = Figure(figsize=(5.6, 0.8 + 0.26 * n), layout="constrained")
        ax = fig.add_subplot()
        y = np.arange(n)
        by_method = method_colours(dict(zip(methods["method"], methods["group"], strict=True)))
        colours = [by_method[m] for m in methods["method"]]
        ax.hlines(y, methods["dice_low"], methods["dice_high"], colors=colours, linewidth=2.2)
        ax.scatter(methods["dice"], y, c=colours, s=34, zorder=3)
        floors = methods[methods["group"] == "floor"]
        if len(floors):
            top = floors.iloc[0]
            if pd.notna(top["dice_low"]):
                ax.axvspan(
                    top["dice_low"], top["dice_high"], color=COLOURS["floor"], alpha=0.15, lw=0
                )
            ax.axvline(top["dice"], color=COLOURS["floor"], linestyle="--", linewidth=1)
        for edge in np.flatnonzero(methods["group"].to_numpy()[1:] != methods["group"][:-1]):
            ax.axhline(edge + 0.5, color=INK, alpha=0.25, linewidth=0.6)
        shown = names if names is not None else methods["method"]
        ax.set_yticks(y, labels=[shorten(str(n)) for n in shown])
        ax.set_ylim(n - 0.4, -0.6)
        ax.set_xlim(left=0)
        ax.set_xlabel("Dice on images with a lesion, 95 % interval over patients")
        ax.grid(axis="x")
        return as_svg(fig, "dice")


def spread_figure(spread: pd.DataFrame, groups: Mapping[str, str]) -> str:
    """Dice over the cases: median, the middle half, and 5 to 95 % of them."""
    n = len(spread)
    with matplotlib.rc_context(STYLE):
        fig = Figure(figsize=(4.6, 0.8 + 0.26 * n), layout="constrained")
        ax = fig.add_subplot()
        y = np.arange(n)
        by_method = method_colours(groups)
        colours = [by_method[m] for m in spread["method"]]
        ax.hlines(y, spread["q05"], spread["q95"], colors=colours, linewidth=1)
        ax.hlines(y, spread["q25"], spread["q75"], colors=colours, linewidth=8, alpha=0.45)
        ax.scatter(spread["median"], y, c=colours, s=60, marker="|", linewidths=2.4, zorder=3)
        ax.set_yticks(y, labels=list(spread["method"]))
        ax.set_ylim(n - 0.4, -0.6)
        ax.set_xlim(-0.02, 1.02)
        ax.set_xlabel("Dice of one image with a lesion")
        ax.grid(axis="x")
        return as_svg(fig, "spread")


def size_figure(sizes: pd.DataFrame, groups: Mapping[str, str]) -> str:
    """Mean Dice on small, middling and large lesions."""
    with matplotlib.rc_context(STYLE):
        fig, ax = _axes("size of the lesion in pixels", "mean Dice")
        ticks: dict[int, str] = {}
        by_method = method_colours(groups)
        for method, rows in sizes.dropna(subset=["dice"]).groupby("method", sort=False):
            colour = by_method[str(method)]
            style = "--" if groups[str(method)] == "floor" else "-"
            ax.plot(rows["size"], rows["dice"], style, marker="o", color=colour, label=str(method))
            # Every method is scored on the same lesions, so that all have the same groups.
            for size, low, high in rows[["size", "pixels_low", "pixels_high"]].to_numpy():
                ticks[int(size)] = f"{low:.0f}–{high:.0f}"
        ax.set_xticks(list(ticks), labels=list(ticks.values()))
        ax.set_ylim(bottom=0)
        legend(fig, ax)
        return as_svg(fig, "size")


def curve_figure(curves: pd.DataFrame, fixed: float | None, chosen: Sequence[float]) -> str:
    """Dice over a fixed threshold: a thin line a seed, and their mean.

    Parameters
    ----------
    curves : DataFrame
        As ``scores/curves.csv``.
    fixed : float or None
        The threshold of the rule ``fixed``.
    chosen : sequence of float
        The thresholds that validation masks chose, one a seed.
    """
    with matplotlib.rc_context(STYLE):
        fig, ax = _axes("threshold on heat over its own maximum", "mean Dice, images with a lesion")
        seeds = list(curves.groupby("seed"))
        if len(seeds) > 1:
            for _, rows in seeds:
                ax.plot(rows["threshold"], rows["dice"], color=SERIES[0], linewidth=0.8, alpha=0.5)
        mean = curves.groupby("threshold")["dice"].mean()
        label = f"mean of {len(seeds)} seeds" if len(seeds) > 1 else "the one seed"
        ax.plot(mean.index, mean, color=SERIES[0], linewidth=2.2, label=label)
        if fixed is not None:
            ax.axvline(fixed, color=COLOURS["floor"], linestyle="--", label=f"fixed, {fixed:g}")
        for i, t in enumerate(chosen):
            shown = "chosen on validation masks" if i == 0 else None
            ax.axvline(t, color=COLOURS["masks"], linestyle=":", linewidth=1.4, label=shown)
        ax.set_xlim(0, 1)
        ax.set_ylim(bottom=0)
        legend(fig, ax)
        return as_svg(fig, "curve")


def training_figure(metrics: Mapping[int, pd.DataFrame]) -> str:
    """Loss and validation AUC over the epochs, a line a seed."""
    with matplotlib.rc_context(STYLE):
        fig = Figure(figsize=(4.2, 3.9), layout="constrained")
        loss, auc = fig.subplots(2, 1, sharex=True)
        for i, table in enumerate(metrics.values()):
            first, x = i == 0, table["epoch"]
            train: dict[str, Any] = {"color": SERIES[0], "lw": 1.3, "marker": _lone(table)}
            val = train | {"color": SERIES[1], "linestyle": "--"}
            loss.plot(x, table["train_loss"], label="training" if first else None, **train)
            if "val_loss" in table:
                loss.plot(x, table["val_loss"], label="validation" if first else None, **val)
            if "val_auc" in table:
                auc.plot(x, table["val_auc"], **val)
        loss.set_ylabel("loss")
        loss.set_ylim(bottom=0)
        loss.grid()
        loss.legend(loc="best", fontsize=8.5)
        auc.set_ylabel("validation AUC")
        auc.set_xlabel("epoch")
        auc.xaxis.get_major_locator().set_params(integer=True)
        auc.grid()
        return as_svg(fig, "training")


def _lone(table: pd.DataFrame) -> str | None:
    """The marker of a line: a line of a single epoch is not seen without one."""
    return "o" if len(table) == 1 else None


def segmenter_figure(
    metrics: Mapping[str, Mapping[int, pd.DataFrame]], colours: Mapping[str, str] | None = None
) -> str:
    """Loss and validation Dice of the supervised networks over their training, a line a seed.

    Parameters
    ----------
    metrics : mapping
        Network → seed → its ``metrics.csv``.
    colours : mapping, optional
        Network → its colour; see `weakseg.report.colours.method_colours`.
    """
    with matplotlib.rc_context(STYLE):
        fig = Figure(figsize=(4.2, 3.9), layout="constrained")
        loss, dice = fig.subplots(2, 1, sharex=True)
        for i, (name, seeds) in enumerate(metrics.items()):
            for j, table in enumerate(seeds.values()):
                x = table["epoch"] / table["epoch"].max()
                colour = (colours or {}).get(name, SERIES[i % len(SERIES)])
                how: dict[str, Any] = {"color": colour, "lw": 1.3}
                how["marker"] = _lone(table)
                loss.plot(x, table["train_loss"], label=name if j == 0 else None, **how)
                if "val_dice" in table and table["val_dice"].notna().any():
                    dice.plot(x, table["val_dice"], linestyle="--", **how)
        loss.set_ylabel("training loss")
        loss.set_ylim(bottom=0)
        loss.grid()
        dice.set_ylabel("validation Dice")
        dice.set_ylim(0, 1)
        dice.set_xlabel("share of the training")
        dice.grid()
        legend(fig, loss)
        return as_svg(fig, "segmenters")


def roc_figure(truths: Mapping[int, np.ndarray], p: Mapping[int, np.ndarray]) -> str:
    """Receiver operating characteristic of P(lesion), a line a seed."""
    with matplotlib.rc_context(STYLE):
        fig, ax = _axes("false-positive rate (healthy called lesion)", "sensitivity")
        ax.plot([0, 1], [0, 1], color=INK, alpha=0.35, linewidth=0.8, linestyle="--")
        for i, (seed, truth) in enumerate(truths.items()):
            x, y = roc_points(truth, p[seed])
            colour = SERIES[i % len(SERIES)]
            ax.plot(x, y, color=colour, linewidth=1.5, label=f"seed {seed}")
        ax.set_aspect("equal")
        ax.set_xlim(-0.01, 1.01)
        ax.set_ylim(-0.01, 1.01)
        if len(truths) > 1:
            ax.legend(loc="lower right")
        return as_svg(fig, "roc")


def roc_points(truth: np.ndarray, p: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """False-positive and true-positive rate at every cut, from (0, 0) to (1, 1).

    Images of equal probability are called lesions together, which draws ties as slants.
    """
    order = np.argsort(-p, kind="stable")
    lesion = truth[order].astype(bool)
    ends = np.flatnonzero(np.r_[np.diff(p[order]) != 0, True])
    hits, false = np.cumsum(lesion)[ends], np.cumsum(~lesion)[ends]
    with np.errstate(invalid="ignore"):
        return np.r_[0.0, false / false[-1]], np.r_[0.0, hits / hits[-1]]


def reliability_figure(truths: Mapping[int, np.ndarray], p: Mapping[int, np.ndarray]) -> str:
    """How often images of a probability do hold a lesion, a line a seed."""
    with matplotlib.rc_context(STYLE):
        fig, ax = _axes("mean P(lesion) of the bin", "share with a lesion")
        ax.plot([0, 1], [0, 1], color=INK, alpha=0.35, linewidth=0.8, linestyle="--")
        for i, (seed, truth) in enumerate(truths.items()):
            curve = reliability_curve(truth, p[seed]).dropna()
            colour = SERIES[i % len(SERIES)]
            x, y = curve["mean_probability"], curve["observed_share"]
            ax.plot(x, y, color=colour, linewidth=1, label=f"seed {seed}")
            area = 6 + 90 * curve["count"] / curve["count"].sum()
            ax.scatter(x, y, s=area, color=colour, alpha=0.8)
        ax.set_aspect("equal")
        ax.set_xlim(-0.02, 1.02)
        ax.set_ylim(-0.02, 1.02)
        if len(truths) > 1:
            ax.legend(loc="upper left")
        return as_svg(fig, "reliability")


def _axes(x: str, y: str) -> tuple[Figure, Axes]:
    fig = Figure(figsize=(4.2, 3.3), layout="constrained")
    ax = fig.add_subplot()
    ax.set_xlabel(x)
    ax.set_ylabel(y)
    ax.grid()
    return fig, ax


def legend(fig: Figure, ax: Axes) -> None:
    """Below the axes, where no line can run through it."""
    handles, labels = ax.get_legend_handles_labels()
    # Labels that begin with an underscore are left out unless the handles are passed as well.
    fig.legend(handles, labels, loc="outside lower left", ncols=2, fontsize=8.5)


def as_svg(fig: Figure, name: str) -> str:
    """The figure as an ``<svg>`` element without anything that points outside the page.

    Every id gets the figure's name, for ids are shared by all figures of a page; `in_page` makes
    them unique where a page holds the same figure twice.
    """
    buffer = io.StringIO()
    FigureCanvasSVG(fig).print_svg(buffer, metadata={"Date": None})
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    # The style would hold for the whole page; the page's own says the same.
    text = re.sub(r"<(metadata|style)\b.*?</\1>", "", text, flags=re.DOTALL)
    text = re.sub(r"<!--.*?-->", "", text, flags=re.DOTALL)
    head, rest = text.split(">", 1)
    head = re.sub(r'\s(?:xmlns(?::\w+)?|version|width|height)="[^"]*"', "", head)
    width = float(fig.get_size_inches()[0] * 96)
    head += f' role="img" style="width:{width:.0f}px"'
    text = (head + ">" + rest).replace(INK, "currentColor")
    return in_page(text, name)


def labelled(svg: str, label: str) -> str:
    """The element with a name for screen readers."""
    named = f' role="img" aria-label="{escape(label)}"'
    return str(svg).replace(' role="img"', named, 1)


def in_page(svg: str, prefix: str) -> str:
    """The element with a prefix before each of its ids and in what refers to them."""
    svg = re.sub(r'\bid="([^"]+)"', rf'id="{prefix}-\1"', svg)
    svg = re.sub(r'href="#([^"]+)"', rf'href="#{prefix}-\1"', svg)
    return re.sub(r"url\(#([^)]+)\)", rf"url(#{prefix}-\1)", svg)
