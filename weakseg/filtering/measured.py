"""Every measure of `weakseg.filtering.faithfulness`, of images of a set and what marks them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pandas as pd

from weakseg.config import Condition
from weakseg.data.arrays import ImageBatches
from weakseg.filtering.faithfulness import (
    Area,
    Preserved,
    Row,
    areas,
    deletion,
    insertion,
    preserved,
    road,
)
from weakseg.filtering.perturbed import Predict
from weakseg.filtering.questions import named
from weakseg.filtering.selectors import Selector
from weakseg.scores import cluster_mean_interval

AT_ONCE = 16
"""Images that are held at once."""


def score_selection(
    predict: Predict,
    images: ImageBatches,
    chosen: Sequence[int],
    selector: Selector,
    classes: Sequence[int],
    means: Any,
    *,
    steps: int,
    percents: Sequence[float],
    seed: int,
    advance: Callable[..., None],
) -> list[pd.DataFrame]:
    """ROAD, deletion, insertion and preservation of some images.

    Parameters
    ----------
    predict : callable
        See `weakseg.filtering.perturbed.Predict`.
    images : ImageBatches
    chosen : sequence of int
        Their numbers.
    selector : Selector
        Gives each image's heat, and the mask whose preservation is scored.
    classes : sequence of int
        That the heatmaps explain together.
    means : (C,) array
        What fills a channel.
    steps, percents : int, sequence of float
        Of deletion and insertion, and of ROAD.
    seed : int
    advance : callable
        Called with the number of images that are done.

    Returns
    -------
    list of DataFrame
        A row of `Row`, of `Area` and of `Preserved` each.
    """
    hard = Condition("heat", "hard")
    curves: list[Row] = []
    kept: list[Preserved] = []
    for start in range(0, len(chosen), AT_ONCE):
        part = chosen[start : start + AT_ONCE]
        pixels = images.images(part).numpy()
        heat = np.stack([selector.heat(i) for i in part])
        valid = np.stack([selector.valid(i) for i in part])
        marks = np.stack([selector.selection(i, hard) for i in part]) > 0.5
        scene = (predict, pixels, heat, valid, classes)
        of: dict[str, Any] = {"keys": part, "seed": seed}
        both: dict[str, Any] = {"orders": ("most", "random"), "steps": steps, **of}
        curves += road(*scene, percents=percents, **of)
        curves += deletion(*scene, fill=means, **both)
        curves += insertion(*scene, **both)
        kept += preserved(predict, pixels, marks, valid, classes, fill=means, **of)
        advance(len(part))
    whole = [r for r in curves if r.measure != "road"]
    made: tuple[tuple[Sequence[Any], Any], ...] = (
        *((curves, Row), (areas(whole), Area), (kept, Preserved)),
    )
    return [pd.DataFrame(list(rows), columns=list(kind._fields)) for rows, kind in made]


def summarise_measures(
    curves: pd.DataFrame,
    areas: pd.DataFrame,
    kept: pd.DataFrame,
    *,
    by_image: bool,
    bootstrap: int,
    seed: int,
) -> list[dict[str, Any]]:
    """Mean and interval of every measure over images, by patient.

    Parameters
    ----------
    curves, areas, kept : DataFrame
        As `score_selection` gives them, with the column ``patient``; of several seeds one below
        the other.
    by_image : bool
        Whether each image has a target of its own: the probability of the class that is predicted
        is followed then, else the target's.
    bootstrap, seed : int
        See `weakseg.scores.cluster_mean_interval`.

    Returns
    -------
    list of dict
        ``measure``, ``order``, ``kind`` (curve, area, preserved), of curves ``share``; ``value``,
        ``low``, ``high``, ``images``, ``patients``. None where no network calls any image the
        target.
    """
    of_curve, of_area = ("p_predicted", "predicted") if by_image else ("p_target", "target")
    rows: list[dict[str, Any]] = []

    def add(values: pd.DataFrame, column: str, **what: Any) -> None:
        mean = cluster_mean_interval(
            values[column].to_numpy(dtype=float),
            values["patient"].to_numpy(dtype=str),
            bootstrap=bootstrap,
            seed=seed,
        )
        rows.append(what | named(mean) | {"images": mean.cases, "patients": mean.patients})

    if curves.empty:
        return []
    for share, at in curves.groupby("share"):
        for (measure, order), part in at.groupby(["measure", "order"]):
            what = {"measure": measure, "order": order, "share": round(float(str(share)), 4)}
            add(part, of_curve, **what, kind="curve")
    for (measure, order), part in areas.groupby(["measure", "order"]):
        add(part, of_area, measure=measure, order=order, kind="area")
    for column in ("prediction_preserved", "probability_kept", "image_preserved"):
        add(kept, column, measure=column, order="most", kind="preserved")
    return rows
