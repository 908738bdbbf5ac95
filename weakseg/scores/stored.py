"""Tables of scores as a run keeps them, read."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from weakseg import contents
from weakseg.layout import PER_CASE, SUMMARY, scores_file
from weakseg.stored import read_csv


def read_rows(path: Path) -> pd.DataFrame:
    """A table of scores by case, names as text even where they look like numbers."""
    return read_csv(path, contents.PER_CASE, unique=("case", "method", "seed"))


def read_lesions(path: Path) -> pd.DataFrame:
    """A table of measured lesions."""
    return read_csv(path, contents.LESIONS, unique=("method", "seed", "case", "lesion"))


def read_per_case(run: Path) -> pd.DataFrame:
    """The table of scores by case of a run."""
    return read_rows(scores_file(run, PER_CASE))


def read_summary(run: Path) -> pd.DataFrame:
    """The table of methods; empty where nothing could be scored."""
    return read_csv(scores_file(run, SUMMARY), contents.SUMMARY, unique=("method",))
