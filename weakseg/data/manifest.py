"""The manifest: a CSV with a row an image, and what its labels mean."""

from __future__ import annotations

import hashlib
import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np

from weakseg.config import SPLITS, DataConfig
from weakseg.data.cases import Case, CaseSet, Labels
from weakseg.data.images import read_image
from weakseg.data.splits import THUMBNAIL, group_near_duplicates, thumbnail
from weakseg.data.table import Row, Table, read_table
from weakseg.errors import DataError, did_you_mean

__all__ = [
    "HEALTHY_NAMES",
    "Problem",
    "Row",
    "Table",
    "plain",
    "read_manifest",
    "read_table",
    "resolve_labels",
    "row_problems",
    "safe_ids",
    "table_cases",
]

HEALTHY_NAMES = frozenset(
    (
        *("normal", "healthy", "control", "controls", "background", "absent", "none"),
        *("negative", "neg", "no", "false", "0"),
        *("nofinding", "nofindings", "nolesion", "nolesions", "notumor", "notumour"),
    )
)
"""Labels that ``healthy_labels: auto`` takes for healthy, without case, spaces, - and _."""


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


def resolve_labels(
    found_labels: Iterable[str],
    healthy: Sequence[str] | Literal["auto"] = "auto",
    lesion: Sequence[str] | Literal["auto"] = "auto",
) -> Labels:
    """Which labels mean healthy and which a lesion.

    Parameters
    ----------
    found_labels : iterable of str
        Labels of the manifest; repeats do no harm.
    healthy : list of str or "auto"
        ``auto``: those in `HEALTHY_NAMES`, without regard to case, spaces, - and _.
    lesion : list of str or "auto"
        ``auto``: all that are not healthy.

    Returns
    -------
    Labels
        Without labels that neither list names.

    Raises
    ------
    DataError
        If one side would be empty, a listed label does not occur, or is in both lists.
    """
    found = sorted({label for label in found_labels if label})
    shown = ", ".join(map(repr, found)) or "none"
    for key, wanted in (("data.healthy_labels", healthy), ("data.lesion_labels", lesion)):
        for label in wanted if wanted != "auto" else ():
            if label not in found:
                raise DataError(
                    f"The label {label!r} does not occur in the manifest.",
                    where=key,
                    found=f"labels {shown}",
                    fix=did_you_mean(label, found),
                )
    if len(found) < 2:
        raise DataError(
            "A classifier needs images with and without a lesion, but there is only one label.",
            found=f"labels {shown}",
            expected="at least one label for healthy images and one for images with a lesion",
            fix="add images of the other kind",
        )
    chosen = set(lesion) if lesion != "auto" else set()
    well = {f for f in found if plain(f) in HEALTHY_NAMES} - chosen
    well = well if healthy == "auto" else set(healthy)
    ill = set(found) - well if lesion == "auto" else chosen
    if well & ill:
        raise DataError(
            f"The label {min(well & ill)!r} is listed both as healthy and as lesion.",
            where="data.healthy_labels and data.lesion_labels",
            fix="take it out of one list",
        )
    if not well or not ill:
        raise DataError(
            "No label is known to mean healthy."
            if not well
            else "Every label is taken for healthy, so that none is left for images with a lesion.",
            found=f"labels {shown}",
            fix="set data.healthy_labels to the labels of images without a lesion",
        )
    return Labels(tuple(sorted(well)), tuple(sorted(ill)))


