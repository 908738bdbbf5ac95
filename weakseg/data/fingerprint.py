"""Hashes of what a manifest stands for, so that work is made anew when what it read changes.

One is over everything, and one over what a classifier sees: images, labels and splits, without the
masks, so that a corrected mask costs no training that never saw it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

from weakseg.config import DataConfig
from weakseg.data.cases import CaseSet
from weakseg.data.digests import Digests, Known, digest_files
from weakseg.data.manifest import read_configured
from weakseg.data.table import Table, read_table


def data_fingerprint(path: Path, data: DataConfig | None = None, known: Known | None = None) -> str:
    """A hash of all that a manifest stands for.

    Parameters
    ----------
    path : Path
    data : DataConfig, optional
        Where given, what labels and mask values mean counts as well.
    known : Known, optional
        Files that a run has read before.

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
    return table_fingerprint(table, data, file_digests(table, known).of)


def file_digests(table: Table, known: Known | None = None) -> Digests:
    """What every file that a table names holds; those ``known`` to be unchanged are not read."""
    cells = dict.fromkeys(c for r in table.rows for c in table.files(r))
    return digest_files(map(table.resolve, cells), known)


def table_fingerprint(table: Table, data: DataConfig | None, files: Mapping[Path, bytes]) -> str:
    """As `data_fingerprint`, of a table as the configuration has it, and its `file_digests`."""
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
        See `file_digests`.

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
