"""The rows of the masks of one file: of its cases, of the volume whole, and of every lesion."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache, partial
from typing import Any, NamedTuple

from weakseg.config import DataConfig
from weakseg.data.case_files import case_spacing, on_file, whole_spacing
from weakseg.data.cases import Case, Labels
from weakseg.methods.base import Method, Prediction
from weakseg.methods.cases import case_entry
from weakseg.methods.lesions import Values, lesion_rows, lesion_values
from weakseg.methods.row_table import RowTable
from weakseg.scores import OF_HEAT, score_case

Predicted = Sequence[tuple[Method, Prediction]]
"""Masks of one case; those of one heatmap one after the other."""

Truth = Callable[[Sequence[int]], Any]
"""Shape of a case → its true mask, or None where it is not scored; read once."""


class Made(NamedTuple):
    """The masks of one case."""

    case: Case
    predicted: Predicted
    truth_of: Truth

    @property
    def truth(self) -> Any:
        """The true mask, or None."""
        return self.truth_of(self.predicted[0][1].mask.shape) if self.predicted else None


@dataclass
class Rows:
    """Rows of the tables of masks.

    Attributes
    ----------
    cases : RowTable
        Of ``per_case.csv``, one a case and mask; none where the truth is not known.
    volumes : RowTable
        Of ``per_volume.csv``, one a mask, of slices; none where some truth is not known.
    lesions : RowTable
        Of ``lesions.csv``, one a lesion and mask, where masks are written.
    """

    cases: RowTable = field(default_factory=RowTable)
    volumes: RowTable = field(default_factory=RowTable)
    lesions: RowTable = field(default_factory=RowTable)

    def __iadd__(self, other: Rows) -> Rows:
        self.cases += other.cases
        self.volumes += other.volumes
        self.lesions += other.lesions
        return self

    def by_method(self, names: Sequence[str]) -> Rows:
        """The same rows, method by method."""
        return Rows(*(t.by("method", names) for t in (self.cases, self.volumes, self.lesions)))


def by_method(made: Sequence[Made]) -> dict[str, list[tuple[Case, Method, Prediction]]]:
    """Every method with the cases that it has made masks of."""
    methods: dict[str, list[tuple[Case, Method, Prediction]]] = {}
    for m in made:
        for method, prediction in m.predicted:
            methods.setdefault(method.name, []).append((m.case, method, prediction))
    return methods


def case_rows(made: Made, seed: int) -> list[dict[str, Any]]:
    """The scores of a case's masks; none where the truth is not known."""
    rows: list[dict[str, Any]] = []
    case, truth = made.case, made.truth
    if truth is None:
        return rows
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


def volume_rows(made: Sequence[Made], labels: Labels, seed: int) -> list[dict[str, Any]]:
    """The scores of a whole volume, over the slices that the manifest lists; none of whole files.

    Parameters
    ----------
    made : sequence of Made
        The cases of one file.
    labels : Labels
    seed : int
    """
    if any(m.case.slice is None for m in made):
        return []
    truths = {m.case.id: m.truth for m in made}
    rows = []
    for of in by_method(made).values():
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
        volume = whole_case(cases, labels)
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


def rows_of_lesions(made: Sequence[Made], data: DataConfig, seed: int) -> list[dict[str, Any]]:
    """Each lesion of the masks of a file, measured in the file as a whole."""

    @cache
    def values() -> Values:
        return lesion_values(replace(made[0].case, slice=None), data)

    def of_method(of: Sequence[tuple[Case, Method, Prediction]]) -> Iterator[Mapping[str, Any]]:
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
        entry = {"method": of[0][1].name, "seed": seed, "case": whole.id, "patient": whole.patient}
        yield from (entry | {k: v for k, v in row.items() if k != "file"} for row in rows)

    return [dict(row) for of in by_method(made).values() for row in of_method(of)]


def _same(probability: float | None, _: int) -> float | None:
    return probability
