"""A run before anything of it is written: its data looked at, its patients dealt out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from weakseg.config import PHANTOM, Config, fingerprint, load_config
from weakseg.config.differences import differences
from weakseg.data.arrays import ImageBatches, channels_of
from weakseg.data.digests import Known, read_known
from weakseg.data.fingerprint import file_digests, images_fingerprint, table_fingerprint
from weakseg.data.manifest import Table, case_set, patient_stand_ins, read_configured
from weakseg.data.splits import make_splits, read_splits
from weakseg.data.summary import summarise_cases
from weakseg.errors import DataError, WeaksegError
from weakseg.layout import config_file, data_files, splits_file
from weakseg.methods.checks import check_names, check_settings, checked_table
from weakseg.methods.prepared import Prepared
from weakseg.progress import say
from weakseg.runs import Run

FEW = 4
"""How many settings are named in which two runs differ."""


def checked_run(
    config: Config, folder: Path, path: Path, *, force: bool = False
) -> tuple[Prepared, dict[str, Any], Known]:
    """A run whose settings and data are found to be good, with nothing written.

    Parameters
    ----------
    config : Config
    folder : Path
        Of the run; where it knows these data already, they are not looked at again.
    path : Path
        The manifest.
    force : bool
        Read every file, whatever the run's list of them says.

    Returns
    -------
    prepared : Prepared
        Images are not kept beside the run.
    about : dict
        What its record says of the data.
    known : Known
        The files of the data, for its list.
    """
    record = Run(folder).record
    table = read_configured(path, config.data)
    check_names(config)  # a name is told before any file is read
    files = file_digests(table, None if force else read_known(data_files(folder)))
    data = table_fingerprint(table, config.data, files.of)
    reading = config.data.fingerprint_settings()
    key = fingerprint(data, reading)
    before = record.get("data", {})
    stand_ins = None if table.has_patients else _patients_before(folder, table)
    # Without the patients that were found before, the images are looked at again.
    if before.get("key") == key and (table.has_patients or stand_ins is not None):
        cases = case_set(table, config.data, stand_ins)
        channels = int(before["channels"])
    else:
        findings = checked_table(table, config)
        stand_ins = patient_stand_ins(table, findings.groups) if findings.groups else None
        cases = case_set(table, config.data, stand_ins)
        channels = channels_of(cases, config.data, findings.grey)
    if config.data.manifest == PHANTOM:
        cases = replace(cases, source=PHANTOM, simulated=True)
    if config.data.manifest != PHANTOM:
        made = record.get("stages", {})
        check_settings(config, cases.labels, channels, cases.dims, made)
    cases = cases.with_cases(make_splits(cases.cases, cases.labels, config.data.split))
    whole = fingerprint(key, {c.id: c.split for c in cases.cases})
    images = ImageBatches(cases.cases, config.data, channels)
    seen = fingerprint(images_fingerprint(cases, files.of), reading)
    named = _name_of_images(before, seen, whole)
    about = {"key": key, "fingerprint": data, "splits_key": whole}
    about |= {"images_key": seen} | ({"images_known_as": named} if named != seen else {})
    prepared = Prepared(config, Run(folder), cases, channels, whole, named, images)
    return prepared, summarise_cases(cases, channels) | about, files.known


def _name_of_images(before: Mapping[str, Any], seen: str, whole: str) -> str:
    """The fingerprint of the images in the keys of what sees no mask.

    A run from before there was one has that of all data in its place, and keeps it for as long as
    its images stay what they were, so that none of its networks is trained again.

    Parameters
    ----------
    before : mapping
        What the run's record says of its data.
    seen, whole : str
        Fingerprints of the images, and of all data with its splits.
    """
    if before.get("images_key") == seen:
        return str(before.get("images_known_as", seen))
    old = "images_key" not in before and before.get("splits_key") == whole
    return whole if old else seen


def _patients_before(folder: Path, table: Table) -> list[str] | None:
    """The patient of each row as an earlier stage of the same data has found it, if it is there."""
    try:
        earlier = read_splits(splits_file(folder))
    except DataError:
        return None
    now = [(table.resolve(r.image), r.index) for r in table.rows]
    same = [(c.image, c.slice) for c in earlier] == now
    return [c.patient for c in earlier] if same else None


def say_other_settings(folder: Path, config: Config) -> None:
    """Say how an earlier run of the same name differs from this one in its settings."""
    try:
        others = differences(load_config(config_file(folder)), config)
    except WeaksegError:  # none, or one that is written anew
        return
    if others:
        few = ", ".join(others[:FEW]) + (f" and {len(others) - FEW} more" if others[FEW:] else "")
        say(
            f"{folder}: goes on with a run of other settings: {few}. What depends on them is made "
            "again; another name (--set name=OTHER) or --run-dir keeps both"
        )
