"""BMAD: medical anomaly detection, six collections of one layout.

``Brain_AD/test/Ungood/img/00124_60.png`` has its mask in ``Ungood/label`` (``anomaly_mask`` in some
copies); ``train/good`` holds images alone. What is before the last ``_`` of a name is the patient.
"""

from __future__ import annotations

import re
from dataclasses import replace

from weakseg.errors import DataError
from weakseg.importing.answers import Answers
from weakseg.importing.base import Arrangement, Item, PublishedSet
from weakseg.importing.folders import settle_split, split_of
from weakseg.importing.tree import Tree, folders_of, listed, stem_of

GOOD, UNGOOD = "normal", "abnormal"
_SIDES = {"good": GOOD, "ungood": UNGOOD}
_MASKS = ("label", "anomaly_mask")
_SLICE = re.compile(r"(.*\d.*)[_-]\d+")


def _place(file: str) -> tuple[str, str, str] | None:
    """Split, side and kind of folder (img, label) of a file; None for others."""
    folders = [f.casefold() for f in folders_of(file)]
    at = next((k for k, f in enumerate(folders) if f in _SIDES), None)
    if not at or not split_of(folders[at - 1]):
        return None
    return split_of(folders[at - 1]), folders[at], (folders[at + 1 :] or ["img"])[0]


def _read(tree: Tree, answers: Answers) -> Arrangement:
    places = {f: p for f in tree.images if (p := _place(f))}
    images = {f: p for f, p in places.items() if p[2] == "img"}
    roots = dict.fromkeys(folders_of(f)[: _depth(f)] for f in images)
    if not images or len(roots) > 1:
        raise DataError(
            "The folder does not hold one collection of BMAD.",
            where=str(tree.root),
            found=listed(map("/".join, roots)) if images else tree.summary(),
            expected="train/good, valid/good/img, valid/Ungood/img, test/…",
            fix="name the folder of one collection, such as Brain_AD",
        )
    masks = {(p[:2], stem_of(f)): f for f, p in places.items() if p[2] in _MASKS}
    items = []
    for file, place in images.items():
        mask = masks.get((place[:2], stem_of(file)))
        person = _SLICE.fullmatch(stem_of(file))
        items.append(
            Item(
                tree.path(file),
                _SIDES[place[1]],
                (tree.path(mask),) if mask else (),
                person[1] if person else "",
                place[0],
            )
        )
    remarks = [f"BMAD: {len(items)} images of {len(roots)} collection"]
    remarks.append("its training part holds no abnormal image, for methods that learn from none")
    if not all(i.patient for i in items):
        items = [replace(i, patient="") for i in items]
    else:
        remarks.append("patients from names: what is before the last _")
    return Arrangement(settle_split(items, _dealt_anew()), tuple(remarks))


def _depth(file: str) -> int:
    """How many folders lie above the split's."""
    folders = [f.casefold() for f in folders_of(file)]
    return next(k for k, f in enumerate(folders) if f in _SIDES) - 1


def _dealt_anew() -> Answers:
    """The published split cannot be kept, for no training image is abnormal: nothing to ask."""
    return Answers({"split": "anew"})


BMAD = PublishedSet(
    "bmad",
    "BMAD: benchmarks for medical anomaly detection, one of its collections",
    "The folder of one collection, such as Brain_AD, Liver_AD or RESC_AD.",
    licence="that of each collection (BraTS 2021, BTCV and LiTS, RESC, OCT2017, RSNA, Camelyon16): "
    "see the address",
    citation="Bao J, Sun H, Deng H, He Y, Zhang Z, Li X. BMAD: Benchmarks for medical anomaly "
    "detection. CVPR Workshops (2024)",
    address="https://github.com/DorisBao/BMAD",
    read=_read,
)
