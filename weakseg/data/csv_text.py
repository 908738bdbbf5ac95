"""A CSV as cells, in whatever way a spreadsheet has written it."""

from __future__ import annotations

import codecs
import csv
import io
import re
from pathlib import Path

from weakseg.data.columns import EXAMPLE, recognised
from weakseg.errors import DataError

DELIMITERS = ",;\t|"

_DIRECTIVE = re.compile(r'\s*"?sep=(.)"?[ ]*(?:\r\n|\r|\n|$)', re.IGNORECASE)
"""The line by which Excel is told the delimiter."""
_MARKS = {
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
"""What a text begins with that is not UTF-8; the longer ones first, as the shorter begin them."""
_FOREIGN = {
    b"PK\x03\x04": "a zip file, such as an Excel workbook",
    b"\xd0\xcf\x11\xe0": "a workbook of an old Excel, or another file of old Office",
    b"%PDF": "a PDF",
    b"\x1f\x8b": "gzip data",
    b"PAR1": "a Parquet file",
    b"\x89PNG": "a PNG image",
    b"\xff\xd8\xff": "a JPEG image",
}
_FOLDER_OF_IMAGES = "name the CSV that lists the images; weakseg init FOLDER writes one"
AS_TEXT = "save it as CSV in UTF-8 (in Excel: CSV UTF-8)"
_UNSEEN = "\ufeff\u200b\u200c\u200d\u2060\u00ad"
"""Signs without width that copied text brings along."""


def read_cells(path: Path) -> list[tuple[int, list[str]]]:
    """The lines of a CSV that are not blank: the number as an editor counts it, and the cells.

    The delimiter is a comma, semicolon, tab or ``|``, or what a first line ``sep=`` says; the
    encoding UTF-8, or UTF-16 or UTF-32 where the file's first bytes say so. Cells lose what
    surrounds them without being seen.

    Raises
    ------
    DataError
        If the file is missing, not text in UTF-8, not well-formed, or empty.
    """
    text = _text(path)
    directive = _DIRECTIVE.match(text)
    at = 1
    if directive:
        at += len(re.findall(r"\r\n|\r|\n", directive[0]))
        text = text[directive.end() :]
    first = re.split(r"[\r\n]", text.lstrip("\r\n \t"), maxsplit=1)[0]
    delimiter = max(DELIMITERS, key=lambda d: (recognised(first, d), first.count(d)))
    if directive:
        delimiter = directive[1]
    lines: list[tuple[int, list[str]]] = []
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    begin = at
    try:
        for cells in reader:
            shown = [_shown(c) for c in cells]
            if any(shown):
                lines.append((at, shown))
            at = begin + reader.line_num
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
    return lines


def _shown(cell: str) -> str:
    cell = cell.strip()
    return cell if cell.isascii() else cell.strip(_UNSEEN).strip()


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
            fix=_FOLDER_OF_IMAGES if isinstance(e, IsADirectoryError) else "name a CSV file",
        ) from None
    text, foreign = _decoded(data)
    if foreign is None:
        return text
    raise DataError(
        "The manifest is not text in UTF-8.",
        where=str(path),
        found=foreign,
        fix=_FOLDER_OF_IMAGES if foreign.endswith("image") else AS_TEXT,
    )


def why_no_text(path: Path) -> str | None:
    """Why a file is not text that `read_cells` reads; None where it is, or cannot be read."""
    try:
        return _decoded(path.read_bytes())[1]
    except (OSError, ValueError):
        return None


def _decoded(data: bytes) -> tuple[str, str | None]:
    """A file's text, or what it is in the place of text."""
    encoding = next((e for mark, e in _MARKS.items() if data.startswith(mark)), "utf-8-sig")
    foreign = next((what for head, what in _FOREIGN.items() if data.startswith(head)), None)
    if foreign is None:
        try:
            text = data.decode(encoding)
        except UnicodeDecodeError as e:
            line = data[: e.start].count(b"\n") + 1
            name = encoding.removesuffix("-sig").upper()
            foreign = f"byte 0x{data[e.start]:02x} in row {line}, which is not {name}"
        else:
            if "\0" not in text:
                return text, None
            halves = data[:200][::2], data[:200][1::2]
            wide = any(half and not half.strip(b"\0") for half in halves)
            foreign = "text in UTF-16 without its mark" if wide else "binary data"
    return "", foreign
