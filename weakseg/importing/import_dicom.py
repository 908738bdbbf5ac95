"""``weakseg import dicom``: volumes and pictures of a DICOM tree, and a manifest to be labelled.

Nothing that tells who a patient is gets into the output: names are keyed hashes.

One room for the whole walk over a tree: what is written, refused and told shares one record.
"""

from __future__ import annotations

import os
import re
import shlex
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from weakseg.data.formats.dicom.display import Window
from weakseg.data.formats.dicom.header import text
from weakseg.data.formats.dicom.identity import shown_path
from weakseg.data.pseudonyms import Pseudonyms, default_key_file, read_pseudonyms
from weakseg.errors import DataError, UserError, count
from weakseg.importing.base import Item
from weakseg.importing.dicom import Picture, Refused, content_of, scan
from weakseg.importing.dicom_files import write_pictures, write_volume
from weakseg.importing.manifest import LABELS, write_items
from weakseg.progress import progress
from weakseg.runs import inside, make_folder, write_text
from weakseg.spreadsheets import csv_lines

if TYPE_CHECKING:
    from pydicom import Dataset

NOT_IMPORTED = "not-imported.csv"
PARTS = {"volumes": "labels-volumes.csv", "images": "labels-images.csv"}
"""Folders of the output, and their manifests where there are both."""
_WHO = ("PatientID", "PatientName", "AccessionNumber", "StudyDate", "SeriesDescription")
_SAID = 8

Who = tuple[str, ...]


@dataclass
class _Import:
    """What has been written so far."""

    out: Path
    names: Pseudonyms
    window: Window
    items: dict[str, list[Item]] = field(default_factory=lambda: {k: [] for k in PARTS})
    who: list[Who] = field(default_factory=list)
    unknown: set[str] = field(default_factory=set)
    burned: int = 0
    issuers: dict[str, set[str]] = field(default_factory=dict)
    _studies: dict[str, str] = field(default_factory=dict)

    def patient(self, header: Dataset) -> str:
        """The hash that stands for the patient; for the study where no patient is told.

        The issuer of a number is no part of it: archives leave it out of some files of a patient,
        who would be two then, in two splits.
        """
        if number := text(header, "PatientID"):
            return self.names.of("patient", "", number)
        if person := _person(header):
            return self.names.of("person", *person)
        return self.names.of("study", text(header, "StudyInstanceUID"))

    def series(self, header: Dataset) -> str:
        """The hash that stands for the series.

        Of its own number, as long as that is one study's alone: anonymisers leave it blank, or
        write the same one everywhere.
        """
        number, study = (text(header, f"{k}InstanceUID") for k in ("Series", "Study"))
        if number and self._studies.setdefault(number, study) == study:
            return self.names.of("series", number)
        return self.names.of("series", study, number)

    def shown(self, header: Dataset | None) -> tuple[str, str, str]:
        """Modality, patient and series as they may be written."""
        if header is None:
            return "", "", ""
        modality = text(header, "Modality")
        shown = modality if re.fullmatch("[A-Z]{2,6}", modality) else ""
        return shown, self.patient(header), self.series(header)

    def identity(self, header: Dataset | None, file: Path, why: str, name: str = "") -> Who:
        """A row of the table for the owner."""
        values = [text(header, k) if header is not None else "" for k in _WHO]
        return name, self.shown(header)[1], *values, str(file), why

    def add(self, part: str, name: str, header: Dataset, file: Path) -> None:
        """Remember what was written."""
        modality, patient, series = self.shown(header)
        if text(header, "PatientID"):
            issuer = text(header, "IssuerOfPatientID")
            self.issuers.setdefault(patient, set()).update({issuer} - {""})
        elif not _person(header):
            self.unknown.add(patient)
        extra = {"modality": modality, "series": series}
        self.items[part].append(Item(Path(part, name), "", patient=patient, extra=extra))
        self.who.append(self.identity(header, file, "", f"{part}/{name}"))
        self.burned += text(header, "BurnedInAnnotation").upper() == "YES"

    def stem(self, header: Dataset) -> str:
        """What the names of a series' files begin with."""
        return f"{self.patient(header)[:8]}-{self.series(header)}"


def _person(header: Dataset) -> tuple[str, str] | None:
    """Name and date of birth, where both are told."""
    name, born = text(header, "PatientName"), text(header, "PatientBirthDate")
    return (name, born) if name and born else None


