"""A manifest as text: its rows, and what their paths mean."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from weakseg.config import SPLITS
from weakseg.data.columns import FURTHER, REQUIRED, SLICE, find_columns, further_column
from weakseg.data.csv_text import read_cells
from weakseg.data.formats.base import Formats
from weakseg.data.formats.registry import IMAGES, formats_of
from weakseg.errors import DataError

JOINED = ";"
"""Between the files of a mask."""

SPLIT_NAMES = {"training": "train", "validation": "val", "valid": "val", "testing": "test"}
"""Other words for a split → ours."""


@dataclass(frozen=True)
class Row:
    """One row of a manifest; cells without surrounding space, blank where there is none.

    Attributes
    ----------
    line : int
        As an editor counts it.
    image, label, mask, patient, split : str
    fields, expected : int
        Cells that the row has, and columns of the header.
    more : tuple of str
        The cells of `FURTHER`, up to the last that is filled.
    roi : str
        The mask of the region of interest.
    slice : str
        The index of a slice of the image; blank where the whole is meant.
    folder : Path
        That of the manifest, which paths are relative to.
    group : str
        The cell of the column by which patients are left out, where there is one.
    """

    line: int
    image: str
    label: str
    mask: str
    patient: str
    split: str
    fields: int
    expected: int
    more: tuple[str, ...] = ()
    roi: str = ""
    slice: str = ""
    folder: Path = field(default=Path(), repr=False)
    group: str = ""

    @property
    def formats(self) -> Formats[Any]:
        """The formats that the image may have."""
        return formats_of(self.folder / self.image) if self.image else IMAGES

    @property
    def index(self) -> int | None:
        """The slice of a volume that is meant; None for the whole.

        ``12.0`` is 12: so programs write whole numbers of a column that has blank cells.
        """
        whole, _, rest = self.slice.partition(".")
        known = self.is_slice and whole.isdecimal() and not rest.strip("0")
        return int(whole) if known else None

    @property
    def is_slice(self) -> bool:
        """Whether a slice of the image is meant; images have none."""
        return bool(self.slice) and self.formats.further

    @property
    def noun(self) -> str:
        """What the row is of: image, slice or volume."""
        return "slice" if self.is_slice else self.formats.noun

    @property
    def modalities(self) -> tuple[str, ...]:
        """The cells that name an image."""
        cells = (self.image, *self.more) if self.formats.further else (self.image,)
        return tuple(c for c in cells if c)


@dataclass(frozen=True)
class Table:
    """A manifest as text.

    What is asked of the whole is asked at every row, and therefore found once.

    Attributes
    ----------
    path : Path
    rows : tuple of Row
    dropped : tuple of Row
        Rows that the configuration leaves out.
    taken : tuple of (str, str)
        Of columns under another name: that name, and ours.
    turned : int
        Rows with a path of Windows, which is read with ``/`` between folders.
    listed : Path, optional
        The file whose lines the rows have, where that is another, see
        `weakseg.data.slice_labels.with_slice_labels`.
    """

    path: Path
    rows: tuple[Row, ...]
    dropped: tuple[Row, ...] = ()
    taken: tuple[tuple[str, str], ...] = ()
    turned: int = 0
    listed: Path | None = None

    @property
    def lines_of(self) -> Path:
        """The file whose lines the rows have."""
        return self.path if self.listed is None else self.listed

    @cached_property
    def has_patients(self) -> bool:
        """Whether any row names its patient."""
        return any(r.patient for r in self.rows)

    @cached_property
    def has_splits(self) -> bool:
        """Whether any row names its split."""
        return any(r.split for r in self.rows)

    @cached_property
    def formats(self) -> Formats[Any]:
        """The formats of the images; of a mixture, those of most of them."""
        named = Counter(r.formats.noun for r in self.rows if r.image)
        most = {r.formats.noun: r.formats for r in self.rows if r.image}
        return max(most.values(), key=lambda f: (named[f.noun], f is IMAGES), default=IMAGES)

    @cached_property
    def sliced(self) -> bool:
        """Whether the rows are slices of volumes."""
        return any(r.is_slice for r in self.rows)

    def masks(self, row: Row) -> tuple[str, ...]:
        """The files that a row's mask names: one, or several joined by `JOINED`.

        A file whose own name holds the sign is that file: of the parts, as many as name a file
        belong together.
        """
        if JOINED not in row.mask:
            return (row.mask,) if row.mask else ()
        if row.mask not in self._masks:
            self._masks[row.mask] = tuple(dict.fromkeys(self._split_mask(row.mask)))
        return self._masks[row.mask]

    def _split_mask(self, cell: str) -> Iterator[str]:
        parts = cell.split(JOINED)
        while parts:
            names = [JOINED.join(parts[:k]).strip() for k in range(len(parts), 0, -1)]
            whole = next((n for n in names[:-1] if os.path.isfile(self.resolve(n))), None)  # noqa: PTH113
            name = names[-1] if whole is None else whole
            if name:
                yield name
            parts = parts[len(parts) - names.index(name) :]

    def files(self, row: Row) -> tuple[str, ...]:
        """Every file that a row names."""
        return tuple(c for c in (row.image, *self.masks(row), *row.more, row.roi) if c)

    def resolve(self, cell: str) -> Path:
        """The absolute path that a cell means to the operating system."""
        path = self._paths.get(cell)
        if path is None:
            path = self._folder / cell
            if ".." in path.parts:
                path = self._without_dots(path)
            self._paths[cell] = path
        return path

    def _without_dots(self, path: Path) -> Path:
        """Without ``..``, which behind a link is the folder above the link's target."""
        folder = str(path.parent)
        if folder not in self._plain_folders:
            folded, real = os.path.normpath(folder), os.path.realpath(folder)
            # Where no link is in the way, the path stays as it was written.
            self._plain_folders[folder] = folded if os.path.realpath(folded) == real else real
        return Path(self._plain_folders[folder]) / path.name

    def real(self, cell: str) -> str:
        """The file behind the path that a cell means, whatever links lead to it.

        Links are followed once: a table is read, looked through and let go.
        """
        if cell in self._real:
            return self._real[cell]
        path = str(self.resolve(cell))
        folder, name = os.path.split(path)
        if folder not in self._real_folders:
            self._real_folders[folder] = os.path.realpath(folder)
        # Most paths are no links; realpath asks that of every folder above them, too. (pathlib's
        # question is no use here: it fails where a name is too long.)
        linked = os.path.islink(path)  # noqa: PTH114
        place = os.path.realpath(path) if linked else f"{self._real_folders[folder]}{os.sep}{name}"
        return self._real.setdefault(cell, os.path.normpath(place))

    @cached_property
    def _folder(self) -> Path:
        return self.path.absolute().parent

    @cached_property
    def _paths(self) -> dict[str, Path]:
        return {}

    @cached_property
    def _masks(self) -> dict[str, tuple[str, ...]]:
        return {}

    @cached_property
    def _plain_folders(self) -> dict[str, str]:
        return {}

    @cached_property
    def _real(self) -> dict[str, str]:
        return {}

    @cached_property
    def _real_folders(self) -> dict[str, str]:
        return {}


