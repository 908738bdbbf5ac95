"""The figures of heatmap-filtered retraining, and of heatmaps against their own network."""

from __future__ import annotations

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from weakseg.report.colours import COLOURS
from weakseg.report.figures import INK, SERIES, STYLE, as_svg, legend
from weakseg.scores.retraining_effects import CHANCE

_SOURCES = {
    "raw": COLOURS["supervised"],
    "heat": COLOURS["no-masks"],
    "truth": COLOURS["masks"],
    "box": COLOURS["masks"],
}
"""Source of a filter → its colour; controls are grey."""
_RANKINGS = {
    "heat": ("the heatmap", SERIES[0], "-"),
    "random": ("random", SERIES[5], "--"),
    "gaussian": ("centre first", SERIES[1], "-."),
    "shuffled": ("another image's heatmap", SERIES[4], ":"),
    "truth": ("true mask", SERIES[3], "-"),
}
"""Ranking → label, colour and line."""
_ORDERS = {
    "most": ("hottest first", SERIES[0], "-"),
    "least": ("coldest first", SERIES[1], "-."),
    "random": ("random order", SERIES[5], "--"),
}
_PANELS = {
    "road": ("ROAD", "removed"),
    "deletion": ("deletion", "removed"),
    "insertion": ("insertion", "shown"),
}
"""Measure → title, and what happens to the pixels."""
_MARKED = 12  # more points than this are a line without dots


def conditions_figure(table: pd.DataFrame) -> str:
    """AUC and interval of every condition.

    Parameters
    ----------
    table : DataFrame
        As `weakseg.report.sections.filtered.filtered_table`, without the curves. Retrained networks are
        filled dots, the original ones hollow; lines stand at chance and at the whole image.
    """
    names = list(dict.fromkeys(table["condition"]))
    n = len(names)
    with matplotlib.rc_context(STYLE):
        fig = Figure(figsize=(6.6, 1.2 + 0.34 * n), layout="constrained")
        ax = fig.add_subplot()
        ax.axvline(CHANCE, color=INK, alpha=0.6, linestyle=":", lw=1, label="chance")
        of = {str(k): rows.set_index("condition") for k, rows in table.groupby("network")}
        for network, shift in (("retrained", -0.13), ("original", 0.2)):
            rows = of[network].reindex(names) if network in of else None
            if rows is None:
                continue
            fresh = network == "retrained"
            colours = [_SOURCES.get(str(s), COLOURS["floor"]) for s in rows["source"]]
            y = np.arange(n) + shift
            lw, alpha = (2.2, 1.0) if fresh else (1.0, 0.6)
            ax.hlines(y, rows["auc_low"], rows["auc_high"], colors=colours, lw=lw, alpha=alpha)
            ax.scatter(
                rows["auc"], y, s=34 if fresh else 26, zorder=3, edgecolors=colours,
                facecolors=colours if fresh else "none", linewidths=1.2,
            )  # fmt: skip
            if fresh and "raw" in rows.index:
                ax.axvline(
                    float(rows["auc"]["raw"]), color=_SOURCES["raw"], linestyle="--", lw=1,
                    label="retrained on the whole image",
                )  # fmt: skip
        # The legend says what fills mean, not what colours do.
        ax.scatter([], [], s=34, color=INK, label="retrained network")
        ax.scatter(
            [], [], s=26, facecolors="none", edgecolors=INK, linewidths=1.2,
            label="original network",
        )  # fmt: skip
        shown = table.drop_duplicates("condition").set_index("condition")["in_words"]
        ax.set_yticks(np.arange(n), labels=[str(shown[c]) for c in names])
        ax.set_ylim(n - 0.4, -0.6)
        lowest = np.nanmin([*table["auc"], *table["auc_low"], CHANCE])
        ax.set_xlim(max(0.0, float(lowest)) - 0.03, 1.02)
        ax.set_xlabel("AUC on the test images, 95 % interval over seeds and patients")
        ax.grid(axis="x")
        legend(fig, ax)
        return as_svg(fig, "conditions")


