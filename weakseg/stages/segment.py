"""The one loop that makes masks and scores, whatever the method."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cache, partial
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple

from weakseg.data.case_files import case_spacing, on_file, whole_spacing
from weakseg.data.cases import Case, Labels
from weakseg.data.formats.writing import write_mask
from weakseg.data.slices import volume_frame
from weakseg.layout import mask_file, masks_folder, method_folder, threshold_file
from weakseg.methods.base import Method, Prediction
from weakseg.methods.cases import case_entry, read_truth, scored_cases
from weakseg.methods.clean_up import clean_slices, clean_whole
from weakseg.methods.lesions import Values, lesion_rows, lesion_values
from weakseg.methods.prepared import Prepared
from weakseg.prefetch import map_ahead
from weakseg.runs import remove_tree, write_json
from weakseg.scores import OF_HEAT, score_case

SCORERS, AHEAD, VOLUMES_AHEAD = 2, 32, 2
"""Threads that make, write and score masks, and how many files they are ahead of the table."""

Predicted = Sequence[tuple[Method, Prediction]]
"""Masks of one case; those of one heatmap one after the other."""


Truth = Callable[[Sequence[int]], Any]
"""Shape of a case → its true mask, or None where it is not scored; read once."""


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
    rows : list of dict
        Rows of ``per_case.csv``, one a case and mask; none where the truth is not known.
    further : list
        What ``look`` said of each case.
    volumes : list of dict
        Rows of ``per_volume.csv``, one a mask, of slices; none where some truth is not known.
    lesions : list of dict
        Rows of ``lesions.csv``, one a lesion and mask, where masks are written.
    """

    rows: list[dict[str, Any]]
    further: list[Any]
    volumes: list[dict[str, Any]]
    lesions: list[dict[str, Any]]

    @property
    def cases(self) -> int:
        """How many cases the file has."""
        return len(self.further)


class _Made(NamedTuple):
    """The masks of one case."""

    case: Case
    predicted: Predicted
    truth_of: Truth

    @property
    def truth(self) -> Any:
        """The true mask, or None."""
        return self.truth_of(self.predicted[0][1].mask.shape) if self.predicted else None


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
            made.append(_Made(case, one.predict(case, truth_of), truth_of))
        if prepared.config.volumes.changes:
            made = _cleaned(made, prepared)
        lesions: list[dict[str, Any]] = []
        if masks is not None:
            _write(made, masks, seed)
            lesions = list(_lesions(prepared, made, seed))
        rows = [row for m in made if m.truth is not None for row in _rows(m, seed)]
        said = [None if look is None else look(m.case, m.predicted, m.truth) for m in made]
        return Scored(rows, said, _volume_rows(prepared, made, seed), lesions)

    few = min(ahead, VOLUMES_AHEAD) if prepared.cases.sliced else ahead
    return map_ahead(of, work, workers=SCORERS, ahead=few)


def _by_method(made: Sequence[_Made]) -> dict[str, list[tuple[Case, Method, Prediction]]]:
    """Every method with the cases that it has made masks of."""
    by_method: dict[str, list[tuple[Case, Method, Prediction]]] = {}
    for m in made:
        for method, prediction in m.predicted:
            by_method.setdefault(method.name, []).append((m.case, method, prediction))
    return by_method


def _write(made: Sequence[_Made], masks: Path, seed: int) -> None:
    """Write the masks of a file, one a method."""
    for name, of in _by_method(made).items():
        case = of[0][0]
        path = mask_file(masks, name, seed, case.file, case.formats.mask_suffix)
        whole = on_file([c for c, _, _ in of], [p.mask for _, _, p in of])
        write_mask(path, whole, case.image)