def plain(label: str) -> str:
    """A label without case, spaces, - and _."""
    return re.sub(r"[\s_-]+", "", label).casefold()


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
    absolute = [Path(os.path.normpath(p.absolute())) for p in paths]
    parents = {str(p.parent) for p in absolute}
    root = os.path.commonpath(parents) if len({p.anchor for p in absolute}) == 1 else None
    below = [p.relative_to(root) if root else p for p in absolute]
    ids = [_safe(p.stem, p) for p in below]
    ids = _where_repeated(ids, [_safe(p.with_suffix("").as_posix(), p) for p in below])
    ids = _where_repeated(
        ids, [f"{name[:80]}-{_short_hash(p)}" for name, p in zip(ids, below, strict=True)]
    )
    # Only the same file twice, or a file that is called like the hash of another, is left.
    taken = {name.casefold() for name in ids}
    seen: set[str] = set()
    for k, wanted in enumerate(ids):
        number = 2
        while ids[k].casefold() in seen or (number > 2 and ids[k].casefold() in taken):
            ids[k], number = f"{wanted}-{number}", number + 1
        seen.add(ids[k].casefold())
    return ids


def _safe(name: str, path: Path) -> str:
    name = re.sub(r"[^A-Za-z0-9._-]+", "_", name).lstrip("-.").rstrip(".") or "case"
    return name if len(name) <= 80 else f"{name[:80]}-{_short_hash(path)}"


def _short_hash(path: Path) -> str:
    return hashlib.blake2b(os.fsencode(path.as_posix()), digest_size=4).hexdigest()


def _where_repeated(ids: list[str], others: list[str]) -> list[str]:
    count = Counter(i.casefold() for i in ids)
    return [o if count[i.casefold()] > 1 else i for i, o in zip(ids, others, strict=True)]


def row_problems(table: Table, data: DataConfig) -> Iterator[Problem]:
    """Everything that can be told from the manifest's text alone."""
    spelt: dict[str, Counter[str]] = {}
    for r in table.rows:
        spelt.setdefault(plain(r.label), Counter())[r.label] += 1
    try:
        known = resolve_labels(
            (r.label for r in table.rows), data.healthy_labels, data.lesion_labels
        )
        names: tuple[str, ...] | None = known.names
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
    row names a patient, groups of near-duplicate images take their place.

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
    path = Path(path)
    table = read_table(path)
    problems = list(row_problems(table, data))
    if problems:
        raise DataError(
            f"The manifest has {len(problems)} problem{'' if len(problems) == 1 else 's'}:\n"
            + "\n".join(
                f"  - {f'row {p.row}: ' if p.row else ''}{p.message} → {p.fix}" for p in problems
            ),
            where=str(path),
            fix=f"mend them; `weakseg validate {path}` also looks into the files",
        )
    labels = resolve_labels((r.label for r in table.rows), data.healthy_labels, data.lesion_labels)
    cases = table_cases(table)
    if not table.has_patients:
        groups = _groups([c.image for c in cases])
        # A split that the manifest gives stands, even where it parts near-duplicates; the check
        # warns of them.
        cases = [
            replace(c, patient=f"{g}-{c.split}" if c.split else g)
            for c, g in zip(cases, groups, strict=True)
        ]
    return CaseSet(tuple(cases), labels, str(path), table.has_patients)


def table_cases(table: Table) -> list[Case]:
    """The rows as cases, without patients where the manifest names none."""
    images = [table.resolve(r.image) for r in table.rows]
    return [
        Case(
            id=name,
            image=image,
            label=r.label,
            mask=table.resolve(r.mask) if r.mask else None,
            patient=r.patient,
            split=r.split or None,
            row=r.line,
        )
        for r, name, image in zip(table.rows, safe_ids(images), images, strict=True)
    ]


def _groups(images: Sequence[Path]) -> list[str]:
    """Near-duplicate groups whose names do not depend on the order of the rows."""
    from concurrent.futures import ThreadPoolExecutor

    def small(image: Path) -> np.ndarray:
        try:
            return thumbnail(read_image(image))
        except DataError:  # the check names every such file at once
            return np.full((THUMBNAIL, THUMBNAIL), np.nan, dtype=np.float32)

    order = sorted(range(len(images)), key=lambda i: images[i].as_posix())
    with ThreadPoolExecutor(4) as pool:
        names = group_near_duplicates(list(pool.map(small, (images[i] for i in order))))
    groups = [""] * len(images)
    for i, name in zip(order, names, strict=True):
        groups[i] = name
    return groups
