"""What is wrong with patients and splits, and how many patients will be tested."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from difflib import get_close_matches
from typing import Literal

from weakseg.config import SPLITS, DataConfig
from weakseg.data.cases import Case, Labels
from weakseg.data.manifest import Problem, Table, table_cases
from weakseg.data.splits import (
    few_patients_fix,
    make_splits,
    parts_named,
    split_troubles,
    two_ways_of_testing,
)
from weakseg.errors import count

_ALIKE = "groups of images that look alike"

TestedBy = Literal["share", "folds", "leave_out", "column"]
"""What says who is tested: a share of the images, folds, a column's value, or a split column."""


def split_problems(
    table: Table,
    data: DataConfig,
    labels: Labels | None,
    groups: Sequence[str] | None,
) -> Iterator[Problem]:
    """What is wrong with who is in which split, or keeps patients from being dealt out.

    Parameters
    ----------
    table : Table
    data : DataConfig
    labels : Labels or None
        None where their meaning cannot be told.
    groups : sequence of str or None
        Of each row what stands for its patient, where no row names one.
    """
    cases = _cases(table, groups)
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
    alone = (table.formats.noun,) if own else ("group of images that look alike", _ALIKE)
    who = ("patient",) if table.has_patients else alone
    every = {k: len({c.patient for c in whole if c.label == k}) for k in labels.names}
    for label in labels.names:
        patients = every[label]
        if patients + spare < data.split.least_patients:
            yield Problem(
                "class-few-patients",
                None,
                None,
                f"the label {label!r} has {count(patients, *who)}; {parts_named(data.split)} need "
                + ("one each" if data.split.folds is None else f"{data.split.least_patients}"),
                _slip(label, [k for k, n in every.items() if n > patients])
                + few_patients_fix(data.split)
                + ("" if table.has_patients else "; a `patient` column names the patients"),
            )


def lesion_patients(
    table: Table, data: DataConfig, labels: Labels, groups: Sequence[str] | None
) -> int:
    """How many patients have a lesion in the test images, as they are dealt or given.

    With folds these are the test images of all folds together, for so they are scored.

    Raises
    ------
    DataError
        If they cannot be dealt.
    """
    cases = _cases(table, groups)
    # Splits that are given stand, even where they part images that look alike.
    dealt = cases if table.has_splits else make_splits(cases, labels, data.split)
    pooled = way_of_testing(table, data) == "folds"
    tested = (c for c in dealt if pooled or c.split == "test")
    return len({c.patient for c in tested if labels.is_lesion(c.label)})


def way_of_testing(table: Table, data: DataConfig) -> TestedBy:
    """What says who is tested."""
    if table.has_splits:
        return "column"
    if data.split.folds is not None:
        return "folds"
    return "share" if data.split.leave_out is None else "leave_out"


def _slip(label: str, others: Sequence[str]) -> str:
    """What a rare label may have been meant for."""
    near = get_close_matches(label, others, n=1, cutoff=0.8)
    return f"if it is a slip of the pen for {near[0]!r}, write that; else " if near else ""


def _cases(table: Table, groups: Sequence[str] | None) -> list[Case]:
    """The rows as cases, groups of images that look alike in the place of patients."""
    cases = table_cases(table)
    if groups is None:
        return cases
    return [replace(c, patient=g) for c, g in zip(cases, groups, strict=True)]


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
