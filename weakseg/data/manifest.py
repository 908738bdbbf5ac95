"""The manifest: a CSV with a row an image or a volume, and what is wrong with its text."""

from __future__ import annotations

import hashlib
import os
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np

from weakseg.config import SPLITS, DataConfig
from weakseg.data.cases import Case, CaseSet, Labels, MaskFiles
from weakseg.data.decoding import DECODERS
from weakseg.data.duplicates import THUMBNAIL, group_near_duplicates, thumbnail
from weakseg.data.images import read_image
from weakseg.data.labels import HEALTHY_NAMES, plain, resolve_labels
from weakseg.data.table import FURTHER, Row, Table, read_table
from weakseg.errors import DataError, did_you_mean

__all__ = [
    "HEALTHY_NAMES",
    "Problem",
    "Row",
    "Table",
    "case_set",
    "look_alikes",
    "patient_stand_ins",
    "plain",
    "read_manifest",
    "read_table",
    "resolve_labels",
    "row_problems",
    "safe_ids",
    "table_cases",
    "table_labels",
]


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong with a manifest or its files.

    Attributes
    ----------
    kind : str
        A short code, for instance ``mask-size``.
    row : int or None
        The line in the manifest as an editor counts it; None where it concerns the whole.
    file : str or None
        The image or mask, as the manifest writes it.
    message : str
        What is wrong, what was found.
    fix : str
        The way out.
    severity : {"error", "warning"}
    """

    kind: str
    row: int | None
    file: str | None
    message: str
    fix: str
    severity: Literal["error", "warning"] = "error"


def safe_ids(paths: Sequence[Path]) -> list[str]:
    """Names for files that are unique, also where case is ignored, and safe as file names.

    A file's stem; where two are the same, the path below the folder that all have in common; and
    where that does not tell them apart, with a short hash of it.

    Parameters
    ----------
    paths : sequence of Path

    Returns
    -------
    list of str
        1 to 100 characters of A–Z, a–z, 0–9, ``.``, ``_`` and ``-``; none begins with ``.`` or
        ``-`` or ends with ``.``.
    """
    below = _below_common([os.path.abspath(p) for p in paths])  # noqa: PTH100
    ids = [_safe(_bare(p).rpartition("/")[2], p) for p in below]
    ids = _where_repeated(ids, [_safe(_bare(p), p) for p in below])
    ids = _where_repeated(
        ids, [f"{name[:80]}-{_short_hash(p)}" for name, p in zip(ids, below, strict=True)]
    )
    # Only the same file twice, or a file that is called like the hash of another, is left.
    taken = {name.casefold() for name in ids}
    seen: set[str] = set()
    numbers: dict[str, int] = {}
    for k, wanted in enumerate(ids):
        number = numbers.get(wanted, 2)
        while ids[k].casefold() in seen or (number > 2 and ids[k].casefold() in taken):
            ids[k], number = f"{wanted}-{number}", number + 1
        numbers[wanted] = number
        seen.add(ids[k].casefold())
    return ids


def _below_common(paths: Sequence[str]) -> list[str]:
    """Absolute paths from the folder on that all have in common, with / between folders."""
    if not paths:
        return []
    folders = {os.path.dirname(p) for p in paths}  # noqa: PTH120
    if len({os.path.splitdrive(p)[0] for p in paths}) > 1:
        return [p.replace(os.sep, "/") for p in paths]
    root = os.path.commonpath(folders).rstrip(os.sep) + os.sep
    return [p[len(root) :].replace(os.sep, "/") for p in paths]


def _bare(path: str) -> str:
    """Without its suffix, of which ``.nii.gz`` is one."""
    bare = _without_suffix(path)
    return _without_suffix(bare) if path.lower().endswith(".nii.gz") else bare


def _without_suffix(path: str) -> str:
    folder, slash, name = path.rpartition("/")
    dot = name.rfind(".")
    return folder + slash + (name[:dot] if 0 < dot < len(name) - 1 else name)


def _safe(name: str, path: str) -> str:
    name = re.sub(r"[^A-Za-z0-9._-]+", "_", name).lstrip("-.").rstrip(".") or "case"
    return name if len(name) <= 80 else f"{name[:80]}-{_short_hash(path)}"


def _short_hash(path: str) -> str:
    return hashlib.blake2b(os.fsencode(path), digest_size=4).hexdigest()


def _where_repeated(ids: list[str], others: list[str]) -> list[str]:
    count = Counter(i.casefold() for i in ids)
    return [o if count[i.casefold()] > 1 else i for i, o in zip(ids, others, strict=True)]


def table_labels(table: Table, data: DataConfig) -> Labels:
    """What the labels of a manifest mean; volumes, from which no classifier learns, may all be ill.

    Raises
    ------
    DataError
        As `resolve_labels`.
    """
    found = (r.label for r in table.rows)
    return resolve_labels(found, data.healthy_labels, data.lesion_labels, both=not table.volumes)


def row_problems(table: Table, data: DataConfig) -> Iterator[Problem]:
    """Everything that can be told from the manifest's text alone."""
    yield from _volume_problems(table)
    spelt: dict[str, Counter[str]] = {}
    for r in table.rows:
        spelt.setdefault(plain(r.label), Counter())[r.label] += 1
    try:
        names: tuple[str, ...] | None = table_labels(table, data).names
    except DataError as e:
        names = None
        detail = "; ".join(t for t in (e.where, e.found) if t)
        yield Problem("label-roles", None, None, f"{e.what} ({detail})", e.fix or "")
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
        if not r.label:
            yield here("label-blank", "the label is blank", "write a label, or delete the row")
        elif len(spelt[plain(r.label)]) > 1:
            usual = max(spelt[plain(r.label)], key=lambda s: (spelt[plain(r.label)][s], s))
            if r.label != usual:
                yield here(
                    "label-spelling",
                    f"the label {r.label!r} differs from {usual!r} only in case, space, - or _",
                    f"write {usual!r} in both",
                )
        if r.label and names is not None and r.label not in names:
            yield here(
                "label-unknown",
                f"the label {r.label!r} is in neither data.healthy_labels nor data.lesion_labels",
                did_you_mean(r.label, names),
            )
        if table.has_patients and not r.patient:
            yield here(
                "patient-blank",
                "the patient is blank, while other rows name one",
                "name the patient; one that is unknown but alone gets a name of its own",
            )
        if table.has_splits and r.split not in SPLITS:
            yield here(
                "split-unknown" if r.split else "split-blank",
                f"the split {r.split!r} is not known"
                if r.split
                else "the split is blank, while other rows name one",
                f"write one of {', '.join(SPLITS)}",
            )


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
    return case_set(read_table(Path(path)), data)


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
    problems = list(row_problems(table, data))
    if problems:
        raise DataError(
            f"The manifest has {len(problems)} problem{'' if len(problems) == 1 else 's'}:\n"
            + "\n".join(
                f"  - {f'row {p.row}: ' if p.row else ''}{p.message} → {p.fix}" for p in problems
            ),
            where=str(table.path),
            fix=f"mend them; `weakseg validate {table.path}` also looks into the files",
        )
    labels = table_labels(table, data)
    cases = table_cases(table)
    if not table.has_patients and not table.volumes:
        if stand_ins is None:
            stand_ins = patient_stand_ins(table, look_alikes(table, _thumbnails(table)))
        cases = [replace(c, patient=p) for c, p in zip(cases, stand_ins, strict=True)]
    return CaseSet(tuple(cases), labels, str(table.path), table.has_patients)


