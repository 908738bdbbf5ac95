"""Training, validation and test: whole patients on one side, classes shared out evenly.

The test patients are a share of all, one of several folds, or those of one value of a column.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from weakseg.config import SPLITS, LeftOut, SplitConfig
from weakseg.data.cases import Case, Labels
from weakseg.data.dealing import best_deal
from weakseg.errors import DataError
from weakseg.runs import write_text
from weakseg.spreadsheets import csv_lines, plain_cell

COLUMNS = ("case", "image", "label", "patient", "split")
MOST_VALUES = 8
"""Values of a column that an error names."""
SLICE = "slice"
"""A further column where the cases are slices of volumes."""

FEW_PATIENTS_FIX = "add patients, merge the label with another one, or leave its rows out"
_NO_PATIENTS = {
    False: "where the manifest has no `patient` column, images that look alike count as one "
    "patient: add the column",
    True: "where the manifest has no `patient` column, each volume counts as one patient",
}
"""Whether a file is a patient where none is named → what to say."""
_WAY_OUT = "add a `split` column to the manifest, or merge or leave out rare labels"


def make_splits(cases: Sequence[Case], labels: Labels, split: SplitConfig) -> list[Case]:
    """Deal patients out to training, validation and test.

    Where the cases have splits already, these are checked and kept. Otherwise `CANDIDATES` seeded
    random orders of the patients are dealt out until each split has its share of the images, and
    the one is kept whose splits differ least from the shares of images and classes that they
    should have. The result depends neither on the order of the cases nor on the machine.

    With ``split.folds`` the patients are dealt out to as many parts in this way, and with
    ``split.leave_out`` a column says who is tested; the
    validation patients are dealt from the rest.

    Parameters
    ----------
    cases : sequence of Case
    labels : Labels
        Every class has to be in every split.
    split : SplitConfig
        Shares of the images, or who is tested, and the seed.

    Returns
    -------
    list of Case
        The same cases in the same order, with ``split`` set.

    Raises
    ------
    DataError
        If a given split is incomplete, unknown, or shares a patient; or if there are too few
        patients, or too few of a class, for every split to have one; or if a column by which
        patients are left out does not tell who.
    """
    given = [c for c in cases if c.split is not None]
    if given:
        if (trouble := two_ways_of_testing(split)) is not None:
            raise DataError(f"{trouble[0]}.", where="data.split", fix=trouble[1])
        if len(given) < len(cases):
            bare = next(c for c in cases if c.split is None)
            raise DataError(
                "Some rows name a split and others do not.",
                where=f"row {bare.row} ({bare.image.name})",
                fix="fill the split column in every row, or leave it out to have patients dealt "
                "out",
            )
        troubles = list(split_troubles(cases, labels))
        if troubles:
            raise DataError(
                "The splits of the manifest cannot be used:\n"
                + "\n".join(f"  - {what}" for _, what, _ in troubles),
                fix=troubles[0][2],
            )
        return list(cases)

    patients = sorted({c.patient for c in cases})
    number = {p: i for i, p in enumerate(patients)}
    counts = np.zeros((len(patients), len(labels.names)), dtype=np.int64)
    for c in cases:
        counts[number[c.patient], labels.index(c.label)] += 1
    no_patients = _NO_PATIENTS[any(c.formats.one_patient for c in cases)]
    _refuse_too_few(counts, labels, split, no_patients)
    if split.leave_out is not None:
        tested = _left_out(cases, split.leave_out)
        _refuse_lopsided(counts, np.isin(patients, list(tested)), labels, split.leave_out)
        side = _rest_dealt(counts, np.isin(patients, list(tested)), split)
    else:
        side = _sides(counts, split)
    if side is None:
        raise DataError(
            "No way was found to give every split images of every class.",
            found=f"{len(patients)} patients; "
            + ", ".join(
                f"{n} with {name!r}"
                for name, n in zip(labels.names, (counts > 0).sum(axis=0), strict=True)
            ),
            fix=_WAY_OUT,
        )
    return [replace(c, split=SPLITS[side[number[c.patient]]]) for c in cases]


def two_ways_of_testing(split: SplitConfig) -> tuple[str, str] | None:
    """What to say, and the way out, where splits are given and folds, too; None where not."""
    if split.folds is None and split.leave_out is None:
        return None
    key = "data.split.folds" if split.folds is not None else "data.split.leave_out"
    return (
        f"the manifest has a split column, and {key} says who is tested, too",
        f"leave {key} out, or rename the column (published_split) to have patients dealt out",
    )


def split_troubles(cases: Sequence[Case], labels: Labels) -> Iterator[tuple[str, str, str]]:
    """What is wrong with splits that cases have: (kind, message, fix), one a trouble.

    Kinds are ``split-unknown``, ``patient-in-two-splits``, ``split-empty`` and
    ``split-lacks-class``.
    """
    sides: dict[str, dict[str, int]] = {}
    for c in cases:
        if c.split not in SPLITS:
            yield (
                "split-unknown",
                f"row {c.row}: the split {c.split!r} is not known",
                f"write one of {', '.join(SPLITS)}",
            )
        else:
            sides.setdefault(c.patient, {}).setdefault(c.split, c.row)
    for patient, rows in sorted(sides.items()):
        if len(rows) > 1:
            places = ", ".join(f"{s} (row {row})" for s, row in rows.items())
            yield (
                "patient-in-two-splits",
                f"patient {patient!r} is in {places}",
                "put all rows of a patient into one split",
            )
    for name in SPLITS:
        there = {c.label for c in cases if c.split == name}
        if not there:
            yield ("split-empty", f"no row is in the split {name!r}", f"give {name} some patients")
            continue
        for label in labels.names:
            if label not in there:
                yield (
                    "split-lacks-class",
                    f"the split {name!r} has no image of {label!r}",
                    f"move a patient with {label!r} to {name}, or leave the split column out to "
                    "have patients dealt out",
                )


def write_splits(path: Path, cases: Sequence[Case]) -> None:
    """Write ``splits.csv``: case, image, label, patient, split, and of slices which one."""
    sliced = any(c.slice is not None for c in cases)
    rows: list[tuple[str, ...]] = [(*COLUMNS, SLICE) if sliced else COLUMNS]
    for c in cases:
        further = ("" if c.slice is None else str(c.slice),) if sliced else ()
        rows.append((c.id, c.image.as_posix(), c.label, c.patient, c.split or "", *further))
    write_text(path, csv_lines(rows))


def read_splits(path: Path) -> list[Case]:
    """Read what `write_splits` wrote; masks are not in it.

    Raises
    ------
    DataError
        If the file is missing or has other columns.
    """
    try:
        with path.open(encoding="utf-8", newline="") as f:
            rows = [[plain_cell(c) for c in row] for row in csv.reader(f)]
    except (OSError, UnicodeDecodeError, csv.Error) as e:
        raise DataError(
            "The splits cannot be read.",
            where=str(path),
            found=getattr(e, "strerror", None) or str(e),
            fix="run `weakseg train-classifier CONFIG` or any other stage, which writes them anew",
        ) from None
    headers = (COLUMNS, (*COLUMNS, SLICE))
    if not rows or tuple(rows[0]) not in headers or any(len(r) != len(rows[0]) for r in rows):
        raise DataError(
            "The file does not hold splits.",
            where=str(path),
            found=f"the header {','.join(rows[0])!r}" if rows else "an empty file",
            expected=",".join(COLUMNS),
            fix="delete it; the next stage writes it anew",
        )
    return [
        Case(case, Path(image), label, None, patient, split or None, i, slice=_index(further))
        for i, (case, image, label, patient, split, *further) in enumerate(rows[1:], 2)
    ]


def _index(cells: Sequence[str]) -> int | None:
    return int(cells[0]) if cells and cells[0].isdecimal() else None


def parts_named(split: SplitConfig) -> str:
    """What every class must have patients for."""
    if split.folds is None:
        return "training, validation and test"
    return f"{split.folds} folds, and training and validation in each"


def few_patients_fix(split: SplitConfig) -> str:
    """The way out of too few patients of a label."""
    return FEW_PATIENTS_FIX + ("" if split.folds is None else "; or set fewer data.split.folds")


def _refuse_too_few(
    counts: NDArray[np.int64], labels: Labels, split: SplitConfig, no_patients: str
) -> None:
    least = split.least_patients
    if len(counts) < least:
        raise DataError(
            f"There are too few patients for {parts_named(split)}.",
            found=f"{len(counts)} patient{'' if len(counts) == 1 else 's'}",
            expected=f"at least {least}",
            fix=f"add patients; {no_patients}",
        )
    for name, patients in zip(labels.names, (counts > 0).sum(axis=0), strict=True):
        if patients < least:
            raise DataError(
                f"The label {name!r} has too few patients for {parts_named(split)}.",
                found=f"{patients} patient{'' if patients == 1 else 's'}",
                expected=f"at least {least}",
                fix=f"{few_patients_fix(split)}; {no_patients}",
            )


def _left_out(cases: Sequence[Case], of: LeftOut) -> set[str]:
    """The patients whose rows have the value that is left out; none may have others besides."""
    groups: dict[str, dict[str, int]] = {}
    for c in cases:
        groups.setdefault(c.patient, {}).setdefault(c.group, c.row)
    there = sorted({c.group for c in cases})
    if of.value not in there:
        few = ", ".join(map(repr, there[:MOST_VALUES]))
        raise DataError(
            f"No row has {of.value!r} in the column {of.column!r}.",
            where="data.split.leave_out.value",
            found=few + (f", … ({len(there)} in all)" if len(there) > MOST_VALUES else ""),
            fix="name one of these values",
        )
    blank = [c for c in cases if not c.group.strip()]
    if blank:
        have = "has" if len(blank) == 1 else "have"
        raise DataError(
            f"{len(blank)} of {len(cases)} images {have} no value in the column {of.column!r}, and "
            "may be of those that are left out.",
            where="data.split.leave_out",
            found=f"a blank cell in row {blank[0].row}",
            fix="fill the column, with a word such as unknown where such rows may be trained on; "
            "or leave the rows out",
        )
    for patient, rows in sorted(groups.items()):
        if of.value in rows and len(rows) > 1:
            places = ", ".join(f"{g!r} (row {row})" for g, row in rows.items())
            raise DataError(
                f"The patient {patient!r} has several values in the column {of.column!r}.",
                where="data.split.leave_out",
                found=places,
                expected="all rows of a patient on one side of a split",
                fix=f"correct the column, or write {of.value!r} into all rows of the patient",
            )
    return {patient for patient, rows in groups.items() if of.value in rows}


def _refuse_lopsided(
    counts: NDArray[np.int64], tested: NDArray[np.bool_], labels: Labels, of: LeftOut
) -> None:
    """Refuse a column that leaves no image of a class to test, or too few patients to train."""
    for side, name, least in ((tested, "tested", 1), (~tested, "left for training", 2)):
        for label, n in zip(labels.names, (counts[side] > 0).sum(axis=0), strict=True):
            if n < least:
                raise DataError(
                    f"Too few patients with {label!r} are {name}.",
                    where=f"data.split.leave_out: {of.column} = {of.value}",
                    found=f"{n} patient{'' if n == 1 else 's'}",
                    expected=f"at least {least}",
                    fix="leave out another value, or merge or leave out the label",
                )


def _sides(counts: NDArray[np.int64], split: SplitConfig) -> NDArray[np.int64] | None:
    """The split of each patient, 0 training, 1 validation, 2 test; None where none will do."""
    rng = np.random.default_rng(split.seed)
    if split.folds is None:
        share = np.array([1 - split.val - split.test, split.val, split.test])
        return best_deal(counts, share, rng)
    # All folds at once, whichever is asked for: so no patient is in two, and each in one.
    # Of two, one is all that is left for training and validation.
    least = 2 if split.folds == 2 else 1
    part = best_deal(counts, np.full(split.folds, 1 / split.folds), rng, least)
    return None if part is None else _rest_dealt(counts, part == split.fold, split)


def _rest_dealt(
    counts: NDArray[np.int64], tested: NDArray[np.bool_], split: SplitConfig
) -> NDArray[np.int64] | None:
    """The split of each patient, given who is tested."""
    rng = np.random.default_rng([split.seed, split.fold])
    rest = best_deal(counts[~tested], np.array([1 - split.val, split.val]), rng)
    if rest is None:
        return None
    side = np.full(len(counts), SPLITS.index("test"))
    side[~tested] = rest
    return side
