"""CBIS-DDSM: mammograms of masses and calcifications, in the copy of JPEG files.

``csv/mass_case_description_train_set.csv`` and three others name, an abnormality a row, the series
of the whole mammogram and of its mask; ``jpeg/SERIES/`` holds the files. A mask's series often has
the cropped image too: the mask is the file of the mammogram's size.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field

from weakseg.errors import DataError
from weakseg.importing.answers import Answers
from weakseg.importing.base import Arrangement, Item, PublishedSet
from weakseg.importing.folders import settle_split
from weakseg.importing.tables import read_columns
from weakseg.importing.tree import Tree, folders_of

TABLES = {
    f"{kind}_case_description_{split}_set.csv": (kind, split)
    for kind in ("mass", "calc")
    for split in ("train", "test")
}
_COLUMNS = ("patient_id", "pathology", "image file path", "ROI mask file path")


@dataclass
class _Mammogram:
    """The abnormalities of one image, while they are gathered."""

    patient: str
    split: str
    kinds: set[str] = field(default_factory=set)
    malignant: bool = False
    masks: list[str] = field(default_factory=list)


def _series(cell: str) -> str:
    """The series of a path such as CASE/STUDY/SERIES/000000.dcm."""
    parts = cell.strip().strip('"').replace("\\", "/").split("/")
    return parts[-2] if len(parts) >= 2 else ""


def _read(tree: Tree, answers: Answers) -> Arrangement:
    tables = tree.named(*TABLES)
    by_series: dict[str, list[str]] = defaultdict(list)
    for f in tree.images:
        by_series[(folders_of(f) or ("",))[-1]].append(f)
    if not tables:
        raise DataError(
            "The folder does not hold CBIS-DDSM.",
            where=str(tree.root),
            found=tree.summary(),
            expected=f"a table {next(iter(TABLES))}, and the images as JPEG",
            fix="name the folder that holds csv and jpeg; the DICOM files themselves: "
            "weakseg import dicom",
        )
    mammograms: dict[str, _Mammogram] = {}
    rows = lacking = 0
    for table in tables:
        kind, split = TABLES[table.rpartition("/")[2].casefold()]
        for row in read_columns(tree.path(table), _COLUMNS):
            rows += 1
            image = next(iter(by_series.get(_series(row["image file path"]), ())), None)
            if image is None:
                continue
            mammogram = mammograms.setdefault(image, _Mammogram(row["patient_id"], split))
            mammogram.kinds.add(kind)
            mammogram.malignant |= row["pathology"].upper() == "MALIGNANT"
            mask = _mask(tree, image, by_series.get(_series(row["ROI mask file path"]), ()))
            lacking += mask is None
            mammogram.masks += [mask] if mask is not None and mask not in mammogram.masks else []
    if not mammograms:
        raise DataError(
            "No mammogram that the tables name is there.",
            where=str(tree.root),
            found=f"{rows} rows, {len(tree.images)} images",
            expected="jpeg/SERIES/1-1.jpg",
            fix="name the folder that holds csv and jpeg",
        )
    items = [
        Item(
            tree.path(image),
            "malignant" if m.malignant else "benign",
            tuple(map(tree.path, m.masks)),
            m.patient,
            m.split,
            extra={"abnormality": "+".join(sorted(m.kinds))},
        )
        for image, m in mammograms.items()
    ]
    remarks = [f"CBIS-DDSM: {len(items)} mammograms, of {rows} abnormalities"]
    if lacking:
        remarks.append(f"{lacking} abnormalities are without a mask of their mammogram's size")
    return Arrangement(settle_split(items, answers), tuple(remarks), {"data.mask_rule": "half"})


def _mask(tree: Tree, image: str, files: list[str] | tuple[str, ...]) -> str | None:
    """The file of a series that has the mammogram's size."""
    from weakseg.data.formats.reading import read_frame

    others = [f for f in files if f != image]
    if not others:
        return None
    size = read_frame(tree.path(image)).shape
    return next((f for f in others if read_frame(tree.path(f)).shape == size), None)


CBIS_DDSM = PublishedSet(
    "cbis-ddsm",
    "CBIS-DDSM: curated breast imaging subset of the digital database for screening mammography",
    "The folder that holds csv and jpeg.",
    licence="CC BY 3.0",
    citation="Lee RS, Gimenez F, Hoogi A, Miyake KK, Gorovoy M, Rubin DL. A curated mammography "
    "data set for use in computer-aided detection and diagnosis research. Scientific Data 4 "
    "(2017), 170177",
    address="https://doi.org/10.7937/K9/TCIA.2016.7O02S9CY",
    read=_read,
)
