"""The one loop that makes masks, writes them and scores them, whatever the method."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cache
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple

from weakseg.config import VolumesConfig
from weakseg.data.case_files import on_file
from weakseg.data.cases import Case
from weakseg.data.formats.writing import write_mask
from weakseg.layout import mask_file
from weakseg.methods.base import Method, Prediction
from weakseg.methods.cases import read_truth, scored_cases
from weakseg.methods.clean_up import clean_up
from weakseg.methods.prepared import Prepared
from weakseg.methods.rows import (
    Made,
    Predicted,
    Rows,
    Truth,
    by_method,
    case_rows,
    rows_of_lesions,
    volume_rows,
)
from weakseg.prefetch import map_ahead

SCORERS, AHEAD, VOLUMES_AHEAD = 2, 32, 2
"""Threads that make, write and score masks, and how many files they are ahead of the table."""


class Work(NamedTuple):
    """The cases of one file, and how their masks come about.

    Attributes
    ----------
    cases : sequence of Case
        One, or slices of a volume.
    predict : callable
        (case, `Truth` of the case) → its masks.
    """

    cases: Sequence[Case]
    predict: Callable[[Case, Truth], Predicted]


class Scored(NamedTuple):
    """What the loop gives for a file.

    Attributes
    ----------
    rows : Rows
    looked : list
        What ``look`` said of each case.
    """

    rows: Rows
    looked: list[Any]

    @property
    def cases(self) -> int:
        """How many cases the file has."""
        return len(self.looked)


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

    Slices of a volume are cleaned up together (``volumes`` of the experiment), written as one
    file, and scored one by one and as a volume.

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
        How many files may wait for their scores.

    Yields
    ------
    Scored
        In the order of ``work``.
    """
    scored = scored_cases(prepared)

    def of(one: Work) -> Scored:
        made = []
        for case in one.cases:
            truth_of = _truth_of(prepared, case, case.id in scored)
            made.append(Made(case, one.predict(case, truth_of), truth_of))
        if prepared.config.volumes.changes:
            made = _cleaned(made, prepared.config.volumes)
        rows = Rows()
        if masks is not None:
            _write(made, masks, seed)
            rows.lesions += rows_of_lesions(made, prepared.config.data, seed)
        for m in made:
            rows.cases += case_rows(m, seed)
        looked = [None if look is None else look(m.case, m.predicted, m.truth) for m in made]
        rows.volumes += volume_rows(made, prepared.cases.labels, seed)
        return Scored(rows, looked)

    few = min(ahead, VOLUMES_AHEAD) if prepared.cases.sliced else ahead
    return map_ahead(of, work, workers=SCORERS, ahead=few)


def _write(made: Sequence[Made], masks: Path, seed: int) -> None:
    """Write the masks of a file, one a method."""
    for name, of in by_method(made).items():
        case = of[0][0]
        path = mask_file(masks, name, seed, case.file, case.formats.mask_suffix)
        whole = on_file([c for c, _, _ in of], [p.mask for _, _, p in of])
        write_mask(path, whole, case.image)


def _cleaned(made: Sequence[Made], how: VolumesConfig) -> list[Made]:
    """The masks of a file, cleaned up, whatever it holds."""
    after: dict[tuple[str, str], Prediction] = {}
    for name, of in by_method(made).items():
        cases = [c for c, _, _ in of]
        cleaned = clean_up(cases, [p for *_, p in of], how)
        after |= {(name, c.id): p for c, p in zip(cases, cleaned, strict=True)}
    return [
        m._replace(predicted=[(method, after[method.name, m.case.id]) for method, _ in m.predicted])
        for m in made
    ]


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
        Of some of the run's cases, slices of a volume one after the other.
    seed : int
        Under which they stand.
    masks : Path, optional
        See `segment_cases`.
    """

    def ready(made: Mapping[str, Prediction]) -> Callable[[Case, Truth], Predicted]:
        return lambda case, _: [(method, made[case.id])]

    def of_files() -> Iterator[Work]:
        for _, some in groupby(predictions, key=lambda made: made[0].file):
            made = dict(some)
            yield Work(list(made), ready({c.id: p for c, p in made.items()}))

    work = of_files()
    # As many maps as the method makes together may wait: of volumes, two.
    ahead = max(2, min(AHEAD, method.at_once))
    return segment_cases(prepared, work, seed, masks=masks, ahead=ahead)


def _truth_of(prepared: Prepared, case: Case, scored: bool) -> Truth:
    healthy = not prepared.cases.labels.is_lesion(case.label)

    @cache
    def read(shape: tuple[int, ...]) -> Any:
        return read_truth(case, shape, healthy, prepared.config.data) if scored else None

    return lambda shape: read(tuple(shape))
