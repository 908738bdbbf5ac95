"""MedMNIST and MedSegBench: one ``.npz`` with the images, and labels or masks, of three splits.

MedMNIST has ``train_images`` and ``train_labels`` (one class an image, or a column a finding),
MedSegBench ``train_images`` and ``train_label`` (a mask an image); ``val`` and ``test`` likewise.
"""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from weakseg.errors import DataError
from weakseg.importing.answers import Answers
from weakseg.importing.base import Arrangement, Item, Layout
from weakseg.importing.pictures import HEALTHY, LESION
from weakseg.importing.tree import Tree, listed, name_of, stem_of

if TYPE_CHECKING:
    import numpy as np

SPLITS = ("train", "val", "test")
LABELS, MASKS = "labels", "label"
NO_FINDING = "no finding"
"""The label of an image of which no column says anything."""
CLASSES: dict[str, tuple[str, ...]] = {
    "pathmnist": (
        *("adipose", "background", "debris", "lymphocytes", "mucus", "smooth muscle"),
        *("normal colon mucosa", "cancer-associated stroma", "colorectal adenocarcinoma"),
    ),
    "octmnist": ("choroidal neovascularization", "diabetic macular edema", "drusen", "normal"),
    "pneumoniamnist": ("normal", "pneumonia"),
    "breastmnist": ("malignant", "normal, benign"),
    "dermamnist": (
        *("actinic keratoses", "basal cell carcinoma", "benign keratosis", "dermatofibroma"),
        *("melanoma", "melanocytic nevi", "vascular lesions"),
    ),
    "chestmnist": (
        *("atelectasis", "cardiomegaly", "effusion", "infiltration", "mass", "nodule"),
        *("pneumonia", "pneumothorax", "consolidation", "edema", "emphysema", "fibrosis"),
        *("pleural", "hernia"),
    ),
}
"""Names of classes by the file's, as MedMNIST's own description has them."""
SOUND = {"breastmnist": "normal, benign", "pathmnist": "normal colon mucosa"}
"""Labels that stand for no lesion, where their name alone does not tell."""


def _kind(path: Path) -> str | None:
    """`LABELS` or `MASKS`, by the names of the arrays; None for another file."""
    try:
        with zipfile.ZipFile(path) as z:
            names = {n.removesuffix(".npy") for n in z.namelist()}
    except (OSError, zipfile.BadZipFile):
        return None
    for kind in (LABELS, MASKS):
        if {f"{s}_{part}" for s in SPLITS for part in ("images", kind)} <= names:
            return kind
    return None


def _ours(tree: Tree) -> dict[str, str]:
    kinds = {f: _kind(tree.path(f)) for f in tree.ending(".npz")}
    return {f: kind for f, kind in kinds.items() if kind is not None}


def _recognise(tree: Tree) -> bool:
    return bool(_ours(tree))


def _read(tree: Tree, answers: Answers) -> Arrangement:
    file, kind, others = _one(tree)
    name = stem_of(file).casefold().split("_")[0]
    sizes = _sizes(tree.path(file), kind)
    remarks = [f"{name_of(file)}: {', '.join(f'{n} {s}' for s, n in sizes.items())} images"]
    if others:
        remarks.append(f"others are left alone: {listed(others, 3)}")
    remarks.append("the set names no patients; its splits are kept")
    settings: dict[str, Any] = {}
    tell = True
    if kind == MASKS:
        items = [
            Item(_place("images", s, i), "", (_place("masks", s, i),), split=s)
            for s, n in sizes.items()
            for i in range(n)
        ]
        by_mask: tuple[str, str] | None = (HEALTHY, LESION)
        remarks.append("labels are read off the masks, of which every value but 0 is lesion")
    else:
        by_mask = None
        labels = _labels(tree.path(file), name)
        items = [
            Item(_place("images", s, i), label, split=s)
            for s in SPLITS
            for i, label in enumerate(labels[s])
        ]
        found = {i.label for i in items}
        if name in SOUND:
            settings["data.healthy_labels"] = [SOUND[name]]
        elif NO_FINDING in found or any("|" in label for label in found):
            settings["data.label_separator"] = "|"
            settings["data.healthy_labels"] = [NO_FINDING]
        elif name not in CLASSES and len(found) > 2:
            tell = False  # 0 is the first class, whatever it is
    export = _exporter(tree.path(file), kind)
    return Arrangement(tuple(items), tuple(remarks), settings, export, by_mask, tell)