def import_dicom(
    folders: Sequence[Path],
    out: Path,
    *,
    key: Path | None = None,
    as_images: bool = False,
    window: Window = "file",
    who: Path | None = None,
    force: bool = False,
) -> str:
    """Write what a tree of DICOM files holds as NIfTI volumes and PNG pictures, and a manifest.

    Parameters
    ----------
    folders : sequence of Path
    out : Path
        Gets ``volumes/*.nii.gz`` and ``images/*.png``, ``labels.csv`` whose labels are blank (two
        manifests where there are both), and ``not-imported.csv``.
    key : Path, optional
        See `weakseg.data.pseudonyms.read_pseudonyms`.
    as_images : bool
        Whether the slices of volumes become pictures.
    window : {"file", "none"} or (low, high)
        Of pictures, see `weakseg.data.formats.dicom.display.shown_samples`.
    who : Path, optional
        A table of who is behind each hash, for the data's owner alone.
    force : bool
        Whether to overwrite what is there.

    Returns
    -------
    str
        What was written, what was not, and what comes next.

    Raises
    ------
    UserError
        Before anything is written: where the output, the table or the key is there already, or in
        a wrong place.
    DataError
        Where there is no folder, or nothing to import.
    """
    _refuse(out, who, folders, force)
    names = read_pseudonyms(key, [out, *folders])
    with progress("reading headers", 0) as advance:
        content = scan(folders, advance)
    refused = list(content.refused)
    if not content.groups:
        raise DataError(
            "The folder holds no DICOM image.",
            where=", ".join(shown_path(f) for f in folders),
            found=", ".join(_counted(refused)) or "no file",
            fix="name the folder in which exported studies lie",
        )
    make_folder(out)
    written = _Import(out, names, window)
    with progress("writing", len(content.groups)) as advance:
        for files in content.groups.values():
            refused += _write_series(written, files, as_images)
            advance()
    manifests = _write_manifests(written)
    write_text(out / NOT_IMPORTED, csv_lines(_refused_rows(written, refused)))
    if who is not None:
        _write_who(
            who, [*written.who, *(written.identity(r.header, r.file, r.why) for r in refused)]
        )
    return _told(written, refused, manifests, key or default_key_file(), who)


def parse_window(given: str) -> Window:
    """``file``, ``none``, or two numbers with a comma between them.

    Raises
    ------
    UserError
        For anything else.
    """
    if given in ("file", "none"):
        return given  # type: ignore[return-value]
    try:
        low, high = (float(v) for v in given.split(","))
    except ValueError:
        low = high = 0.0
    if not low < high:
        raise UserError(
            "--window is not understood.",
            found=given,
            expected="file, none, or LOW,HIGH, for instance --window=-160,240",
        )
    return low, high


def _refuse(out: Path, who: Path | None, folders: Sequence[Path], force: bool) -> None:
    there = [n for n in (LABELS, *PARTS.values()) if (out / n).exists()]
    if there and not force:
        raise UserError(
            f"The folder holds {' and '.join(there)} already.",
            where=str(out),
            fix="name another folder with --out, or overwrite with --force",
        )
    for folder in folders:
        if out.resolve().is_relative_to(folder.resolve()):
            raise UserError(
                "The output lies in the folder that is imported.",
                where=str(out),
                fix="name a folder beside it with --out",
            )
    if who is not None and who.resolve().is_relative_to(out.resolve()):
        raise UserError(
            "The table of who is behind each hash must not lie in the output.",
            where=str(who),
            fix="keep it where only the owner of the data gets",
        )
    if who is not None and who.exists() and not force:
        raise UserError("The table is there already.", where=str(who), fix="name another file")


def _write_series(written: _Import, files: Sequence[Path], as_images: bool) -> list[Refused]:
    """Write the volumes and the pictures of one series; what cannot be written."""
    try:
        content = content_of(files, as_images)
    except (OSError, ValueError, DataError) as e:
        why = e.what if isinstance(e, DataError) else "a series that cannot be read"
        return [Refused(files[0], why, None, len(files))]
    refused = list(content.refused)
    several = len(content.volumes) > 1
    for k, series in enumerate(content.volumes, 1):
        header = series.slices[0].header
        name = written.stem(header) + (f"-{k}" if several else "") + ".nii.gz"
        if error := _tried(write_volume, inside(written.out, "volumes", name), series):
            n = len({s.file for s in series.slices})
            refused.append(Refused(series.slices[0].file, error, header, n))
        else:
            written.add("volumes", name, header, series.slices[0].file.parent)
    for file in dict.fromkeys(p.file for p in content.pictures):
        some = [p for p in content.pictures if p.file == file]
        if error := _tried(_write_pictures, written, some):
            refused.append(Refused(file, error, some[0].header))
    return refused


