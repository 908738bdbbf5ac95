"""What is wrong with a manifest, from its text alone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator

from weakseg.config import SPLITS, DataConfig
from weakseg.data.cases import Labels
from weakseg.data.labels import (
    HEALTHY_NAMES,
    asks,
    declared,
    findings,
    is_no_value,
    plain,
    reordered,
    resolve_labels,
    seeming_sets,
)
from weakseg.data.people import similar_names
from weakseg.data.problems import Problem
from weakseg.data.table import Row, Table
from weakseg.data.volume_rows import volume_row_problems
from weakseg.errors import DataError, count, did_you_mean

Here = Callable[[str, str, str], Problem]
"""A problem of some row: kind, message, fix."""


def table_labels(table: Table, data: DataConfig) -> Labels:
    """What the labels of a manifest mean.

    Whole volumes, from which no classifier learns, may all be ill; images and slices where
    ``data.healthy_labels`` is an empty list.

    Raises
    ------
    DataError
        As `resolve_labels`.
    """
    return resolve_labels(
        (r.label for r in table.rows),
        data.healthy_labels,
        data.lesion_labels,
        # Whoever says that no label is healthy asks for no classifier.
        both=data.healthy_labels != [] and (table.sliced or not table.formats.one_patient),
        separator=data.label_separator,
    )


def row_problems(table: Table, data: DataConfig) -> Iterator[Problem]:
    """Everything that can be told from the manifest's text alone."""
    yield from _taken_columns(table)
    yield from _paths_of_windows(table)
    yield from volume_row_problems(table)
    yield from _label_roles(table, data)
    yield from _label_sets(table, data)
    yield from _similar_patients(table, data)
    try:
        names: tuple[str, ...] | None = table_labels(table, data).names
    except DataError:
        names = None
    usual = _usual_writing(table, data)
    for r in table.rows:

        def here(kind: str, message: str, fix: str, r: Row = r) -> Problem:
            return Problem(kind, r.line, r.image or None, message, fix)

        if r.fields != r.expected:
            yield here(
                "fields",
                f"the row has {r.fields} fields, the header {r.expected}",
                'put text that holds the delimiter into quotation marks "'
                if r.fields > r.expected
                else "add the missing delimiters",
            )
        if not r.image:
            yield here("image-blank", "no image is named", "name the image, or delete the row")
        yield from _label_problems(r, here, data, usual, names)
        yield from _patient_and_split_problems(r, here, table)


def _taken_columns(table: Table) -> Iterator[Problem]:
    for written, name in table.taken:
        yield Problem(
            "column-name",
            None,
            None,
            f"the column {written!r} is read as {name!r}",
            f"rename it to {name!r}, or, if it is something else, to a name that says what",
            "warning",
        )


def _paths_of_windows(table: Table) -> Iterator[Problem]:
    if table.turned:
        yield Problem(
            "path-signs",
            None,
            None,
            f"{count(table.turned, 'row')} with \\ between folders, which is read as /",
            "write / in paths: every system reads it",
            "warning",
        )


def _label_roles(table: Table, data: DataConfig) -> Iterator[Problem]:
    """Labels whose meaning has to be told in the configuration."""
    lines: dict[str, list[int]] = {}
    for r in table.rows:
        for f in findings(r.label, data.label_separator):
            lines.setdefault(f, []).append(r.line)
    open_ones = [f for f in sorted(lines) if asks(f) and not _is_declared(f, data)]
    for label in open_ones:
        if not is_no_value(label):
            yield _uncertain(label, [f for f in lines if f not in open_ones], lines[label], data)
    sign = data.label_separator
    dropped = {f for r in table.dropped for f in (r.label, *findings(r.label, sign))}
    for label in data.drop_labels:
        if label not in dropped:
            what = f"The label {label!r} does not occur in the manifest. (data.drop_labels)"
            fix = did_you_mean(label, sorted({*lines, *dropped}))
            yield Problem("label-roles", None, None, what, fix)
    try:
        table_labels(table, data)
    except DataError as e:
        blank = bool(table.rows) and not any(r.label for r in table.rows)
        asked = open_ones or (blank and not _is_declared("", data))
        if asked and e.where is None:
            return  # once they are answered, or written, there may be enough
        detail = "; ".join(t for t in (e.where, e.found) if t)
        yield Problem("label-roles", None, None, f"{e.what} ({detail})", e.fix or "")


def _uncertain(label: str, others: list[str], lines: list[int], data: DataConfig) -> Problem:
    """A question, and what each answer makes of the label."""
    listed = data.healthy_labels
    well = [f for f in others if (plain(f) in HEALTHY_NAMES if listed == "auto" else f in listed)]
    ill = [f for f in others if f not in well]
    return Problem(
        "label-uncertain",
        None,
        None,
        f"the label {label!r} ({_rows(lines)}) may mean healthy (as -1 beside 1), not certain (as "
        "in CheXpert), or something of its own",
        f"say which: data.healthy_labels: {[*well, label]} takes it for healthy; data.drop_labels: "
        f"{[label]} leaves its rows out; data.lesion_labels: {[*ill, label]} makes it a class of "
        "its own, with a lesion",
    )


