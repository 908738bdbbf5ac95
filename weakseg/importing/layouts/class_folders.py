"""Images in folders that name their class, perhaps below ``Training`` and ``Testing``."""

from __future__ import annotations

from weakseg.importing.base import Layout
from weakseg.importing.pictures import read_pictures
from weakseg.importing.tree import Tree


def _recognise(tree: Tree) -> bool:
    return bool(tree.images)


CLASS_FOLDERS = Layout("class-folders", "a folder a class", _recognise, read_pictures)
