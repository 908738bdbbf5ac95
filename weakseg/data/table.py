"""A manifest as text: rows of a CSV, in whatever way a spreadsheet has written it."""

from __future__ import annotations

import csv
import io
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from weakseg.data.decoding import is_volume
from weakseg.errors import DataError, nearest

REQUIRED = ("image", "label")
OPTIONAL = ("mask", "patient", "split")
FURTHER = tuple(f"image{k}" for k in range(2, 10))
"""Further modalities on the image's grid; for volumes only, as is ``roi``."""
JOINED = ";"
"""Between the files of a mask."""
EXAMPLE = "image,label,mask,patient,split"

_KNOWN = (*REQUIRED, *OPTIONAL, *FURTHER, "roi")

_SYNONYMS = {
    "image": ("img", "file", "filename", "path", "image_path", "picture"),
    "label": ("class", "diagnosis", "category", "target", "labels"),
}


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

    @property
    def is_volume(self) -> bool:
        """Whether the image's name is a volume's."""
        return is_volume(self.image)


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
    """

    path: Path
    rows: tuple[Row, ...]
    dropped: tuple[Row, ...] = ()

    @cached_property
    def has_patients(self) -> bool:
        """Whether any row names its patient."""
        return any(r.patient for r in self.rows)

    @cached_property
    def has_splits(self) -> bool:
        """Whether any row names its split."""
        return any(r.split for r in self.rows)

    @cached_property
    def volumes(self) -> bool:
        """Whether the images are volumes; of a mixture, whether most of them are."""
        named = [r.is_volume for r in self.rows if r.image]
        return 2 * sum(named) > len(named)

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
        found = os.path.realpath(path) if linked else f"{self._real_folders[folder]}{os.sep}{name}"
        return self._real.setdefault(cell, os.path.normpath(found))

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


def read_table(path: Path, required: Sequence[str] = REQUIRED) -> Table:
    """Read a manifest's text.

    The delimiter is a comma, semicolon or tab; names of columns ignore case and space; other
    columns are left alone. Blank lines are skipped.

    Raises
    ------
    DataError
        If the file is missing, not text in UTF-8, or lacks its header, a column, or any row.
    """
    text = _text(path)
    first, _, _ = text.lstrip("\r\n \t").partition("\n")
    delimiter = max(",;\t", key=lambda d: (len(_known(first, d)), first.count(d)))
    lines: list[tuple[int, list[str]]] = []
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    at = 1
    try:
        for cells in reader:
            if any(c.strip() for c in cells):
                lines.append((at, [c.strip() for c in cells]))
            at = reader.line_num + 1
    except csv.Error as e:
        raise DataError(
            "The manifest is not well-formed CSV.",
            where=f"{path}, row {at}",
            found=str(e),
            fix='look for a quotation mark " that is not closed',
        ) from None
    if not lines:
        raise DataError(
            "The manifest is empty.",
            where=str(path),
            expected=f"a header such as {EXAMPLE}, and a row an image",
            fix="write a row an image below the header",
        )
    header = [c.casefold() for c in lines[0][1]]
    _check_header(header, lines[0][1], path, required)
    if len(lines) == 1:
        raise DataError(
            "The manifest has a header but no rows.",
            where=str(path),
            fix="write a row an image below the header",
        )
    place = {name: header.index(name) for name in _KNOWN if name in header}
    return Table(path, tuple(_row(line, cells, place, len(header)) for line, cells in lines[1:]))


def _row(line: int, cells: list[str], place: dict[str, int], expected: int) -> Row:
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
        cell("split").casefold(),
        fields,
        expected,
        tuple(more),
        cell("roi"),
    )


def _text(path: Path) -> str:
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise DataError(
            "The manifest does not exist.", where=str(path), fix="check its name and folder"
        ) from None
    except (OSError, ValueError) as e:
        raise DataError(
            "The manifest cannot be read.",
            where=str(path),
            found=getattr(e, "strerror", None) or str(e),
            fix="name a CSV file",
        ) from None
    fix = "save it as CSV in UTF-8 (in Excel: CSV UTF-8)"
    found = None
    if data.startswith(b"PK\x03\x04"):
        found = "a zip file, such as an Excel workbook"
    elif data.startswith((b"\xff\xfe", b"\xfe\xff")):
        found = "text in UTF-16"
    elif b"\0" in data:
        found = "binary data"
    else:
        try:
            return data.decode("utf-8-sig")
        except UnicodeDecodeError as e:
            line = data[: e.start].count(b"\n") + 1
            found = f"byte 0x{data[e.start]:02x} in row {line}, which is not UTF-8"
    raise DataError("The manifest is not text in UTF-8.", where=str(path), found=found, fix=fix)


def _known(line: str, delimiter: str) -> set[str]:
    cells = {c.strip().strip('"').strip().casefold() for c in line.split(delimiter)}
    return cells & {*_KNOWN}


def _check_header(
    header: list[str], written: list[str], path: Path, required: Sequence[str]
) -> None:
    missing = [name for name in required if name not in header]
    near = {m: nearest(m, [*header]) for m in missing}
    for m in missing:
        near[m] = next((s for s in _SYNONYMS[m] if s in header), near[m])
    if len(missing) == len(required) and not any(near.values()):
        raise DataError(
            "The manifest has no header.",
            where=f"{path}, row 1",
            found=", ".join(written),
            expected=f"names of columns, such as {EXAMPLE}",
            fix="write the header above the rows",
        )
    if missing:
        renames = [f"rename {near[m]!r} to {m!r}" for m in missing if near[m]]
        raise DataError(
            f"The manifest has no column {' and no column '.join(repr(m) for m in missing)}.",
            where=f"{path}, row 1",
            found=f"columns {', '.join(written)}",
            expected=f"image, label and optionally {', '.join(OPTIONAL)}",
            fix="; ".join(renames) or "add the column",
        )
    twice = [n for n, k in Counter(header).items() if k > 1 and n in _KNOWN]
    if twice:
        raise DataError(
            f"The manifest has two columns {twice[0]!r}.",
            where=f"{path}, row 1",
            found=f"columns {', '.join(written)}",
            fix="remove or rename one of them",
        )