def read_table(
    path: Path,
    required: Sequence[str] = REQUIRED,
    *,
    group: str | None = None,
    aside: Sequence[str] = (),
) -> Table:
    """Read a manifest's text.

    Delimiter and encoding are recognised, see `weakseg.data.csv_text.read_cells`; columns may have
    the names that other sets give them, see `weakseg.data.columns.OTHER_NAMES`; others are left
    alone, but for that of `Row.group`. Blank lines are skipped. Of ``aside``
    nothing is needed: where several columns may be one of them, none is taken. Where a path as it
    is written leads nowhere, and with ``/`` for ``\\`` to a file, that file is meant.

    Raises
    ------
    DataError
        If the file is missing, not text, or lacks its header, a column, or any row.
    """
    (_, header), *lines = read_cells(path)
    columns = find_columns(
        header,
        [cells for _, cells in lines],
        path,
        required,
        (*SPLITS, *SPLIT_NAMES),
        aside=aside,
    )
    grouped = None if group is None else further_column(header, group, path)
    if not lines:
        raise DataError(
            "The manifest has a header but no rows.",
            where=str(path),
            fix="write a row an image below the header",
        )
    folder = path.absolute().parent
    turned = [_turned(cells, columns.place, folder) for _, cells in lines]
    rows = (
        _row(line, new or cells, columns.place, columns.count, folder, grouped)
        for (line, cells), new in zip(lines, turned, strict=True)
    )
    return Table(path, tuple(rows), taken=columns.taken, turned=sum(t is not None for t in turned))


def _turned(cells: list[str], place: dict[str, int], folder: Path) -> list[str] | None:
    """The cells with ``/`` in paths of Windows; None where they hold none that leads to a file."""
    at = [place[n] for n in ("image", "mask", *FURTHER, "roi") if n in place]
    new = list(cells)
    for k in (k for k in at if k < len(cells) and "\\" in cells[k]):
        named = [p.strip() for p in (cells[k], *cells[k].split(JOINED)) if "\\" in p]
        slashed = [p.replace("\\", "/") for p in named]
        if any(_leads(folder, p) for p in slashed) and not any(_leads(folder, p) for p in named):
            new[k] = cells[k].replace("\\", "/")
    return new if new != cells else None


def _leads(folder: Path, cell: str) -> bool:
    return os.path.exists(folder / cell)  # noqa: PTH110  (pathlib's fails where a name is too long)


def split_name(written: str) -> str:
    """A split by our name for it, whatever common word says it; other words as they stand."""
    return SPLIT_NAMES.get(written.casefold(), written.casefold())


def _row(
    line: int,
    cells: list[str],
    place: dict[str, int],
    expected: int,
    folder: Path,
    grouped: int | None,
) -> Row:
    def cell(name: str) -> str:
        i = place.get(name)
        return cells[i] if i is not None and i < len(cells) else ""

    fields = len(cells)
    while fields > expected and not cells[fields - 1]:  # spreadsheets add empty ones
        fields -= 1
    more = [cell(name) for name in FURTHER] if not place.keys().isdisjoint(FURTHER) else []
    while more and not more[-1]:
        more.pop()
    return Row(
        line,
        cell("image"),
        cell("label"),
        cell("mask"),
        cell("patient"),
        split_name(cell("split")),
        fields,
        expected,
        tuple(more),
        cell("roi"),
        cell(SLICE),
        folder,
        "" if grouped is None or grouped >= fields else cells[grouped],
    )
