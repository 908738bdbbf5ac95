"""ISIC and HAM10000: a table of dermatoscopic images, a column a diagnosis or ``dx``.

``ISIC2018_Task3_Training_GroundTruth.csv`` has ``image,MEL,NV,BCC,…`` with a 1 in one column,
``HAM10000_metadata.csv`` has ``lesion_id,image_id,dx``, the table of 2020 ``image_name`` and
``benign_malignant``. Masks of Task 1 are found where they lie in folders of their own.
"""

from __future__ import annotations

from weakseg.errors import DataError
from weakseg.importing.answers import Answers
from weakseg.importing.base import Arrangement, Item, Layout
from weakseg.importing.pairing import pair
from weakseg.importing.tables import header_of, number, read_columns
from weakseg.importing.tree import IMAGE_ENDINGS, Tree, listed, name_of, stem_of

_IMAGE = ("image", "image_id", "image_name", "isic_id")
_DIAGNOSIS = ("dx", "benign_malignant", "diagnosis")
_OWN = {"image_id", "image_name", "isic_id", "lesion_id", "dx", "benign_malignant"}
_ONE_OF = {"mel", "nv", "bcc", "akiec", "ak", "bkl", "df", "vasc", "scc", "unk"}
_ONE_OF |= {"melanoma", "seborrheic_keratosis"}
_PATIENT, _LESION = "patient_id", "lesion_id"
_REST = "other"
"""Where no column has a 1: of 2017, a nevus."""


def _recognise(tree: Tree) -> bool:
    return bool(_tables(tree))


def _tables(tree: Tree) -> dict[str, list[str]]:
    """Tables of diagnoses → their headers."""
    headers = {f: header_of(tree.path(f)) for f in tree.ending(".csv")}
    return {f: h for f, h in headers.items() if _image_column(h) and (_columns(h) or _named(h))}


def _image_column(header: list[str]) -> str | None:
    return next((h for h in header if h.casefold() in _IMAGE), None)


def _columns(header: list[str]) -> list[str]:
    columns = [h for h in header if h.casefold() in _ONE_OF]
    return columns if len(columns) >= 2 else []


def _named(header: list[str]) -> str | None:
    """The column of one diagnosis; ``image`` and ``diagnosis`` alone are anybody's names."""
    wanted = {h.casefold(): h for h in header}
    if not _OWN & wanted.keys():
        return None
    return next((wanted[d] for d in _DIAGNOSIS if d in wanted), None)


def _read(tree: Tree, answers: Answers) -> Arrangement:
    masks = pair(tree.images).masks
    images: dict[str, list[str]] = {}
    for file in masks:
        images.setdefault(stem_of(file).casefold(), []).append(file)
    groups = _groups(tree)
    items: dict[str, Item] = {}
    named = 0
    for table, header in _tables(tree).items():
        column, one_of, diagnosis = _image_column(header) or "", _columns(header), _named(header)
        wanted = [column, *one_of] if one_of else [column, diagnosis or ""]
        for row in read_columns(tree.path(table), wanted):
            named += 1
            stem = _stem(row[column])
            if stem in images:
                label = _chosen(row, one_of) if one_of else row[diagnosis or ""]
                image = _only(tree, images[stem], row[column])
                items[image] = Item(
                    tree.path(image),
                    label,
                    tuple(tree.path(m) for m in masks[image]),
                    groups.get(stem, ""),
                )
    if not items:
        raise DataError(
            "No image that the tables name is there.",
            where=str(tree.root),
            found=f"{named} rows of {listed(map(name_of, _tables(tree)), 3)}",
            fix="name the folder that holds the images and the table",
        )
    remarks = [
        f"{listed(map(name_of, _tables(tree)), 3)}: {len(items)} of {named} images are there"
    ]
    remarks.append("every image shows a skin lesion: labels tell which")
    if any(i.patient for i in items.values()):
        remarks.append("images of one patient, or of one lesion, count as one patient")
    return Arrangement(tuple(items.values()), tuple(remarks))


def _only(tree: Tree, files: list[str], named: str) -> str:
    """The one file that a table names; of several of one name, that with the ending it gives."""
    name = _name(named)
    exact = [f for f in files if name_of(f).casefold() == name]
    candidates = exact if len(exact) == 1 else files
    if len(candidates) > 1:
        raise DataError(
            "Several images have the name that a table uses.",
            where=str(tree.root),
            found=f"{named}: {listed(candidates, 3)}",
            expected="one image of each name",
            fix="name the folder that holds one of each, or take the others out of it",
        )
    return candidates[0]


def _chosen(row: dict[str, str], columns: list[str]) -> str:
    return next((c for c in columns if number(row[c]) == 1), _REST)


def _name(cell: str) -> str:
    """An image as a table names it, without folders, in small letters."""
    return name_of(cell.strip().replace("\\", "/")).casefold()


def _stem(cell: str) -> str:
    """The key of an image that a table names, with the ending of a file or without."""
    name = _name(cell)
    return stem_of(name) if name.endswith(IMAGE_ENDINGS) else name


def _groups(tree: Tree) -> dict[str, str]:
    """Image → its patient or, where none is known, that of its lesion, or the lesion itself."""
    patients: dict[str, str] = {}
    lesions: dict[str, str] = {}
    for table in tree.ending(".csv"):
        header = header_of(tree.path(table))
        column = _image_column(header)
        there = {h.casefold() for h in header}
        for name, known in ((_PATIENT, patients), (_LESION, lesions)):
            if column and name in there:
                for row in read_columns(tree.path(table), (column, name)):
                    if row[name]:
                        known.setdefault(_stem(row[column]), row[name])
    whose = {lesions[image]: patient for image, patient in patients.items() if image in lesions}
    return {image: whose.get(lesion, lesion) for image, lesion in lesions.items()} | patients


ISIC = Layout("isic", "ISIC or HAM10000 tables", _recognise, _read)