def _tried(write: Callable[..., None], *arguments: Any) -> str | None:
    """What is wrong with data that cannot be written; None where it could be."""
    try:
        write(*arguments)
    except DataError as e:
        install = f"; {e.fix}" if e.fix and e.fix.startswith("pip") else ""
        return e.what.rstrip(".") + (f" ({e.found})" if e.found else "") + install
    except (ValueError, EOFError):
        return "its pixels cannot be decoded"
    return None


def _write_pictures(written: _Import, pictures: Sequence[Picture]) -> None:
    """The frames of one file as PNG files."""
    file, header = pictures[0].file, pictures[0].header
    made = written.names.of("object", text(header, "SOPInstanceUID") or file.name)
    names = {
        p.index: f"{written.stem(header)}{f'-{p.number:04}' if p.number else ''}-{made[:8]}.png"
        for p in pictures
    }
    paths = {k: inside(written.out, "images", name) for k, name in names.items()}
    write_pictures(file, paths, written.window)
    for name in names.values():
        written.add("images", name, header, file)


def _write_manifests(written: _Import) -> list[Path]:
    """Write the manifests; one is ``labels.csv`` where there is but one."""
    filled = {part: items for part, items in written.items.items() if items}
    paths = []
    for part, items in filled.items():
        path = written.out / (LABELS if len(filled) == 1 else PARTS[part])
        write_items(path, sorted(items, key=lambda i: i.image.as_posix()))
        paths.append(path)
    return paths


def _refused_rows(written: _Import, refused: Sequence[Refused]) -> Iterator[tuple[str, ...]]:
    yield "files", "modality", "patient", "series", "why"
    for r in refused:
        yield str(r.files), *written.shown(r.header), r.why


def _write_who(path: Path, rows: Sequence[Who]) -> None:
    """A table that its owner alone may read."""
    path.parent.mkdir(parents=True, exist_ok=True)
    header = ("image", "patient", *_WHO, "file", "not imported")
    # Into a new file: one that is there keeps its permissions, and whoever has it open reads on.
    part = path.with_name(f".{path.name}.{os.getpid()}")
    part.unlink(missing_ok=True)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
    try:
        with os.fdopen(os.open(part, flags, 0o600), "w", encoding="utf-8", newline="") as f:
            f.write(csv_lines([header, *rows]))
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def _counted(refused: Sequence[Refused]) -> list[str]:
    counts: Counter[str] = Counter()
    for r in refused:
        counts[r.why.partition(" (")[0]] += r.files
    return [f"{n} × {why}" for why, n in counts.most_common(_SAID)]


def _told(
    written: _Import,
    refused: Sequence[Refused],
    manifests: Sequence[Path],
    key: Path,
    who: Path | None,
) -> str:
    patients = {i.patient for items in written.items.values() for i in items}
    made = [
        count(len(items), part.removesuffix("s")) for part, items in written.items.items() if items
    ]
    of = count(len(patients), "patient")
    lines = [f"{' and '.join(made) or 'nothing'} of {of} in {written.out}"]
    if refused:
        where = "" if who else "; with --who FILE, a table for you alone, it tells the files"
        lines.append(
            f"not imported: {'; '.join(_counted(refused))} (each in "
            f"{written.out / NOT_IMPORTED}{where})"
        )
    if written.unknown:
        lines.append(
            f"{len(written.unknown)} studies tell no patient: each counts as a patient of its own"
        )
    if several := sum(len(issuers) > 1 for issuers in written.issuers.values()):
        lines.append(
            f"warning: {several} patients' numbers come from several issuers, and each counts as "
            "one patient: are they different people, import each issuer's files by themselves with "
            "a key of their own (--key)"
        )
    if written.burned:
        lines.append(
            f"warning: {written.burned} files say that text is burned into their pixels, perhaps "
            "a name: look at them before you give them away"
        )
    lines.append(
        f"patients are keyed hashes; the key is {key}: keep it, for the same patient gets the same "
        "hash by it alone, and give it to nobody who has the output"
    )
    if who is not None:
        lines.append(f"who is behind each hash: {who}")
    for path in manifests:
        command = f"weakseg validate {shlex.quote(str(path))}"
        lines.append(f"next: fill the column label of {path}, then {command}")
    return "\n".join(lines)
