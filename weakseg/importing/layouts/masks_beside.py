"""Masks beside their images: ``x.png`` and ``x_mask.png``, ``x_mask_1.png`` (BUSI, LGG)."""

from __future__ import annotations

from weakseg.importing.base import Layout
from weakseg.importing.pairing import pair
from weakseg.importing.pictures import read_pictures
from weakseg.importing.tree import Tree


def _recognise(tree: Tree) -> bool:
    return pair(tree.images).beside > 0


MASKS_BESIDE = Layout(
    "masks-beside", "images with their masks beside them", _recognise, read_pictures
)
