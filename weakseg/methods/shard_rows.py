"""Rows of scores as shards keep them: tables that are joined of them are the same to the byte."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict

from weakseg.methods.row_table import RowTable
from weakseg.methods.rows import Rows
from weakseg.runs import write_text
from weakseg.stored import read_json


class RowsContent(BaseModel):
    """`weakseg.layout.rows_file`: a list a heatmap and seed, in order; of floors one for all."""

    model_config = ConfigDict(strict=True)

    cases: list[list[dict[str, Any]]]
    volumes: list[list[dict[str, Any]]]
    lesions: list[list[dict[str, Any]]]
    dice: list[list[list[float]]]


def write_shard_rows(path: Path, rows: Sequence[Rows], dice: Sequence[Sequence[Any]] = ()) -> None:
    """Keep rows as they are: numbers to their last digit, and what is not a number.

    Parameters
    ----------
    path : Path
    rows : sequence of Rows
    dice : sequence of sequence of (T,) array_like
        Of each of ``rows`` the Dice of lesions at every threshold; of as many, or none.
    """
    content = {
        **{t: [list(getattr(r, t)) for r in rows] for t in ("cases", "volumes", "lesions")},
        "dice": [[np.asarray(d).tolist() for d in of] for of in dice],
    }
    write_text(path, json.dumps(content, default=lambda v: v.item()) + "\n")


def read_shard_rows(path: Path) -> tuple[list[Rows], list[list[list[float]]]]:
    """What `write_shard_rows` wrote.

    Raises
    ------
    RunError
        If it is missing or damaged.
    """
    of = read_json(path, model=RowsContent)
    tables = zip(of["cases"], of["volumes"], of["lesions"], strict=True)
    return [Rows(*map(RowTable, t)) for t in tables], of["dice"]