def _lesions(prepared: Prepared, made: Sequence[_Made], seed: int) -> Iterator[dict[str, Any]]:
    """Each lesion of the masks of a file, measured in the file as a whole."""
    data = prepared.config.data

    @cache
    def values() -> Values:
        return lesion_values(replace(made[0].case, slice=None), data)

    for name, of in _by_method(made).items():
        cases, predictions = [c for c, _, _ in of], [p for _, _, p in of]
        said = {c.slice: p.probability for c, p in zip(cases, predictions, strict=True)}
        whole = replace(cases[0], id=cases[0].file, slice=None)
        rows = lesion_rows(
            whole,
            on_file(cases, [p.mask for p in predictions]),
            on_file(cases, [p.map for p in predictions]),
            said.get if cases[0].slice is not None else partial(_same, predictions[0].probability),
            values,
        )
        entry = {"method": name, "seed": seed, "case": whole.id, "patient": whole.patient}
        yield from (entry | {k: v for k, v in row.items() if k != "file"} for row in rows)


def _same(probability: float | None, _: int) -> float | None:
    return probability


def _cleaned(made: Sequence[_Made], prepared: Prepared) -> list[_Made]:
    """The masks of whole volumes, or of a volume's slices together, cleaned up."""
    how = prepared.config.volumes
    if prepared.cases.dims == 3:
        return [
            m._replace(predicted=[(method, clean_whole(p, how)) for method, p in m.predicted])
            for m in made
        ]
    if not prepared.cases.sliced:
        return list(made)
    after: dict[tuple[str, str], Prediction] = {}
    for name, of in _by_method(made).items():
        cases = [c for c, _, _ in of]
        shape = volume_frame(cases[0].image).shape
        cleaned = clean_slices(cases, [p for *_, p in of], shape, how)
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


def _rows(made: _Made, seed: int) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    case, truth = made.case, made.truth
    spacing, before = case_spacing(case), None
    of_map: dict[str, Any] = {}
    for method, p in made.predicted:
        same = before is p.map
        scores = score_case(p.mask, truth, heatmap=None if same else p.map, spacing=spacing)
        # The scores of the map itself are the same for every mask of it.
        of_map = of_map if same else {k: scores[k] for k in OF_HEAT}
        before = p.map
        flags = {"flat": p.flat, "gated": p.gated}
        said = {} if p.probability is None else {"probability": p.probability}
        entry = case_entry(case, method.name, method.kind, seed, method.masks_seen)
        rows.append(entry | scores | of_map | flags | said)
    return rows


def _volume_rows(prepared: Prepared, made: Sequence[_Made], seed: int) -> list[dict[str, Any]]:
    """The scores of a whole volume, over the slices that the manifest lists."""
    if not prepared.cases.sliced:
        return []
    truths = {m.case.id: m.truth for m in made}
    rows = []
    for of in _by_method(made).values():
        cases, method = [c for c, _, _ in of], of[0][1]
        if len(of) < len(made) or any(truths[c.id] is None for c in cases):
            continue
        predictions = [p for _, _, p in of]
        scores = score_volume(cases, [p.mask for p in predictions], [truths[c.id] for c in cases])
        said = [p.probability for p in predictions if p.probability is not None]
        flags = {
            "flat": all(p.flat for p in predictions),
            "gated": all(p.gated for p in predictions),
        }
        highest = {"probability": max(said)} if said else {}
        volume = whole_case(cases, prepared.cases.labels)
        entry = case_entry(volume, method.name, method.kind, seed, method.masks_seen)
        rows.append(entry | scores | flags | highest)
    return rows


def whole_case(cases: Sequence[Case], labels: Labels) -> Case:
    """The volume of some slices: of a lesion's label if any of them is, the first such one."""
    first = next((c for c in cases if labels.is_lesion(c.label)), cases[0])
    return replace(first, id=first.file, slice=None)


def score_volume(
    cases: Sequence[Case], masks: Sequence[Any], truths: Sequence[Any]
) -> dict[str, Any]:
    """The scores of a volume's mask, in mm where its spacing is known; no heat is scored."""
    return score_case(
        on_file(cases, masks), on_file(cases, truths), spacing=whole_spacing(cases[0])
    )