def curves_figure(table: pd.DataFrame) -> str:
    """AUC of retrained networks over the share of pixels that is removed, and that is kept.

    Parameters
    ----------
    table : DataFrame
        As `weakseg.report.sections.filtered.filtered_table`, with the whole image, where every curve of
        removal begins and every curve of keeping ends.
    """
    fresh = table[table["network"] == "retrained"]
    raw = fresh[fresh["source"] == "raw"].assign(share=0.0)
    top = fresh[fresh["size"].astype(str).str.startswith("top")]
    top = top.assign(share=top["size"].str[3:].astype(float))
    sides = [s for s in ("remove", "keep") if (top["side"] == s).any()]
    several = top["fill"].nunique() > 1
    with matplotlib.rc_context(STYLE):
        fig = Figure(figsize=(4.0 * len(sides), 3.5), layout="constrained")
        axes = np.atleast_1d(fig.subplots(1, len(sides), sharey=True))
        for ax, side in zip(axes, sides, strict=True):
            whole = raw.assign(share=0.0 if side == "remove" else 100.0)
            of = top[top["side"] == side]
            for (source, fill), rows in of.groupby(["source", "fill"], sort=False):
                label, colour, style = _RANKINGS[str(source)]
                look = (f"{label}, {fill}" if several else label, colour, style)
                _line(ax, pd.concat([rows, whole]).sort_values("share"), "auc", look, scale=1)
            ax.axhline(CHANCE, color=INK, alpha=0.6, linestyle=":", lw=1, label="chance")
            ax.set_xlim(-2, 102)
            ax.set_xlabel(f"pixels {'removed' if side == 'remove' else 'kept'}, %")
            ax.grid()
        axes[0].set_ylabel("AUC, trained anew")
        _panel_legend(fig, axes)
        return as_svg(fig, "curves-retrained")


def faithfulness_figure(faithful: pd.DataFrame) -> str:
    """P(target class) of the unchanged network while pixels are removed or shown.

    Parameters
    ----------
    faithful : DataFrame
        As `weakseg.report.sections.filtered.faithfulness_table`; rows of kind ``curve`` are drawn.
    """
    curves = faithful[faithful["kind"] == "curve"]
    measures = [m for m in _PANELS if (curves["measure"] == m).any()]
    with matplotlib.rc_context(STYLE):
        fig = Figure(figsize=(3.1 * len(measures) + 0.4, 3.1), layout="constrained")
        axes = np.atleast_1d(fig.subplots(1, len(measures), sharey=True))
        for ax, measure in zip(axes, measures, strict=True):
            of = curves[curves["measure"] == measure]
            for order, look in _ORDERS.items():
                rows = of[of["order"] == order].sort_values("share")
                if len(rows):
                    _line(ax, rows, "value", look, scale=100)
            title, what = _PANELS[measure]
            ax.set_title(title, fontsize=10)
            ax.set_xlabel(f"pixels {what}, %")
            ax.set_xlim(-2, 102)
            ax.grid()
        axes[0].set_ylabel("mean P(target class)")
        axes[0].set_ylim(-0.02, 1.02)
        _panel_legend(fig, axes)
        return as_svg(fig, "faithfulness")


def _line(
    ax: Axes, rows: pd.DataFrame, column: str, look: tuple[str, str, str], scale: float
) -> None:
    """A line with its band; dots where the points are few."""
    label, colour, style = look
    low, high = ("auc_low", "auc_high") if column == "auc" else ("low", "high")
    x = scale * rows["share"].to_numpy(dtype=float)
    ends = rows[[low, high]].to_numpy(dtype=float)
    if np.isfinite(ends).any():
        ax.fill_between(x, ends[:, 0], ends[:, 1], color=colour, alpha=0.15, lw=0)
    marker = "o" if len(rows) <= _MARKED else None
    ax.plot(x, rows[column], style, color=colour, lw=1.6, marker=marker, ms=4, label=label)


def _panel_legend(fig: Figure, axes: np.ndarray) -> None:
    """One legend for all panels, each label once."""
    artists: dict[str, Artist] = {}
    for ax in axes:
        for handle, label in zip(*ax.get_legend_handles_labels(), strict=True):
            artists.setdefault(label, handle)
    fig.legend(
        list(artists.values()),
        list(artists),
        loc="outside lower left",
        ncols=len(artists),
        fontsize=8.5,
    )
