"""BRISC 2025: T1 slices of brain tumours and of brains without one, with masks of the tumours.

``classification_task/train/glioma/brisc2025_train_00001_gl_ax_t1.jpg`` has its mask in
``segmentation_task/train/masks/`` under the same name, as PNG; names tell part, class and plane.
"""

from __future__ import annotations

import re

from weakseg.errors import DataError
from weakseg.importing.answers import Answers
from weakseg.importing.base import Arrangement, Item, PublishedSet
from weakseg.importing.folders import settle_split
from weakseg.importing.tree import Tree, folders_of, stem_of

_NAME = re.compile(r"brisc2025_(train|test)_\d+_(gl|me|pi|no|nt)_(ax|co|sa)_t1", re.IGNORECASE)
CLASSES = {
    "gl": "glioma",
    "me": "meningioma",
    "pi": "pituitary",
    "no": "no_tumor",
    "nt": "no_tumor",
}


def _read(tree: Tree, answers: Answers) -> Arrangement:
    named = [(f, m) for f in tree.images if (m := _NAME.fullmatch(stem_of(f)))]
    masks = {stem_of(f): f for f, _ in named if "masks" in map(str.casefold, folders_of(f))}
    images: dict[str, tuple[str, re.Match[str]]] = {}
    for file, match in named:
        if file != masks.get(stem_of(file)):  # both tasks hold the same image: once is enough
            images.setdefault(stem_of(file), (file, match))
    if not images:
        raise DataError(
            "The folder does not hold BRISC.",
            where=str(tree.root),
            found=tree.summary(),
            expected="images called as brisc2025_train_00001_gl_ax_t1.jpg",
            fix="name the unpacked folder, brisc2025",
        )
    items = [
        Item(
            tree.path(file),
            CLASSES[match[2].casefold()],
            (tree.path(masks[stem]),) if stem in masks else (),
            split=match[1].casefold(),
            extra={"plane": match[3].casefold()},
        )
        for stem, (file, match) in images.items()
    ]
    remarks = (
        f"BRISC: {len(items)} images",
        "its images come from older collections (figshare, SARTAJ, Br35H): images of these sets "
        "are no independent test",
    )
    return Arrangement(settle_split(items, answers), remarks)


BRISC = PublishedSet(
    "brisc",
    "BRISC 2025: brain tumour MRI for segmentation and classification",
    "The folder brisc2025 with classification_task and segmentation_task.",
    licence="CC BY 4.0",
    citation="Fateh A, Rezvani Y, Moayedi S, Rezvani S, Fateh F, Fateh M, Abolghasemi V. BRISC: "
    "Annotated dataset for brain tumor segmentation and classification. arXiv:2506.14318 (2025)",
    address="https://www.kaggle.com/datasets/briscdataset/brisc2025",
    read=_read,
)
