"""The page of a sweep: its table of Dice, and what became of its jobs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd
from jinja2 import Environment, PackageLoader, StrictUndefined

from weakseg import __version__
from weakseg.report.policy import own, page_policy
from weakseg.sweeping.joint import CHOSEN, COUNTS, METHOD, PATIENTS, YOUDEN

MOST_BESIDE = 4
"""Methods that stand beside each other; of more, where settings are fewer, each has a row."""

LABELS_HEAD = ("method", "setting", "lesions found", "healthy images marked", "Youden's index")


@dataclass(frozen=True)
class Shown:
    """A job on the page."""

    name: str
    state: str
    why: str
    page: str | None


def sweep_page(
    title: str,
    dice: pd.DataFrame,
    jobs: Sequence[Shown],
    *,
    simulated: bool,
    folds: int | None,
    settings: int,
    left: Sequence[str],
    methods_left: Sequence[str],
    by_labels: Sequence[str] = (),
    labels: pd.DataFrame | None = None,
    others: Sequence[str] = (),
) -> str:
    """The page, with nothing outside itself but links to the pages of the runs.

    Parameters
    ----------
    title : str
    dice : DataFrame
        See `weakseg.sweeping.joint.dice_table`.
    jobs : sequence of Shown
    simulated : bool
        Whether the images are the phantom's.
    folds : int or None
        How many folds each row is made of.
    settings : int
        How many rows there would be of each method.
    left, methods_left : sequence of str
        See `weakseg.sweeping.joint.without_row` and `methods_without_row`.
    by_labels : sequence of str
        See `weakseg.sweeping.joint.said_of_labels`.
    labels : DataFrame, optional
        See `weakseg.sweeping.joint.labels_table`.
    others : sequence of str
        Runs of the folder that the sweep does not ask for.
    """
    upright, head, rows = _laid_out(dice)
    environment = Environment(
        loader=PackageLoader("weakseg", "sweeping"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("page.html.jinja").render(
        title=title,
        policy=page_policy(),
        style=own("page.css"),
        upright=upright,
        head=head,
        rows=rows,
        by_labels=by_labels,
        labels_head=LABELS_HEAD,
        labels=[] if labels is None else _of_labels(labels),
        others=others,
        jobs=jobs,
        settings=settings,
        left=left,
        methods_left=methods_left,
        simulated=simulated,
        folds=folds,
        weakseg=__version__,
    )


def _of_labels(table: pd.DataFrame) -> list[tuple[list[str], bool]]:
    """The table of labels as shown: the cells of a row, and whether it is the chosen one."""
    keys = [str(c) for c in table.columns if c not in (METHOD, *COUNTS, YOUDEN, CHOSEN)]
    rows = []
    for row in table.to_dict("records"):
        setting = ", ".join(f"{k}={row[k]}" for k in keys)
        shares = [f"{row[a]} of {row[b]}" for a, b in (COUNTS[:2], COUNTS[2:])]
        rows.append(([row[METHOD], setting, *shares, f"{row[YOUDEN]:.3f}"], bool(row[CHOSEN])))
    return rows


def _laid_out(dice: pd.DataFrame) -> tuple[bool, list[list[str]], list[list[str]]]:
    """The table as shown: whether a row is a setting, and no method; rows of its head; rows."""
    columns, rows = [str(c) for c in dice.columns], dice.astype(str).to_numpy().tolist()
    heads = columns.index(PATIENTS) + 1
    if len(columns) - heads <= max(MOST_BESIDE, len(rows)):
        return True, [columns], rows
    turned = [[name, *(row[k] for row in rows)] for k, name in enumerate(columns)]
    return False, turned[:heads], turned[heads:]
