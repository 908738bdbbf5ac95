"""Labels of slices in a table of their own, laid over a manifest that lists volumes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from weakseg.data.columns import OPTIONAL, REQUIRED, SLICE
from weakseg.data.table import JOINED, Row, Table, read_table
from weakseg.errors import DataError

MOST = 6
"""Rows that an error names."""


def with_slice_labels(table: Table, labels: Path) -> Table:
    """The slices that a second table labels, as rows of a manifest of volumes.

    Parameters
    ----------
    table : Table
        A row a volume; patient and split are its own, and so is the mask of slices that name none.
        A volume of which no slice is labelled is left out.
    labels : Path
        A CSV with the columns image, slice and label, and mask if wanted; paths are relative to its
        own folder.

    Returns
    -------
    Table
        A row a slice, with the line that it has in ``labels``.

    Raises
    ------
    DataError
        If one of the two cannot be read, the manifest names slices itself, or a volume twice, or
        a slice is of a volume that it does not list.
    """
    if table.sliced:
        raise DataError(
            "Slices are labelled twice: in the manifest and in data.slice_labels.",
            where=str(table.path),
            found=f"a column {SLICE!r} that is filled",
            expected="a row a volume",
            fix=f"leave out the column {SLICE!r}, or data.slice_labels",
        )
    listed = read_table(labels, required=(*REQUIRED, SLICE), aside=OPTIONAL)
    volumes: dict[str, Row] = {}
    for row in table.rows:
        if row.image and volumes.setdefault(table.real(row.image), row) is not row:
            raise DataError(
                "A volume is listed twice, while data.slice_labels labels its slices.",
                where=str(table.path),
                found=f"{row.image}, row {row.line}",
                fix="list every volume once",
            )
    lost = [r for r in listed.rows if listed.real(r.image) not in volumes]
    if lost:
        named = ", ".join(f"row {r.line}: {r.image or 'blank'}" for r in lost[:MOST])
        raise DataError(
            "Slices are labelled of volumes that the manifest does not list.",
            where=str(labels),
            found=named + (f", … ({len(lost)} in all)" if len(lost) > MOST else ""),
            expected=f"volumes of {table.path}",
            fix="list the volumes in the manifest, with their patients, or delete these rows",
        )
    rows = tuple(_rows(table, listed, volumes))
    return replace(table, rows=rows, listed=labels, taken=(*table.taken, *listed.taken))


def _rows(table: Table, listed: Table, volumes: dict[str, Row]) -> Iterator[Row]:
    for row in listed.rows:
        volume = volumes[listed.real(row.image)]
        mask = JOINED.join(str(listed.resolve(m)) for m in listed.masks(row)) or volume.mask
        yield replace(
            volume,
            line=row.line,
            label=row.label,
            mask=mask,
            slice=row.slice,
            fields=row.fields,
            expected=row.expected,
        )
