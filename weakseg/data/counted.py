"""What a manifest holds, counted in one sentence: how its labels were understood above all."""

from __future__ import annotations

from collections import Counter

from weakseg.data.cases import Labels
from weakseg.data.table import Table
from weakseg.errors import count

MOST_LABELS = 8
"""Labels of a kind that are named."""


def counted(table: Table, labels: Labels) -> str:
    """Images, patients, masks, and which labels mean that there is a lesion and which do not.

    Parameters
    ----------
    table : Table
    labels : Labels
        How the labels of its rows are understood.
    """
    rows = table.rows
    noun = rows[0].noun if rows else table.formats.noun
    whole = count(len(rows), noun)
    if table.has_patients:
        whole += f" of {count(len({r.patient for r in rows}), 'patient')}"
    of = Counter(r.label for r in rows)
    masks = sum(bool(r.mask) for r in rows)
    return "; ".join(
        [
            whole,
            f"without a lesion: {_listed(labels.healthy, of)}",
            f"with a lesion: {_listed(labels.lesion, of)}",
            f"with a mask: {masks}",
        ]
    )


def _listed(labels: tuple[str, ...], of: Counter[str]) -> str:
    """Labels with how many rows have each."""
    shown = [f"{label} ({of[label]})" for label in labels[:MOST_LABELS]]
    more = len(labels) - MOST_LABELS
    return ", ".join([*shown, *([count(more, "more label")] if more > 0 else [])]) or "none"
