"""Folders of masks that mirror folders of images: ``images/x.png`` and ``masks/x.png``."""

from __future__ import annotations

from weakseg.importing.base import Layout
from weakseg.importing.pairing import pair
from weakseg.importing.pictures import read_pictures
from weakseg.importing.tree import Tree


def _recognise(tree: Tree) -> bool:
    return pair(tree.images).in_folders > 0


MASK_FOLDERS = Layout(
    "mask-folders", "folders of images and folders of masks", _recognise, read_pictures
)
