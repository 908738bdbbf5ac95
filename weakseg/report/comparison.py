"""Several runs on one page: a common table, and who is better where that can be told."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd
from markupsafe import Markup

from weakseg.report import figures, words
from weakseg.report.colours import method_colours
from weakseg.report.read import RunTables
from weakseg.report.tables import GROUPS, comparable, paired_difference


def side_by_side(
    runs: Sequence[RunTables], methods: Sequence[pd.DataFrame], headlines: Sequence[str | None]
) -> dict[str, Any]:
    """What a page says of several runs at once.

    Parameters
    ----------
    runs : sequence of RunTables
    methods : sequence of DataFrame
        Each run's `weakseg.report.tables.method_table`.
    headlines : sequence of str or None
        The method that each run is judged by.

    Returns
    -------
    dict
        ``comparable``; ``note``, why not or what to mind, or None; ``sentences``; ``methods``, the
        rows of the common table; ``figure``, SVG or None; ``colours``, a method's.
    """
    prints = [str(r.data.get("fingerprint", "")) for r in runs]
    same, why = comparable(prints, [r.splits for r in runs])
    table = _common_table(runs, methods)
    figure = None
    if same and len(table):
        names = [f"{r}: {m}" for r, m in zip(table["run"], table["method"], strict=True)]
        figure = Markup(figures.in_page(figures.dice_figure(table, names), "all"))
    return {
        "comparable": same,
        "note": why,
        "sentences": _run_sentences(runs, headlines) if same else [],
        "methods": table.to_dict(orient="records"),
        "figure": figure,
        "colours": method_colours(dict(zip(table["method"], table["group"], strict=True)))
        if len(table)
        else {},
    }


def named(table: pd.DataFrame, run: str) -> pd.DataFrame:
    """A copy whose first column names the run."""
    table = table.copy()
    table.insert(0, "run", run)
    return table


def _common_table(runs: Sequence[RunTables], methods: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """The methods of all runs by group and Dice; of each run's floors only the best."""
    frames = [named(m, r.name) for m, r in zip(methods, runs, strict=True) if len(m)]
    if not frames:
        return pd.DataFrame()
    table = pd.concat(frames, ignore_index=True)
    table = table[(table["group"] != "floor") | (table["method"] == table["floor"])]
    table = table.assign(_order=table["group"].map(list(GROUPS).index))
    table = table.sort_values(["_order", "dice"], ascending=[True, False], kind="stable")
    return table.drop(columns="_order").reset_index(drop=True)


def _run_sentences(runs: Sequence[RunTables], headlines: Sequence[str | None]) -> list[str]:
    """The best run against each other one, case by case."""
    scored = [(r, m) for r, m in zip(runs, headlines, strict=True) if m is not None]
    dice = {r.name: r.summary.loc[r.summary["method"] == m, "dice"].iloc[0] for r, m in scored}
    scored.sort(key=lambda pair: dice[pair[0].name], reverse=True)
    sentences = []
    for run, method in scored[1:]:
        best, best_method = scored[0]
        pair = (("one", best, best_method), ("other", run, method))
        rows = pd.concat(
            [r.per_case[r.per_case["method"] == m].assign(method=name) for name, r, m in pair]
        )
        draw = {"bootstrap": best.config.scores.bootstrap, "seed": best.config.seed}
        difference = paired_difference(rows, "one", "other", **draw)
        names = [f"{r.name} ({m})" for _, r, m in pair]
        sentences.append(words.lead(names[0], names[1], difference))
    return sentences