def _one(tree: Tree) -> tuple[str, str, list[str]]:
    """The file to read, its kind and the others: of several sizes the largest up to 256 pixels."""
    ours = _ours(tree)

    def size(file: str) -> tuple[bool, int]:
        digits = stem_of(file).rpartition("_")[2]
        pixels = int(digits) if digits.isdecimal() else 28
        return (pixels <= 256, pixels if pixels <= 256 else -pixels)

    file = max(ours, key=size)
    if len({stem_of(f).split("_")[0] for f in ours}) > 1:
        raise DataError(
            "The folder holds several sets.",
            where=str(tree.root),
            found=listed(map(name_of, ours)),
            fix="put the one that is meant into a folder of its own",
        )
    return file, ours[file], [name_of(f) for f in ours if f != file]


def _place(kind: str, split: str, number: int) -> Path:
    return Path(kind, f"{split}_{number:06d}.png")


def _array(path: Path, name: str) -> np.ndarray:
    import numpy as np

    try:
        with np.load(path, allow_pickle=False) as archive:
            return np.asarray(archive[name])
    except (OSError, ValueError, KeyError, zipfile.BadZipFile, EOFError) as e:
        raise DataError(
            f"The array {name} cannot be read.",
            where=str(path),
            found=f"{type(e).__name__}: {e}",
            fix="fetch the file again",
        ) from None


def _sizes(path: Path, kind: str) -> dict[str, int]:
    return {s: len(_array(path, f"{s}_{kind}")) for s in SPLITS}


def _labels(path: Path, name: str) -> dict[str, list[str]]:
    names = CLASSES.get(name)

    def one(value: int) -> str:
        return names[value] if names and 0 <= value < len(names) else str(value)

    def text(row: Any) -> str:
        if row.size == 1:
            return one(int(row.reshape(-1)[0]))
        return "|".join(one(k) for k, v in enumerate(row.reshape(-1)) if v) or NO_FINDING

    return {s: [text(row) for row in _array(path, f"{s}_{LABELS}")] for s in SPLITS}


def _exporter(path: Path, kind: str) -> Callable[[Path, Callable[..., object]], None]:
    def export(out: Path, advance: Callable[..., object]) -> None:
        from PIL import Image

        from weakseg.runs import atomic_path

        total = sum(_sizes(path, kind).values()) * (2 if kind == MASKS else 1)
        for place, array in _pictures(path, kind):
            with atomic_path(out / place, flushed=False) as part:
                Image.fromarray(array).save(part, format="PNG")
            advance(1, of=total)

    return export


def _pictures(path: Path, kind: str) -> Iterator[tuple[Path, np.ndarray]]:
    import numpy as np

    for split in SPLITS:
        images = _array(path, f"{split}_images")
        flat = images.ndim == 3 or (images.ndim == 4 and images.shape[-1] == 3)
        if not flat or images.dtype != np.uint8:
            raise DataError(
                "The images are no 2D images of 8 bits.",
                where=f"{path}, {split}_images",
                found=f"{images.dtype} of the shape {' × '.join(map(str, images.shape))}",
                fix="3D sets of MedMNIST are not read",
            )
        masks = _array(path, f"{split}_{MASKS}") if kind == MASKS else None
        for i, image in enumerate(images):
            yield _place("images", split, i), image
            if masks is not None:
                values = masks[i]
                yield _place("masks", split, i), values.astype(np.uint8)


NPZ = Layout("npz", "MedMNIST or MedSegBench in one .npz", _recognise, _read)
