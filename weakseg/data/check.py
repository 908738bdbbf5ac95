"""Every problem of a manifest and its files in one pass, before hours of work are built on them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from weakseg.config import DataConfig
from weakseg.data.cases import Labels
from weakseg.data.check_files import Seen
from weakseg.data.check_grids import grid_problems
from weakseg.data.check_identity import NAMES_PATIENT
from weakseg.data.check_masks import (
    MASK_FULL,
    bordered_problems,
    orientation_problems,
    polarity_problem,
    value_problems,
)
from weakseg.data.check_splits import TestedBy, lesion_patients, split_problems, way_of_testing
from weakseg.data.counted import counted
from weakseg.data.inspect_files import look_at_rows
from weakseg.data.manifest import (
    Problem,
    Row,
    Table,
    look_alikes,
    read_configured,
    row_problems,
    table_labels,
)
from weakseg.data.mask_parts import join_fix, left_out_masks, masks_to_join
from weakseg.data.near_files import forget_folders
from weakseg.data.table import JOINED
from weakseg.disk import as_path
from weakseg.errors import DataError, check_argument, count
from weakseg.settings import LEAST_PATIENTS

__all__ = [
    "Findings",
    "Problem",
    "check_manifest",
    "check_table",
    "format_problems",
    "problems_json",
]


Progress = Callable[[int, int], object]

_FOLDS = "test every patient once: weakseg sweep CONFIG --folds 5"
_TEST_MORE: dict[TestedBy, str] = {
    "share": f"add patients, raise data.split.test, or {_FOLDS}",
    "folds": "add patients",
    "leave_out": f"add patients, or leave data.split.leave_out out and {_FOLDS}",
    "column": "add patients, put more patients into test, or rename the column (published_split) "
    f"and {_FOLDS}",
}
"""How more patients come to be tested."""


@dataclass(frozen=True)
class Findings:
    """What looking into every file of a manifest has shown.

    Attributes
    ----------
    problems : list of Problem
        Sorted by row, those of the whole manifest first; empty where all is well.
    grey : bool
        Whether no image holds a colour.
    groups : list of str or None
        Of each row the group of images that look alike, where no row names a patient.
    lesion_patients : int or None
        Who is tested and has a lesion, counted, in all folds together where there are folds; None
        where errors keep patients from being dealt.
    tested_by : {"share", "folds", "leave_out", "column"}
        What says who is tested.
    holds : str or None
        What the manifest holds, counted; None where its labels are not understood.
    """

    problems: list[Problem]
    grey: bool = True
    groups: list[str] | None = None
    lesion_patients: int | None = None
    tested_by: TestedBy = "share"
    holds: str | None = None

    @property
    def few_tested(self) -> str | None:
        """That too few patients with a lesion are tested for any claim; None where enough are."""
        n = self.lesion_patients
        if n is None or n >= LEAST_PATIENTS:
            return None
        none = "no interval" if n == 1 else "no interval that can be trusted"
        tested = "the test images with a lesion"
        tested += ", of all folds together," if self.tested_by == "folds" else ""
        return (
            f"{tested} are of {count(n, 'patient')}, fewer than "
            f"{LEAST_PATIENTS}: there will be {none}, and the report calls no method better than "
            f"another; {_TEST_MORE[self.tested_by]}"
        )


def check_manifest(
    path: Path, data: DataConfig, *, progress: Progress | None = None
) -> list[Problem]:
    """List everything that is wrong with a manifest.

    Every image, volume and mask is decoded.

    Parameters
    ----------
    path : Path
    data : DataConfig
        What labels and mask values mean.
    progress : callable, optional
        Called now and then, with the number of rows that have been looked at since the last
        time, and of all.

    Returns
    -------
    list of Problem
        Sorted by row, those of the whole manifest first; empty where all is well.
    """
    return look_into(path, data, progress=progress).problems


def look_into(path: Path, data: DataConfig, *, progress: Progress | None = None) -> Findings:
    """As `check_manifest`, with all else that looking has shown."""
    path = as_path(path, "a manifest")
    check_argument(data, DataConfig, "data", "a DataConfig, such as load_config(path).data")
    try:
        table = read_configured(path, data)
    except DataError as e:
        detail = f" ({e.found})" if e.found else ""
        at = f"{e.where}: " if e.where else ""
        told = Problem("manifest", None, None, f"{at}{e.what}{detail}", e.fix or "")
        return Findings([told])
    return check_table(table, data, progress=progress)


def check_table(table: Table, data: DataConfig, *, progress: Progress | None = None) -> Findings:
    """As `check_manifest`, of a manifest whose text has been read."""
    try:
        labels = table_labels(table, data)
    except DataError:  # row_problems tells
        labels = None
    problems = list(row_problems(table, data))
    images = [table.real(r.image) if r.image else None for r in table.rows]
    problems += _same_paths(table)
    problems += left_out_masks(table)
    seen: list[Seen] = []
    for some in look_at_rows(table, data, labels):
        seen += some
        if progress is not None:
            progress(len(some), len(table.rows))
    forget_folders()
    for s in seen:
        problems += s.problems
    looks = [s.mask for s in seen]
    if inverted := polarity_problem(table, looks):
        problems = [inverted, *(p for p in problems if p.kind != MASK_FULL)]
    problems += bordered_problems(table, looks) if not inverted else ()
    problems += value_problems(table, looks, data.mask_rule)
    problems += _shared_masks(table, labels)
    problems += orientation_problems(table, looks, [s.orientation for s in seen])
    problems += grid_problems(table, seen)
    problems += _same_pixels(table, [s.digest for s in seen], images)
    groups = None
    if not table.has_patients and not table.formats.one_patient:
        groups = look_alikes(table, [s.small for s in seen])
    problems += split_problems(table, data, labels, groups)
    tested = None
    if labels is not None and not any(p.severity == "error" for p in problems):
        try:
            tested = lesion_patients(table, data, labels, groups)
        except DataError as e:
            problems.append(
                Problem("split-impossible", None, None, e.what.rstrip("."), e.fix or "")
            )
    grey, how = all(s.grey for s in seen), way_of_testing(table, data)
    if named := {p.row for p in problems if p.kind == NAMES_PATIENT}:  # others would repeat it
        problems = [p for p in problems if p.kind == NAMES_PATIENT or p.row not in {None, *named}]
    problems.sort(key=lambda p: p.row or 0)
    holds = None if labels is None else counted(table, labels)
    return Findings(problems, grey, groups, tested, how, holds)


def _same_paths(table: Table) -> Iterator[Problem]:
    first: dict[tuple[str, int | None], Row] = {}
    joined = masks_to_join(table)
    for row in table.rows:
        for k, cell in enumerate(row.modalities):
            image = table.real(cell)
            key = (image, row.index)
            if key not in first:
                first[key] = row
            else:
                earlier = first[key]
                place = "this row" if earlier is row else f"row {earlier.line}"
                fix = "name the file of the other modality" if k else "keep one of the two rows"
                if image in joined and earlier is not row and not k:
                    fix = join_fix(joined[image])
                what = f"the {'slice' if row.is_slice else 'image'} is listed in {place} already"
                if row.label != earlier.label:
                    what += f", with the label {earlier.label!r} and not {row.label!r}"
                yield Problem("image-twice", row.line, cell, what, fix)


def _shared_masks(table: Table, labels: Labels | None) -> Iterator[Problem]:
    """A warning where a lesion's mask is that of another image, but for images of one patient.

    Slices of a volume share its file, and sequences of a patient may be drawn together.
    """
    first: dict[str, Row] = {}
    for row in table.rows:
        lesion = labels is not None and row.label in labels.names and labels.is_lesion(row.label)
        for cell in table.masks(row) if lesion and not row.is_slice else ():
            earlier = first.setdefault(table.real(cell), row)
            if earlier is row or (row.patient and row.patient == earlier.patient):
                continue
            yield Problem(
                "mask-twice",
                row.line,
                cell,
                f"the mask is that of {earlier.image} in row {earlier.line}, too"
                + (", which is of another patient" if row.patient else ""),
                "name the image's own mask"
                + ("" if row.patient else "; if it is of both, name their patient"),
                "warning",
            )


def _same_pixels(
    table: Table, digests: Sequence[str | None], images: Sequence[str | None]
) -> Iterator[Problem]:
    first: dict[str, tuple[Row, str | None]] = {}
    for row, digest, image in zip(table.rows, digests, images, strict=True):
        if digest is None:
            continue
        earlier, its_path = first.setdefault(digest, (row, image))
        if earlier is row or its_path == image:
            continue
        form = row.formats
        how = f"{form.sample} by {form.sample}"
        same = f"the {row.noun} is the same, {how}, as {earlier.image} in row {earlier.line}"
        at = (row.line, row.image)
        if row.label != earlier.label:
            yield Problem(
                "duplicate-label",
                *at,
                f"{same}, but its label is {row.label!r} and there {earlier.label!r}",
                "delete both rows, or the one with the wrong label",
            )
        elif row.patient != earlier.patient:
            yield Problem(
                "duplicate-patient",
                *at,
                f"{same}, but its patient is {row.patient!r} and there {earlier.patient!r}",
                "delete one of the rows, or correct the patient",
            )
        elif form.one_patient and not table.has_patients:
            yield Problem(
                "duplicate-patient",
                *at,
                f"{same}, and each counts as a patient of its own",
                "delete one of the rows, or name the patients in a `patient` column",
            )
        elif row.split != earlier.split:
            yield Problem(
                "duplicate-split",
                *at,
                f"{same}, but its split is {row.split!r} and there {earlier.split!r}",
                "put both rows into one split, or delete one",
            )
        else:
            cells = dict.fromkeys((*table.masks(earlier), *table.masks(row)))
            two = row.mask != earlier.mask and len(cells) > 1
            fix = join_fix(JOINED.join(cells)) if two else "delete one of the rows"
            yield Problem("duplicate", *at, same, fix, "warning")


def format_problems(problems: Sequence[Problem], most: int | None = None) -> str:
    """Problems as text, errors first, grouped by kind; every row is listed, or ``most`` a kind."""
    lines = []
    kinds = Counter((p.severity, p.kind) for p in problems)
    for severity, kind in sorted(kinds, key=lambda k: k[0]):
        n = kinds[severity, kind]
        lines.append(f"{kind}: {n} {severity}{'s' if n > 1 else ''}")
        of_kind = [p for p in problems if (p.severity, p.kind) == (severity, kind)]
        for p in of_kind[:most]:
            place = "  ".join(t for t in (f"row {p.row}" if p.row else "", p.file or "") if t)
            lines.append(f"  {place}{'  ' if place else ''}{p.message} → {p.fix}")
        if most is not None and len(of_kind) > most:
            lines.append(f"  … {len(of_kind) - most} more")
    return "\n".join(lines)


def problems_json(problems: Sequence[Problem]) -> list[dict[str, Any]]:
    """Problems as plain dictionaries: kind, row, file, message, fix, severity."""
    return [asdict(p) for p in problems]
