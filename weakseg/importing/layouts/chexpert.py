"""CheXpert (Irvin et al. 2019): ``train.csv`` and ``valid.csv`` with a column a finding.

``Path`` is ``CheXpert-v1.0/train/patient00001/study1/view1_frontal.jpg``; a finding is 1, 0, -1
(uncertain) or blank (not mentioned).
"""

from __future__ import annotations

from weakseg.errors import DataError
from weakseg.importing.answers import Answers
from weakseg.importing.base import Arrangement, Item, Layout
from weakseg.importing.findings import ALL, HEALTHY, Reading, choose_finding, settings_of
from weakseg.importing.folders import settle_split, split_of
from weakseg.importing.tables import header_of, number, read_columns
from weakseg.importing.tree import Tree, name_of

_PLACE = 4
"""Parts at a path's end that name an image: split, patient, study, view."""
_NOT_FINDINGS = ("path", "sex", "age", "frontal/lateral", "ap/pa", "no finding", "support devices")
_NAMES = ("train.csv", "valid.csv", "test.csv")


def _tables(tree: Tree) -> list[str]:
    return [f for f in tree.named(*_NAMES) if _is_ours(header_of(tree.path(f)))]


def _is_ours(header: list[str]) -> bool:
    return {"path", "no finding", "frontal/lateral"} <= {h.casefold() for h in header}


def _recognise(tree: Tree) -> bool:
    return bool(_tables(tree))


def _read(tree: Tree, answers: Answers) -> Arrangement:
    files = {_place(f): f for f in tree.images}
    rows, named = [], 0
    for table in _tables(tree):
        header = header_of(tree.path(table))
        findings = [h for h in header if h.casefold() not in _NOT_FINDINGS]
        columns = ("Path", HEALTHY, "Frontal/Lateral")
        for row in read_columns(tree.path(table), columns, findings):
            named += 1
            image = files.get(_place(row["Path"]))
            if image is not None:
                rows.append((image, row, _reading(row, findings)))
    if not rows:
        raise DataError(
            "No image that the tables name is there.",
            where=str(tree.root),
            found=f"{named} rows of {', '.join(map(name_of, _tables(tree)))}",
            fix="name the folder that holds train.csv and the folder train",
        )
    frontal = [r for r in rows if r[1]["Frontal/Lateral"].casefold() != "lateral"]
    finding = choose_finding([reading for _, _, reading in frontal], answers)
    items = [
        Item(
            tree.path(image),
            reading.label(finding),
            patient=_place(row["Path"])[1],
            split=split_of(_place(row["Path"])[0]),
            extra={ALL: "|".join(sorted(reading.positive)) or HEALTHY * reading.healthy},
        )
        for image, row, reading in frontal
    ]
    remarks = [f"CheXpert: {len(rows)} of {named} images of the tables are there"]
    if len(frontal) < len(rows):
        remarks.append(f"{len(rows) - len(frontal)} lateral views are left out")
    remarks.append("what is not mentioned counts as absent; uncertain ones (-1) are left out")
    labels = [i.label for i in items]
    return Arrangement(settle_split(items, answers), tuple(remarks), settings_of(finding, labels))


def _place(path: str) -> tuple[str, ...]:
    parts = path.replace("\\", "/").split("/")[-_PLACE:]
    return ("",) * (_PLACE - len(parts)) + tuple(parts)


def _reading(row: dict[str, str], findings: list[str]) -> Reading:
    def holds(value: float) -> frozenset[str]:
        return frozenset(f for f in findings if number(row[f]) == value)

    return Reading(holds(1), holds(-1), number(row[HEALTHY]) == 1)


CHEXPERT = Layout("chexpert", "CheXpert", _recognise, _read)