def _volume_problems(table: Table) -> Iterator[Problem]:
    """Volumes among images, and columns that are for volumes."""
    kinds = Counter(r.is_volume for r in table.rows if r.image)
    usual = Counter(tuple(bool(c) for c in r.more) for r in table.rows if r.is_volume)
    most = max(usual, key=lambda m: (usual[m], m), default=())
    with_roi = any(r.roi for r in table.rows if r.is_volume)
    volumes = table.volumes
    for r in table.rows:

        def here(kind: str, file: str, message: str, fix: str, r: Row = r) -> Problem:
            return Problem(kind, r.line, file, message, fix)

        if r.image and r.is_volume != volumes:
            kind, others = ("a volume", "2D images") if r.is_volume else ("2D", "volumes")
            yield here(
                "image-mixed",
                r.image,
                f"the image is {kind}, while {kinds[volumes]} other rows list {others}",
                "write two manifests, one of volumes (.nii, .nii.gz) and one of 2D images",
            )
            continue
        extra = [(n, c) for n, c in zip((*FURTHER, "roi"), _padded(r), strict=True) if c]
        if not r.is_volume:
            for name, cell in extra if r.image else ():
                yield here(
                    "column-for-volumes",
                    cell,
                    f"the column {name!r} is for volumes (.nii, .nii.gz), and the image is 2D",
                    f"leave {name!r} blank, or rename the column",
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


def _columns(further: int) -> str:
    return ", ".join(("image", *FURTHER[:further]))


def _padded(row: Row) -> list[str]:
    return [*row.more, *[""] * (len(FURTHER) - len(row.more)), row.roi]


def table_cases(table: Table) -> list[Case]:
    """The rows as cases.

    Where the manifest names no patients, a volume is its own, and images are without.
    """
    images = [table.resolve(r.image) for r in table.rows]
    own = table.volumes and not table.has_patients
    return [
        Case(
            id=name,
            image=image,
            label=r.label,
            mask=_mask_files(table, r),
            patient=name if own else r.patient,
            split=r.split or None,
            row=r.line,
            more=tuple(table.resolve(c) for c in r.more if c),
            roi=table.resolve(r.roi) if r.roi else None,
        )
        for r, name, image in zip(table.rows, safe_ids(images), images, strict=True)
    ]


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
