"""ChestX-ray14 (Wang et al. 2017): ``Data_Entry_2017*.csv`` and PNGs in ``images*/`` folders.

The table names the image's file without its folder, its findings joined by ``|``, and the patient;
``train_val_list.txt`` and ``test_list.txt`` are the published split, by patient.
"""

from __future__ import annotations

from weakseg.errors import DataError
from weakseg.importing.answers import Answers
from weakseg.importing.base import Arrangement, Item, Layout
from weakseg.importing.findings import ALL, HEALTHY, Reading, choose_finding, settings_of
from weakseg.importing.folders import settle_split
from weakseg.importing.tables import read_columns
from weakseg.importing.tree import Tree, name_of

_COLUMNS = ("Image Index", "Finding Labels", "Patient ID")
_LISTS = {"train_val_list.txt": "train", "test_list.txt": "test"}


def _table(tree: Tree) -> str | None:
    tables = [f for f in tree.ending(".csv") if name_of(f).casefold().startswith("data_entry_2017")]
    return tables[0] if tables else None


def _recognise(tree: Tree) -> bool:
    return _table(tree) is not None


def _read(tree: Tree, answers: Answers) -> Arrangement:
    table = tree.path(_table(tree) or "")
    rows = read_columns(table, _COLUMNS, ("View Position",))
    files = {name_of(f): f for f in tree.images}
    there = [r for r in rows if r["Image Index"] in files]
    if not there:
        raise DataError(
            "No image that the table names is there.",
            where=str(tree.root),
            found=f"{len(rows)} rows of {table.name}"
            + (f", such as {rows[0]['Image Index']}" if rows else ""),
            fix="unpack the archives of images (images_001.tar.gz, …) into the folder",
        )
    readings = [_reading(r["Finding Labels"]) for r in there]
    finding = choose_finding(readings, answers)
    splits = _splits(tree)
    items = [
        Item(
            tree.path(files[r["Image Index"]]),
            reading.label(finding),
            patient=r["Patient ID"],
            split=splits.get(r["Image Index"], ""),
            extra={ALL: r["Finding Labels"], "view": r["View Position"]},
        )
        for r, reading in zip(there, readings, strict=True)
    ]
    remarks = [f"{table.name}: {len(there)} of {len(rows)} images are there"]
    if tree.named("BBox_List_2017.csv"):
        remarks.append("BBox_List_2017.csv holds boxes, no masks: it is left alone")
    labels = [i.label for i in items]
    return Arrangement(settle_split(items, answers), tuple(remarks), settings_of(finding, labels))


def _reading(cell: str) -> Reading:
    findings = frozenset(f.strip() for f in cell.split("|")) - {"", HEALTHY}
    return Reading(findings, healthy=not findings)


def _splits(tree: Tree) -> dict[str, str]:
    splits: dict[str, str] = {}
    for name, split in _LISTS.items():
        for file in tree.named(name):
            lines = tree.path(file).read_text(encoding="utf-8", errors="replace").split()
            splits |= dict.fromkeys(lines, split)
    return splits


CHESTXRAY14 = Layout("chestxray14", "ChestX-ray14", _recognise, _read)
