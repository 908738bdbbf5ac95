"""DICOM files: recognised, and left to the command that knows their headers."""

from __future__ import annotations

import shlex

from weakseg.data.formats.dicom.signs import begins_as_dicom
from weakseg.importing.answers import Answers
from weakseg.importing.base import Arrangement, Layout
from weakseg.importing.tree import IMAGE_ENDINGS, VOLUME_ENDINGS, Tree

_TRIED = 50
_OTHERS = (*IMAGE_ENDINGS, *VOLUME_ENDINGS, ".csv", ".txt", ".json", ".npz", ".pdf", ".xml", ".md")


def _dicom(tree: Tree) -> int:
    """How many of the first files that may be DICOM are."""
    candidates = [f for f in tree.files if not f.lower().endswith(_OTHERS)]
    return sum(begins_as_dicom(tree.path(f)) for f in candidates[:_TRIED])


def _recognise(tree: Tree) -> bool:
    return _dicom(tree) > 0 and not tree.images


def _read(tree: Tree, answers: Answers) -> Arrangement:
    remark = f"DICOM files: {tree.summary()}"
    out = f"{tree.root.name}-dicom"
    command = f"weakseg import dicom {shlex.quote(str(tree.root))} --out {shlex.quote(out)}"
    return Arrangement((), (remark,), instead=command)


DICOM = Layout("dicom", "DICOM files", _recognise, _read)
