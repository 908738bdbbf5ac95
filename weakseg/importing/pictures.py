"""Pictures in folders, with or without masks: what the layouts of plain files share."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from weakseg.errors import count
from weakseg.importing.answers import Answers, Question
from weakseg.importing.base import Arrangement, Item
from weakseg.importing.folders import Place, places_of, settle_split
from weakseg.importing.names import labelled_by_name
from weakseg.importing.pairing import Pairs, pair
from weakseg.importing.tree import VOLUME_ENDINGS, Tree, listed

HEALTHY, LESION = "normal", "lesion"
"""Labels that are read off masks."""


def read_pictures(tree: Tree, answers: Answers, files: Sequence[str] | None = None) -> Arrangement:
    """Images, with the masks that lie beside them or in folders of their own.

    The label is the class folder's; where there are none, the mask tells it.

    Parameters
    ----------
    tree : Tree
    answers : Answers
    files : sequence of str, optional
        Images and masks; all 2D images of the tree where it is left out.
    """
    pairs = pair(tree.images if files is None else files)
    places = places_of(tuple(pairs.masks), answers)
    by_name = not any(p.label for p in places.values())
    places = labelled_by_name(places, answers) if by_name else places
    by_mask = not any(p.label for p in places.values()) and any(pairs.masks.values())
    kept = dict(pairs.masks)
    healthy: set[str] = set()
    bare = [f for f, masks in kept.items() if not masks]
    if by_mask and bare:
        if _unmasked(len(bare), len(kept), answers) == "healthy":
            healthy = set(bare)
        else:
            kept = {f: masks for f, masks in kept.items() if masks}
    items = [
        Item(
            tree.path(f),
            places[f].label or (HEALTHY if f in healthy else ""),
            tuple(tree.path(m) for m in masks),
            places[f].patient,
            places[f].split,
        )
        for f, masks in kept.items()
        if by_mask or places[f].label or not any(p.label for p in places.values())
    ]
    remarks = [*_told(pairs, places, by_name, by_mask), *_left_out(kept, items, tree)]
    remarks += _other_kinds(tree) if files is None else ()
    return Arrangement(
        settle_split(items, answers),
        tuple(remarks),
        label_by_mask=(HEALTHY, LESION) if by_mask else None,
    )


def _unmasked(count: int, of: int, answers: Answers) -> str:
    return answers.ask(
        Question(
            "unmasked",
            f"What are the {count} images of {of} without a mask?",
            "left-out",
            ("left-out", "healthy"),
            "a mask that nobody drew is no sign of health",
        )
    )


def _told(pairs: Pairs, places: dict[str, Place], by_name: bool, by_mask: bool) -> Iterator[str]:
    labels = dict.fromkeys(p.label for p in places.values() if p.label)
    if labels:
        how = "classes from the files' names" if by_name else "a folder a class"
        yield f"{how}: {listed(labels, 8)}"
    if pairs.beside:
        yield f"{count(pairs.beside, 'mask')} beside their images"
    if pairs.in_folders:
        yield f"{count(pairs.in_folders, 'mask')} in folders of masks"
    if pairs.lost:
        lost = count(len(pairs.lost), "mask")
        yield f"{lost} without an image, left out: {listed(pairs.lost, 3)}"
    if by_mask:
        yield (
            f"no folder a class: labels are read off the masks ({HEALTHY} where a mask is empty, "
            f"else {LESION}), so that every image's label has seen its mask"
        )
    patients = dict.fromkeys(p.patient for p in places.values() if p.patient)
    if patients:
        yield f"patients from folders or names: {listed(patients, 3)}"


def _left_out(kept: dict[str, tuple[str, ...]], items: Sequence[Item], tree: Tree) -> Iterator[str]:
    there = {i.image for i in items}
    left = [f for f in kept if tree.path(f) not in there]
    if left:
        yield f"{len(left)} images that lie in no class folder, left out: {listed(left, 3)}"


def _other_kinds(tree: Tree) -> Iterator[str]:
    """Images that are no pictures, for a manifest of one layout holds one kind."""
    others = tree.ending(*VOLUME_ENDINGS, ".dcm", ".dicom", ".ima")
    if others:
        what = "image of another kind," if len(others) == 1 else "images of other kinds,"
        yield (
            f"{len(others)} {what} left out: {listed(others, 3)}; DICOM files are taken by "
            "`weakseg import dicom`, and by a manifest that names them"
        )