def _is_declared(label: str, data: DataConfig) -> bool:
    return declared(label, data.healthy_labels, data.lesion_labels)


def _rows(lines: list[int]) -> str:
    several = f"{len(lines)} rows, the first is " if len(lines) > 1 else ""
    return f"{several}row {lines[0]}"


def _label_sets(table: Table, data: DataConfig) -> Iterator[Problem]:
    """Labels that seem to hold several findings, where no separator is named."""
    if data.label_separator:
        return
    undeclared = {r.label for r in table.rows if r.label and not _is_declared(r.label, data)}
    again = reordered(undeclared)
    for sign, groups in again.items():
        for group in groups:
            yield Problem(
                "label-order",
                None,
                None,
                f"the labels {' and '.join(map(repr, group))} hold the same findings in another "
                "order, and would be classes of their own",
                f"set data.label_separator: {sign!r}, or write them one way",
            )
    for sign, labels in seeming_sets(undeclared).items():
        if sign in again:
            continue
        some = f"the label {labels[0]!r} seems"
        if len(labels) > 1:
            some = f"{len(labels)} labels such as {labels[0]!r} and {labels[1]!r} seem"
        yield Problem(
            "label-sets",
            None,
            None,
            f"{some} to hold several findings; each such combination is a class of its own, and a "
            "lesion unless it is listed as healthy",
            f"set data.label_separator: {sign!r}, or keep the finding that matters",
            "warning",
        )


def _similar_patients(table: Table, data: DataConfig) -> Iterator[Problem]:
    if data.similar_patients != "ask":
        return
    lines: dict[str, list[int]] = {}
    for r in table.rows:
        if r.patient and not is_no_value(r.patient):
            lines.setdefault(r.patient, []).append(r.line)
    for group in similar_names(lines):
        names = " and ".join(f"{name!r} ({_rows(lines[name])})" for name in group)
        yield Problem(
            "patient-similar",
            None,
            None,
            f"patients {names} differ only in writing, and would count as {len(group)} people",
            "set data.similar_patients: same if such names are one person, different if they are "
            "not; or write one name",
        )


def _usual_writing(table: Table, data: DataConfig) -> dict[str, str]:
    """Of each finding that is written in several ways the most frequent way."""
    ways: dict[str, Counter[str]] = {}
    for r in table.rows:
        for f in findings(r.label, data.label_separator):
            ways.setdefault(plain(f), Counter())[f] += 1
    return {k: max(c, key=lambda s: (c[s], s)) for k, c in ways.items() if len(c) > 1}


def _label_problems(
    r: Row, here: Here, data: DataConfig, usual: dict[str, str], names: tuple[str, ...] | None
) -> Iterator[Problem]:
    if not r.label:
        yield here(
            "label-blank",
            "the label is blank",
            "write a label, or delete the row (data.drop_labels: [''] leaves out all such rows)",
        )
        return
    parts = findings(r.label, data.label_separator)
    for f in parts:
        if is_no_value(f) and not _is_declared(f, data):
            yield here(
                "label-no-value",
                f"the label {f!r} is what is written where there is none",
                f"write a label, or delete the row (data.drop_labels: [{f!r}] leaves out all such "
                "rows); if it is meant, name it in data.healthy_labels or data.lesion_labels",
            )
        elif f != usual.get(plain(f), f):
            way = usual[plain(f)]
            yield here(
                "label-spelling",
                f"the label {f!r} differs from {way!r} only in case, space, - or _, the form of "
                "accents, or the zeros of a number",
                f"write {way!r} in both",
            )
    open_ones = any(asks(f) and not _is_declared(f, data) for f in parts)
    if names is not None and r.label not in names and not open_ones:
        yield here(
            "label-unknown",
            f"the label {r.label!r} is in neither data.healthy_labels nor data.lesion_labels",
            did_you_mean(r.label, names),
        )


def _patient_and_split_problems(r: Row, here: Here, table: Table) -> Iterator[Problem]:
    if table.has_patients and not r.patient:
        yield here(
            "patient-blank",
            "the patient is blank, while other rows name one",
            "name the patient; one that is unknown but alone gets a name of its own",
        )
    elif is_no_value(r.patient):
        yield here(
            "patient-no-value",
            f"the patient {r.patient!r} is what is written where there is none, and all rows that "
            "say so would be one person",
            "name the patient; one that is unknown but alone gets a name of its own; if no "
            "patient is known, leave the column out",
        )
    if table.has_splits and r.split not in SPLITS:
        yield here(
            "split-unknown" if r.split else "split-blank",
            f"the split {r.split!r} is not known"
            if r.split
            else "the split is blank, while other rows name one",
            f"write one of {', '.join(SPLITS)}",
        )
