"""What is wrong with the rows of a manifest of volumes, from their text alone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from weakseg.data.columns import FURTHER
from weakseg.data.problems import Problem
from weakseg.data.table import Row, Table

_MIXED = {"volume": ("a volume", "2D images"), "image": ("2D", "volumes")}
"""What a file holds → what it is called among others, and what these are."""


def volume_row_problems(table: Table) -> Iterator[Problem]:
    """Volumes among images, columns that are for volumes, and volumes of several patients."""
    yield from _shared_volumes(table)
    kinds = Counter(r.formats.noun for r in table.rows if r.image)
    usual = Counter(tuple(bool(c) for c in r.more) for r in table.rows if r.formats.further)
    most = max(usual, key=lambda m: (usual[m], m), default=())
    with_roi = any(r.roi for r in table.rows if r.formats.further)
    for r in table.rows:

        def here(kind: str, file: str, message: str, fix: str, r: Row = r) -> Problem:
            return Problem(kind, r.line, file, message, fix)

        if r.image and r.formats is not table.formats:
            kind, others = _MIXED[r.formats.noun]
            yield here(
                "image-mixed",
                r.image,
                f"the image is {kind}, while {kinds[table.formats.noun]} other rows list {others}",
                "write two manifests, one of volumes (.nii, .nii.gz) and one of 2D images",
            )
            continue
        extra = [(n, c) for n, c in zip((*FURTHER, "roi"), _padded(r), strict=True) if c]
        if not r.formats.further:
            for name, cell in extra if r.image else ():
                yield here(
                    "column-for-volumes",
                    cell,
                    f"the column {name!r} is for volumes (.nii, .nii.gz), and the image is 2D",
                    f"leave {name!r} blank, or rename the column",
                )
            continue
        if table.sliced:
            if not r.slice:
                yield here(
                    "slice-blank",
                    r.image,
                    "the slice is blank, while other rows name one",
                    "write its index along the third axis, from 0, or list whole volumes in a "
                    "manifest of their own",
                )
            elif r.index is None:
                yield here(
                    "slice-unknown",
                    r.image,
                    f"the slice {r.slice!r} is no index",
                    "write a whole number from 0: the index along the third axis",
                )
            for name, cell in extra:
                yield here(
                    "column-for-whole-volumes",
                    cell,
                    f"the column {name!r} is for whole volumes, and the row is of one slice",
                    f"leave {name!r} blank",
                )
            continue
        gaps = [n for n, c in zip(FURTHER, r.more, strict=False) if not c]
        if gaps:
            last = FURTHER[len(r.more) - 1]
            yield here(
                "modality-gap",
                r.image,
                f"{last!r} is filled, but not {' and '.join(map(repr, gaps))}",
                f"name the modalities from {FURTHER[0]!r} on, without a gap",
            )
        elif tuple(bool(c) for c in r.more) != most:
            yield here(
                "modalities-differ",
                r.image,
                f"the row fills {_columns(len(r.more))}, and most others {_columns(len(most))}",
                "give every row the same modalities, in the same columns",
            )
        if with_roi and not r.roi:
            yield here(
                "roi-blank",
                r.image,
                "the region of interest ('roi') is blank, while other rows name one",
                "name it in every row, or in none",
            )


def _shared_volumes(table: Table) -> Iterator[Problem]:
    """Volumes whose slices are said to be of several patients, who may come into several splits."""
    first: dict[str, Row] = {}
    for r in table.rows:
        if not r.is_slice or not r.patient:
            continue
        other = first.setdefault(table.real(r.image), r)
        if other.patient != r.patient:
            yield Problem(
                "volume-patients",
                r.line,
                r.image,
                f"the slice is of the patient {r.patient!r}, and row {other.line} has another "
                f"slice of this volume of {other.patient!r}",
                "give all slices of a volume the same patient",
            )


def _columns(further: int) -> str:
    return ", ".join(("image", *FURTHER[:further]))


def _padded(row: Row) -> list[str]:
    return [*row.more, *[""] * (len(FURTHER) - len(row.more)), row.roi]
