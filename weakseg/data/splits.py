"""Training, validation and test: whole patients on one side, classes shared out evenly."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from weakseg.config import SPLITS, SplitConfig
from weakseg.data.cases import Case, Labels
from weakseg.errors import DataError
from weakseg.runs import write_text
from weakseg.spreadsheets import csv_lines, plain_cell

CANDIDATES = 200
"""Random orders of the patients that are tried."""
COLUMNS = ("case", "image", "label", "patient", "split")
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

    Parameters
    ----------
    cases : sequence of Case
    labels : Labels
        Every class has to be in every split.
    split : SplitConfig
        Shares of the images, and the seed.

    Returns
    -------
    list of Case
        The same cases in the same order, with ``split`` set.

    Raises
    ------
    DataError
        If a given split is incomplete, unknown, or shares a patient; or if there are too few
        patients, or too few of a class, for every split to have one.
    """
    given = [c for c in cases if c.split is not None]
    if given:
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
    _refuse_too_few(counts, labels, _NO_PATIENTS[any(c.formats.one_patient for c in cases)])
    side = _best_deal(counts, split)
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


def _refuse_too_few(counts: NDArray[np.int64], labels: Labels, no_patients: str) -> None:
    if len(counts) < len(SPLITS):
        raise DataError(
            "There are too few patients for training, validation and test.",
            found=f"{len(counts)} patient{'' if len(counts) == 1 else 's'}",
            expected=f"at least {len(SPLITS)}",
            fix=f"add patients; {no_patients}",
        )
    for name, patients in zip(labels.names, (counts > 0).sum(axis=0), strict=True):
        if patients < len(SPLITS):
            raise DataError(
                f"The label {name!r} has too few patients for training, validation and test.",
                found=f"{patients} patient{'' if patients == 1 else 's'}",
                expected=f"at least {len(SPLITS)}",
                fix=f"{FEW_PATIENTS_FIX}; {no_patients}",
            )


def _best_deal(counts: NDArray[np.int64], split: SplitConfig) -> NDArray[np.int64] | None:
    """The split of each patient, 0 training, 1 validation, 2 test; None where none will do."""
    rng = np.random.default_rng(split.seed)
    share = np.array([1 - split.val - split.test, split.val, split.test])
    total, whole = counts.sum(), counts.sum(axis=0)
    best, least = None, np.inf
    for _ in range(CANDIDATES):
        side = _deal(counts, share, rng.permutation(len(counts)))
        per_split = np.stack([counts[side == s].sum(axis=0) for s in range(3)])
        if not per_split.all():
            continue
        sizes = per_split.sum(axis=1)
        classes = per_split / sizes[:, None] - whole / total
        off = np.abs(sizes / total - share).sum() + np.abs(classes).sum()
        if off < least - 1e-12:
            best, least = side, off
    return best


def _deal(
    counts: NDArray[np.int64], share: NDArray[np.float64], order: NDArray[np.int64]
) -> NDArray[np.int64]:
    side = np.full(len(counts), -1)
    has = counts > 0
    # The rarest class first: a random deal would hardly ever give it to every split.
    for k in np.argsort(has.sum(axis=0), kind="stable"):
        for s in (2, 1, 0):
            if not has[side == s, k].any():
                free = order[(side[order] < 0) & has[order, k]]
                side[free[:1]] = s
    images = counts.sum(axis=1)
    for s in (2, 1):
        rest = order[side[order] < 0]
        reached = np.concatenate([[0], np.cumsum(images[rest])]) + images[side == s].sum()
        side[rest[: int(np.abs(reached - share[s] * images.sum()).argmin())]] = s
    side[side < 0] = 0
    return side
