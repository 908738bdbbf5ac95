"""The gate: the probability below which the classifiers' word makes an image's mask empty."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from weakseg.errors import UserError
from weakseg.layout import PREDICTIONS
from weakseg.scores import youden_threshold
from weakseg.stages.train_classifier import read_predictions
from weakseg.stored import DELETE, damaged

DIGITS = 6
"""Of a probability: as many as the classifiers' ``predictions.csv`` holds."""


def chosen_gate(
    gate: float | str, predictions: pd.DataFrame, lesion_labels: Sequence[str]
) -> float:
    """A gate as a probability.

    Parameters
    ----------
    gate : float or str
        A probability; ``none``, which is 0; or ``validation``: Youden's best cut on the
        validation labels.
    predictions : DataFrame
        ``split``, ``label`` and ``lesion_probability`` of every image; no mask is looked at.
    lesion_labels : sequence of str

    Raises
    ------
    UserError
        If the validation split holds one kind of image only.
    """
    if gate == "none":
        return 0.0
    if gate != "validation":
        return float(gate)
    val = predictions[predictions["split"] == "val"]
    truth = val["label"].isin(list(lesion_labels)).to_numpy()
    if truth.all() or not truth.any():
        raise UserError(
            "The gate cannot be chosen on the validation labels.",
            where="masks.gate: validation",
            found="only one kind of image in the validation split",
            fix="set masks.gate to a probability, such as 0.5",
        )
    return youden_threshold(truth, val["lesion_probability"].to_numpy())


def mean_predictions(folders: Sequence[Path]) -> pd.DataFrame:
    """The predictions of several classifiers' folders, probabilities of a lesion averaged."""
    tables = [read_predictions(f) for f in folders]
    cases = tables[0]["case"]
    for folder, table in zip(folders, tables, strict=True):
        if set(table["case"]) != set(cases) or table["lesion_probability"].isna().any():
            found = f"not a probability of each case of {folders[0] / PREDICTIONS}"
            raise damaged(folder / PREDICTIONS, found, DELETE)
    said = [t.set_index("case").loc[cases, "lesion_probability"] for t in tables]
    return tables[0].assign(lesion_probability=mean_probability(said))


def mean_probability(each: Sequence[Any]) -> Any:
    """What several classifiers say, each rounded as ``predictions.csv`` holds it."""
    return np.round(
        np.mean([np.round(np.asarray(p, dtype=float), DIGITS) for p in each], 0), DIGITS
    )
