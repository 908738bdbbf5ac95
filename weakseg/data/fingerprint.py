"""A hash of all that a manifest stands for, so that work is made anew when any of it changes."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

from weakseg.config import DataConfig
from weakseg.data.formats.dicom.signs import files_in
from weakseg.data.inspect_files import AT_ONCE, chunks, in_threads
from weakseg.data.manifest import read_configured
from weakseg.data.table import Table, read_table


def data_fingerprint(path: Path, data: DataConfig | None = None) -> str:
    """A hash of all that a manifest stands for.

    Parameters
    ----------
    path : Path
    data : DataConfig, optional
        Where given, what labels and mask values mean counts as well.

    Returns
    -------
    str
        32 hexadecimal digits of BLAKE2b over the manifest and every file that it names. A file
        that is missing counts as such.

    Raises
    ------
    DataError
        If the manifest cannot be read.
    """
    table = read_table(Path(path)) if data is None else read_configured(path, data)
    return table_fingerprint(table, data)


def table_fingerprint(table: Table, data: DataConfig | None = None) -> str:
    """As `data_fingerprint`, of a table as the configuration has it."""
    total = hashlib.blake2b(table.path.read_bytes(), digest_size=16)
    if table.listed is not None:
        total.update(table.listed.read_bytes())
    if data is not None:
        total.update(repr((data.healthy_labels, data.lesion_labels, data.mask_rule)).encode())
        if answers := data.answers():
            total.update(repr(answers).encode())
    files = [table.resolve(c) for c in dict.fromkeys(c for r in table.rows for c in table.files(r))]
    for digests in in_threads(_contents, chunks(files, AT_ONCE)):
        for digest in digests:
            total.update(digest)
    return total.hexdigest()


def _contents(files: Sequence[Path]) -> list[bytes]:
    return [_content(f) for f in files]


def _content(file: Path) -> bytes:
    try:
        if file.is_dir():  # of a series every file, whatever it is called
            each = sorted(_content(f) for f in files_in(file))
            return hashlib.blake2b(b"".join(each)).digest() if each else b"missing"
        if file.is_file():
            with file.open("rb") as f:
                return hashlib.file_digest(f, "blake2b").digest()  # a little at a time
    except (OSError, ValueError):
        pass
    return b"missing"
