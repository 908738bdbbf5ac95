"""The manifest: a CSV with a row an image or a volume, read as the configuration has it."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from weakseg.config import DataConfig
from weakseg.data.cases import Case, CaseSet, MaskFiles
from weakseg.data.duplicates import THUMBNAIL, group_near_duplicates, thumbnail
from weakseg.data.formats.reading import DECODERS
from weakseg.data.ids import safe_ids
from weakseg.data.images import read_image
from weakseg.data.labels import HEALTHY_NAMES, findings, plain, resolve_labels
from weakseg.data.people import one_name_each
from weakseg.data.problems import Problem
from weakseg.data.row_checks import row_problems, table_labels
from weakseg.data.slice_labels import with_slice_labels
from weakseg.data.table import Row, Table, read_table
from weakseg.errors import DataError

__all__ = [
    "HEALTHY_NAMES",
    "Problem",
    "Row",
    "Table",
    "case_set",
    "configured_table",
    "look_alikes",
    "patient_stand_ins",
    "plain",
    "read_configured",
    "read_manifest",
    "read_table",
    "resolve_labels",
    "row_case",
    "row_problems",
    "safe_ids",
    "table_cases",
    "table_labels",
]


def read_manifest(path: Path, data: DataConfig) -> CaseSet:
    """Read a manifest's cases.

    Only its text is checked; `weakseg.data.check.check_manifest` looks into the files. Where no
    row names a patient, groups of near-duplicate images take their place, or the volumes.

    Parameters
    ----------
    path : Path
        A CSV; the files that it names are relative to its folder, or absolute.
    data : DataConfig
        What the labels mean.

    Raises
    ------
    DataError
        If the text cannot be used, with every row that is at fault.
    """
    return case_set(read_configured(path, data), data)


def read_configured(path: Path, data: DataConfig) -> Table:
    """`read_table`, with its rows as the configuration has them, see `configured_table`.

    Of ``data.slice_labels`` a path that is not absolute is relative to the manifest's folder.
    """
    group = data.split.leave_out.column if data.split.leave_out else None
    if data.slice_labels is None:
        return configured_table(read_table(Path(path), group=group), data)
    table = read_table(Path(path), required=("image",), group=group, aside=("label",))
    labels = Path(path).absolute().parent / data.slice_labels
    return configured_table(with_slice_labels(table, labels), data)


def configured_table(table: Table, data: DataConfig) -> Table:
    """The rows that count, with the findings of each label in order and one name a patient.

    Rows of ``data.drop_labels`` are left out, and stand in `Table.dropped`.
    """
    separator, rows = data.label_separator, table.rows
    if separator:
        rows = tuple(_with_label(r, separator.join(findings(r.label, separator))) for r in rows)
    dropped = _unwanted(rows, data.drop_labels, separator)
    if dropped:
        left_out = {r.line for r in dropped}
        rows = tuple(r for r in rows if r.line not in left_out)
    if data.similar_patients == "same":
        names = one_name_each([r.patient for r in rows])
        rows = tuple(
            r if r.patient == n else replace(r, patient=n) for r, n in zip(rows, names, strict=True)
        )
    if rows is table.rows and not dropped:
        return table
    return replace(table, rows=rows, dropped=dropped)


def _unwanted(rows: Sequence[Row], labels: Sequence[str], separator: str | None) -> tuple[Row, ...]:
    """The rows whose label, or a finding in it, is one of some."""
    if not labels:
        return ()
    unwanted = {separator.join(findings(v, separator)) if separator else v for v in labels}
    return tuple(
        r for r in rows if not unwanted.isdisjoint((r.label, *findings(r.label, separator)))
    )


def _with_label(row: Row, label: str) -> Row:
    return row if row.label == label else replace(row, label=label)


def case_set(table: Table, data: DataConfig, stand_ins: Sequence[str] | None = None) -> CaseSet:
    """As `read_manifest`, of a manifest whose text has been read.

    Parameters
    ----------
    table : Table
    data : DataConfig
    stand_ins : sequence of str, optional
        What stands for the patient of each row of images, where the manifest names none, see
        `patient_stand_ins`; else every image is decoded to find it.
    """
    problems = [p for p in row_problems(table, data) if p.severity == "error"]
    if problems:
        raise DataError(
            f"The manifest has {len(problems)} problem{'' if len(problems) == 1 else 's'}:\n"
            + "\n".join(
                f"  - {f'row {p.row}: ' if p.row else ''}{p.message} → {p.fix}" for p in problems
            ),
            where=str(table.lines_of),
            fix=f"mend them; `weakseg validate {shlex.quote(str(table.path))}` also looks into the "
            "files",
        )
    labels = table_labels(table, data)
    cases = table_cases(table)
    if not table.has_patients and not table.formats.one_patient:
        if stand_ins is None:
            stand_ins = patient_stand_ins(table, look_alikes(table, _thumbnails(table)))
        cases = [replace(c, patient=p) for c, p in zip(cases, stand_ins, strict=True)]
    return CaseSet(tuple(cases), labels, str(table.path), table.has_patients)


def table_cases(table: Table) -> list[Case]:
    """The rows as cases.

    Where the manifest names no patients, a volume is its own, and images are without.
    """
    cases = [row_case(table, r) for r in table.rows]
    own = table.formats.one_patient and not table.has_patients
    return [replace(c, patient=c.file) if own else c for c in named_cases(cases)]


def named_cases(cases: Sequence[Case]) -> list[Case]:
    """Cases with names by their files; slices have that of their volume and their number."""
    files = [c.image for c in cases if c.slice is None]
    volumes = list(dict.fromkeys(c.image for c in cases if c.slice is not None))
    names = safe_ids([*files, *volumes])
    whole, of_volume = iter(names), dict(zip(volumes, names[len(files) :], strict=True))
    return [
        replace(c, id=next(whole))
        if c.slice is None
        else replace(c, id=f"{of_volume[c.image]}_s{c.slice:03d}", volume=of_volume[c.image])
        for c in cases
    ]


def row_case(table: Table, row: Row) -> Case:
    """A row as a case without a name."""
    return Case(
        id="",
        image=table.resolve(row.image),
        label=row.label,
        mask=_mask_files(table, row),
        patient=row.patient,
        split=row.split or None,
        row=row.line,
        more=tuple(table.resolve(c) for c in row.more if c),
        roi=table.resolve(row.roi) if row.roi else None,
        slice=row.index,
        group=row.group,
    )


def _mask_files(table: Table, row: Row) -> MaskFiles | None:
    files = tuple(table.resolve(c) for c in table.masks(row))
    return files[0] if len(files) == 1 else files or None


def patient_stand_ins(table: Table, groups: Sequence[str]) -> list[str]:
    """What stands for the patient of each row: its group, see `look_alikes`.

    A split that the manifest gives stands, even where it parts near-duplicates; the check warns of
    them.
    """
    return [
        f"{group}-{r.split}" if r.split else group
        for r, group in zip(table.rows, groups, strict=True)
    ]


def look_alikes(table: Table, thumbnails: Sequence[np.ndarray | None]) -> list[str]:
    """Of each row the group of near-duplicate images, whose name does not depend on their order.

    Parameters
    ----------
    table : Table
    thumbnails : sequence of (h, w) ndarray or None
        One a row; None for an image that cannot be read.
    """
    unknown = np.full((THUMBNAIL, THUMBNAIL), np.nan, dtype=np.float32)
    images = [table.resolve(r.image).as_posix() for r in table.rows]
    order = sorted(range(len(images)), key=lambda i: images[i])
    small = [thumbnails[i] for i in order]
    names = group_near_duplicates([unknown if t is None else t for t in small])
    groups = [""] * len(images)
    for i, name in zip(order, names, strict=True):
        groups[i] = name
    return groups


def _thumbnails(table: Table) -> list[np.ndarray | None]:
    from concurrent.futures import ThreadPoolExecutor

    def small(row: Row) -> np.ndarray | None:
        try:
            return thumbnail(read_image(table.resolve(row.image)))
        except DataError:  # the check names every such file at once
            return None

    with ThreadPoolExecutor(DECODERS) as pool:
        return list(pool.map(small, table.rows))
