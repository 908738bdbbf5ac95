"""Which file is the mask of which image: by names in one folder, or by folders of masks."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from weakseg.data.scan_names import is_mask_folder, without_mask_word
from weakseg.importing.folders import is_image_folder
from weakseg.importing.tree import counting_order, folder_of, folders_of, stem_of

_PREFIX = re.compile(r"(?:masks?|segm?|segmentations?|gt|labels?|bus|im(?:g|age)?)[ _-]+(?=.)")

Folders = tuple[str, ...]


@dataclass(frozen=True)
class Pairs:
    """Images with their masks.

    Attributes
    ----------
    masks : dict
        Image → its masks, in counting order; every image is a key.
    beside : int
        Masks that lie beside their image, by name.
    in_folders : int
        Masks in folders of masks.
    lost : tuple of str
        Masks to which no image was found.
    """

    masks: dict[str, tuple[str, ...]]
    beside: int
    in_folders: int
    lost: tuple[str, ...]


def pair(files: Sequence[str]) -> Pairs:
    """Tell images from masks, and which belong together.

    Parameters
    ----------
    files : sequence of str
        Images, or volumes, as `Tree.files` names them.
    """
    beside = _beside(files)
    in_folder = [f for f in files if any(map(is_mask_folder, folders_of(f)))]
    masks = {*beside, *in_folder}
    images = [f for f in files if f not in masks]
    if not images:  # a set that lies in a folder called labels, say
        return Pairs({f: () for f in files if f not in beside}, 0, 0, ())
    pairs: dict[str, list[str]] = {f: [] for f in images}
    for mask, image in beside.items():
        if image in pairs:
            pairs[image].append(mask)
    lost: list[str] = []
    places = _Places(images)
    for mask in in_folder:
        if mask in beside and beside[mask] in pairs:
            continue
        place = places.of(mask)
        if place is None:
            lost.append(mask)
        else:
            pairs[place].append(mask)
    return Pairs(
        {f: tuple(sorted(m, key=counting_order)) for f, m in pairs.items()},
        sum(image in pairs for image in beside.values()),
        len(in_folder) - len(lost),
        tuple(lost),
    )


def _beside(files: Iterable[str]) -> dict[str, str]:
    """Masks in the folder of their image, called as it and a word for masks: mask → image."""
    files = list(files)
    stems = {(folder_of(f), stem_of(f).casefold()): f for f in reversed(files)}
    beside = {}
    for f in files:
        base = without_mask_word(stem_of(f))
        image = stems.get((folder_of(f), base.casefold())) if base else None
        if image is not None and image != f:
            beside[f] = image
    return beside


class _Places:
    """Images by the folders and the name that a mask in a folder of its own has as well."""

    def __init__(self, images: Sequence[str]) -> None:
        self._near: dict[tuple[Folders, str], list[str]] = defaultdict(list)
        self._anywhere: dict[str, list[str]] = defaultdict(list)
        for f in images:
            for key in _keys(stem_of(f)):
                self._near[telling_folders(f), key].append(f)
                self._anywhere[key].append(f)

    def of(self, mask: str) -> str | None:
        """The image of a mask; None where there is none, or several as likely."""
        stem = stem_of(mask)
        keys = _keys(stem)
        base = without_mask_word(stem)
        keys += _keys(base) if base else []
        at = telling_folders(mask)
        for key in keys:
            elsewhere = [f for f in self._anywhere.get(key, ()) if may_belong(mask, f)]
            for candidates in (self._near.get((at, key)), elsewhere):
                if candidates and len(candidates) == 1:
                    return candidates[0]
        return None


def may_belong(mask: str, image: str) -> bool:
    """Whether a mask may be of an image: no folder of the one contradicts the other's.

    Of ``masks/p2/001.png`` the image is not ``images/p1/001.png``, but may be ``images/001.png``.
    """
    one, other = set(telling_folders(mask)), set(telling_folders(image))
    return one <= other or other <= one


def _keys(stem: str) -> list[str]:
    """A name as it is, and without what says that it is an image or a mask."""
    folded = stem.casefold()
    return list(dict.fromkeys((folded, _PREFIX.sub("", folded, count=1))))


def telling_folders(file: str) -> Folders:
    """The folders of a file, small, but for those that say whether it holds images or masks."""
    kept = (f for f in folders_of(file) if not is_mask_folder(f) and not is_image_folder(f))
    return tuple(f.casefold() for f in kept)
