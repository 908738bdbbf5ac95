"""Every problem of a manifest and its files in one pass, before hours of work are built on them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from weakseg.config import SPLITS, DataConfig
from weakseg.data.cases import Case, Labels
from weakseg.data.check_files import Seen
from weakseg.data.check_grids import grid_problems
from weakseg.data.check_identity import NAMES_PATIENT
from weakseg.data.check_masks import (
    MASK_FULL,
    bordered_problems,
    orientation_problems,
    polarity_problem,
)
from weakseg.data.inspect_files import look_at_rows
from weakseg.data.manifest import (
    Problem,
    Row,
    Table,
    look_alikes,
    read_configured,
    row_problems,
    table_cases,
    table_labels,
)
from weakseg.data.mask_parts import join_fix, left_out_masks, masks_to_join
from weakseg.data.splits import (
    few_patients_fix,
    make_splits,
    parts_named,
    split_troubles,
    two_ways_of_testing,
)
from weakseg.data.table import JOINED
from weakseg.disk import as_path
from weakseg.errors import DataError, check_argument

__all__ = [
    "Findings",
    "Problem",
    "check_manifest",
    "check_table",
    "format_problems",
    "problems_json",
]


Progress = Callable[[int, int], object]


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
    """

    problems: list[Problem]
    grey: bool = True
    groups: list[str] | None = None


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
    path = as_path(path, "a manifest")
    check_argument(data, DataConfig, "data", "a DataConfig, such as load_config(path).data")
    try:
        table = read_configured(path, data)
    except DataError as e:
        detail = f" ({e.found})" if e.found else ""
        at = f"{e.where}: " if e.where else ""
        return [Problem("manifest", None, None, f"{at}{e.what}{detail}", e.fix or "")]
    return check_table(table, data, progress=progress).problems


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
    for s in seen:
        problems += s.problems
    looks = [s.mask for s in seen]
    if inverted := polarity_problem(table, looks):
        problems = [inverted, *(p for p in problems if p.kind != MASK_FULL)]
    problems += bordered_problems(table, looks) if not inverted else ()
    problems += orientation_problems(table, looks, [s.orientation for s in seen])
    problems += grid_problems(table, seen)
    problems += _same_pixels(table, [s.digest for s in seen], images)
    groups = None
    if not table.has_patients and not table.formats.one_patient:
        groups = look_alikes(table, [s.small for s in seen])
    problems += _patients_and_splits(table, data, labels, groups, problems)
    grey = all(s.grey for s in seen)
    if named := {p.row for p in problems if p.kind == NAMES_PATIENT}:  # others would repeat it
        problems = [p for p in problems if p.kind == NAMES_PATIENT or p.row not in {None, *named}]
    return Findings(sorted(problems, key=lambda p: p.row or 0), grey, groups)


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
                yield Problem(
                    "image-twice",
                    row.line,
                    cell,
                    f"the {'slice' if row.is_slice else 'image'} is listed in {place} already",
                    fix,
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


def _patients_and_splits(
    table: Table,
    data: DataConfig,
    labels: Labels | None,
    groups: Sequence[str] | None,
    before: Sequence[Problem],
) -> Iterator[Problem]:
    cases = table_cases(table)
    if groups is not None:
        cases = [replace(c, patient=g) for c, g in zip(cases, groups, strict=True)]
    if labels is None:  # who is on two sides can be told all the same
        if table.has_splits:
            named = [c for c in cases if c.patient]
            yield from _given_splits(table, named, Labels((), ()), may_lack=True)
        return
    whole = [c for c in cases if c.label in labels.names and c.patient]
    # A row whose label, patient or split has to be mended first may yet fill what seems to lack.
    spare = len(cases) - len(whole)
    if table.has_splits:
        spare += sum(c.split not in SPLITS for c in whole)
        if (trouble := two_ways_of_testing(data.split)) is not None:
            yield Problem("split-twice", None, None, *trouble)
        yield from _given_splits(table, whole, labels, may_lack=spare > 0)
        return
    own = table.formats.one_patient
    groups_of = f"{table.formats.noun}s" if own else "groups of images that look alike"
    who = "patients" if table.has_patients else groups_of
    few = False
    for label in labels.names:
        patients = len({c.patient for c in whole if c.label == label})
        if patients + spare < data.split.least_patients:
            few = True
            yield Problem(
                "class-few-patients",
                None,
                None,
                f"the label {label!r} has {patients} {who}; {parts_named(data.split)} need "
                + ("one each" if data.split.folds is None else f"{data.split.least_patients}"),
                few_patients_fix(data.split)
                + ("" if table.has_patients else "; a `patient` column names the patients"),
            )
    if not few and not any(p.severity == "error" for p in before):
        try:
            make_splits(whole, labels, data.split)
        except DataError as e:
            yield Problem("split-impossible", None, None, e.what.rstrip("."), e.fix or "")


def _given_splits(
    table: Table, cases: Sequence[Case], labels: Labels, *, may_lack: bool
) -> Iterator[Problem]:
    for kind, message, fix in split_troubles([c for c in cases if c.split in SPLITS], labels):
        if may_lack and kind != "patient-in-two-splits":
            continue
        if kind == "patient-in-two-splits" and not table.has_patients:
            yield Problem(
                "near-duplicates-in-two-splits",
                None,
                None,
                message.replace("patient", "images that look alike:", 1),
                "put them into one split, or name the patients in a `patient` column",
                "warning",
            )
        else:
            yield Problem(kind, None, None, message, fix)


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
