"""The one loop that makes masks and scores, whatever the method."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from weakseg.data.case_files import case_spacing
from weakseg.data.cases import Case
from weakseg.data.formats.writing import write_mask
from weakseg.layout import mask_file, masks_folder, method_folder, threshold_file
from weakseg.methods.base import Method, Prediction
from weakseg.methods.cases import case_entry, read_truth, scored_cases
from weakseg.methods.prepared import Prepared
from weakseg.prefetch import map_ahead
from weakseg.runs import remove_tree, write_json
from weakseg.scores import OF_HEAT, score_case

SCORERS, AHEAD = 2, 32
"""Threads that make, write and score masks, and how many cases they are ahead of the table."""

Predicted = Sequence[tuple[Method, Prediction]]
"""Masks of one case; those of one heatmap one after the other."""


Truth = Callable[[Sequence[int]], Any]
"""Shape of a case → its true mask, or None where it is not scored; read once."""


class Work(NamedTuple):
    """A case, and how its masks come about.

    Attributes
    ----------
    case : Case
    predict : callable
        `Truth` of the case → its masks.
    """

    case: Case
    predict: Callable[[Truth], Predicted]


class Scored(NamedTuple):
    """What the loop gives for a case.

    Attributes
    ----------
    rows : list of dict
        Rows of ``per_case.csv``, one a mask; none where the truth is not known.
    further : object
        What ``look`` said.
    """

    rows: list[dict[str, Any]]
    further: Any


def segment_cases(
    prepared: Prepared,
    work: Iterable[Work],
    seed: int,
    *,
    masks: Path | None = None,
    look: Callable[[Case, Predicted, Any], Any] | None = None,
    ahead: int = AHEAD,
) -> Iterator[Scored]:
    """Make the masks of cases, write them, and score those whose truth is known.

    Parameters
    ----------
    prepared : Prepared
    work : iterable of Work
    seed : int
        Under which the masks stand.
    masks : Path, optional
        The folder of masks; nothing is written without one.
    look : callable, optional
        (case, its masks, its truth or None) → anything, in another thread.
    ahead : int, optional
        How many cases may wait for their scores.

    Yields
    ------
    Scored
        In the order of ``work``.
    """
    scored = scored_cases(prepared)

    def of(one: Work) -> Scored:
        case = one.case
        truth_of = _truth_of(prepared, case, case.id in scored)
        predicted = one.predict(truth_of)
        for method, prediction in predicted:
            if masks is not None:
                path = mask_file(masks, method.name, seed, case.id, case.formats.mask_suffix)
                write_mask(path, prediction.mask, case.image)
        truth = truth_of(predicted[0][1].mask.shape) if predicted else None
        rows = [] if truth is None else _rows(case, predicted, truth, seed)
        return Scored(rows, None if look is None else look(case, predicted, truth))

    return map_ahead(of, work, workers=SCORERS, ahead=ahead)


def score_predictions(
    prepared: Prepared,
    method: Method,
    predictions: Iterable[tuple[Case, Prediction]],
    seed: int,
    masks: Path | None = None,
) -> Iterator[Scored]:
    """Write the masks of one method where asked for, and score those whose truth is known.

    Parameters
    ----------
    prepared : Prepared
    method : Method
    predictions : iterable of (Case, Prediction)
        Of some of the run's cases.
    seed : int
        Under which they stand.
    masks : Path, optional
        See `segment_cases`.
    """

    def ready(prediction: Prediction) -> Callable[[Truth], Predicted]:
        return lambda _: [(method, prediction)]

    work = (Work(case, ready(prediction)) for case, prediction in predictions)
    # As many maps as the method makes together may wait: of volumes, two.
    ahead = max(2, min(AHEAD, method.at_once))
    return segment_cases(prepared, work, seed, masks=masks, ahead=ahead)


def replace_masks(
    run: Path, fresh: Path, method: str, thresholds: Mapping[str, Mapping[str, Any]]
) -> None:
    """Put new masks of a method, with their thresholds, in the place of earlier ones.

    Parameters
    ----------
    run : Path
    fresh : Path
        See `weakseg.layout.fresh_masks`; it goes.
    method : str
    thresholds : mapping
        ``seed-<n>`` → entry; without any the method has no masks.
    """
    masks = method_folder(masks_folder(run), method)
    if thresholds:
        write_json(threshold_file(fresh, method), thresholds)
    remove_tree(masks)
    if thresholds:
        masks.parent.mkdir(exist_ok=True)
        method_folder(fresh, method).replace(masks)
    remove_tree(fresh)


def _truth_of(prepared: Prepared, case: Case, scored: bool) -> Truth:
    healthy = not prepared.cases.labels.is_lesion(case.label)

    @cache
    def read(shape: tuple[int, ...]) -> Any:
        return read_truth(case, shape, healthy, prepared.config.data) if scored else None

    return lambda shape: read(tuple(shape))


def _rows(case: Case, predicted: Predicted, truth: Any, seed: int) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    spacing, before = case_spacing(case), None
    of_map: dict[str, Any] = {}
    for method, p in predicted:
        same = before is p.map
        scores = score_case(p.mask, truth, heatmap=None if same else p.map, spacing=spacing)
        # The scores of the map itself are the same for every mask of it.
        of_map = of_map if same else {k: scores[k] for k in OF_HEAT}
        before = p.map
        flags = {"flat": p.flat, "gated": p.gated}
        known = {} if p.probability is None else {"probability": p.probability}
        entry = case_entry(case, method.name, method.kind, seed, method.masks_seen)
        rows.append(entry | scores | of_map | flags | known)
    return rows
