"""Hashes of what a manifest stands for, so that work is made anew when what it read changes.

One is over everything, and one over what a classifier sees: images, labels and splits, without the
masks, so that a corrected mask costs no training that never saw it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path

from weakseg.config import DataConfig
from weakseg.data.cases import CaseSet
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
    return table_fingerprint(table, data, contents(table))


def contents(table: Table) -> dict[Path, bytes]:
    """Every file that a table names → a digest of its content; of one that is missing of that."""
    files = [table.resolve(c) for c in dict.fromkeys(c for r in table.rows for c in table.files(r))]
    digests = in_threads(_contents, chunks(files, AT_ONCE))
    return dict(zip(files, (one for some in digests for one in some), strict=True))


def table_fingerprint(table: Table, data: DataConfig | None, files: Mapping[Path, bytes]) -> str:
    """As `data_fingerprint`, of a table as the configuration has it, and its `contents`."""
    total = hashlib.blake2b(table.path.read_bytes(), digest_size=16)
    if table.listed is not None:
        total.update(table.listed.read_bytes())
    if data is not None:
        total.update(repr((data.healthy_labels, data.lesion_labels, data.mask_rule)).encode())
        if answers := data.answers():
            total.update(repr(answers).encode())
    for cell in dict.fromkeys(c for r in table.rows for c in table.files(r)):
        total.update(files[table.resolve(cell)])
    return total.hexdigest()


def images_fingerprint(cases: CaseSet, files: Mapping[Path, bytes]) -> str:
    """A hash of what there is to see without masks.

    Parameters
    ----------
    cases : CaseSet
        With splits.
    files : mapping
        See `contents`.

    Returns
    -------
    str
        32 hexadecimal digits of BLAKE2b over each case's name, label, patient and split, and over
        the files of its image, and of a volume's further modalities and region of interest. The
        manifest's other columns and its masks count nothing.
    """
    total = hashlib.blake2b(digest_size=16)
    total.update(repr((cases.labels.healthy, cases.labels.lesion)).encode())
    for c in cases.cases:
        total.update(repr((c.id, c.label, c.patient, c.split, c.slice, c.volume)).encode())
        for image in (c.image, *c.more, c.roi):
            total.update(b"none" if image is None else files[image])
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
