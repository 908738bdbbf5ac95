"""The figure of ``heatmap-segment --sweep``: methods by layers, at their best thresholds."""

from __future__ import annotations

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from weakseg.report.figures import STYLE, as_svg
from weakseg.report.sections.base import Content, Section, Subject
from weakseg.report.words import count, number

SHOWN = ("method", "layer", "threshold", "dice", "masks_seen")


def best_of_sweep(sweep: pd.DataFrame) -> pd.DataFrame:
    """The best threshold of every method and layer, in the order in which they were tried."""
    if sweep.empty:
        return pd.DataFrame(columns=list(SHOWN))
    ordered = sweep.sort_values("dice", ascending=False, kind="stable")
    best = ordered.drop_duplicates(["method", "layer"]).sort_index()
    return best[list(SHOWN)].reset_index(drop=True)


def build(subject: Subject) -> Content:
    """The best threshold of every method and layer; shown where there was a sweep."""
    best = best_of_sweep(subject.run.sweep)
    tables = {"sweep": best}
    if best.empty:
        return Content(tables=tables, shown=False)
    top = best.iloc[int(best["dice"].to_numpy().argmax())]
    masks = count(int(top["masks_seen"]), "validation mask")
    sentence = (
        f"On {masks}, {top['method']} at {top['layer']} with the threshold "
        f"{number(top['threshold'], 2)} reached the highest Dice, {number(top['dice'])}. "
        "An experiment that takes its settings from here has seen these masks."
    )
    figures = {"sweep": sweep_figure(best)}
    return Content({"sentence": sentence}, tables, figures, shown=subject.scored)


def sweep_figure(best: pd.DataFrame) -> str:
    """Dice of methods (down) at layers (across), with the best threshold of each below it."""
    dice = best.pivot_table(index="method", columns="layer", values="dice", sort=False)
    at = best.pivot_table(index="method", columns="layer", values="threshold", sort=False)
    values, thresholds = dice.to_numpy(dtype=float), at.to_numpy(dtype=float)
    rows, columns = values.shape
    with matplotlib.rc_context(STYLE):
        fig = Figure(figsize=(1.8 + 1.05 * columns, 0.9 + 0.42 * rows), layout="constrained")
        ax = fig.add_subplot()
        ax.imshow(values, cmap="viridis", vmin=0, aspect="auto")
        middle = np.nanmax(values) * 0.65
        for y in range(rows):
            for x in range(columns):
                if np.isnan(values[y, x]):  # a method that has no layers, or a layer of such a one
                    continue
                ink = "black" if values[y, x] > middle else "white"
                label = f"{values[y, x]:.2f} at {thresholds[y, x]:.2f}"
                ax.text(x, y, label, ha="center", va="center", color=ink, fontsize=8)
        ax.set_xticks(range(columns), list(dice.columns))
        ax.set_yticks(range(rows), list(dice.index))
        ax.spines[:].set_visible(False)
        ax.tick_params(length=0)
        ax.set_title("Mean Dice of validation lesions, at the best threshold", loc="left")
        return as_svg(fig, "sweep")


TEMPLATE = r"""
<h2>Which heatmap, at which layer</h2>
{{ figure(figures.sweep, "Mean Dice of validation lesions by method and layer, with the best threshold on the heatmap over its own maximum.", wide=true) }}
<p class="note">{{ sentence }}</p>
"""

SECTION = Section("sweep", build, TEMPLATE)
