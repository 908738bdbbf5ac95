"""Every layout that `weakseg init` recognises, the particular ones before the general."""

from __future__ import annotations

from weakseg.errors import DataError, UserError, did_you_mean
from weakseg.importing.base import Layout
from weakseg.importing.layouts.chestxray14 import CHESTXRAY14
from weakseg.importing.layouts.chexpert import CHEXPERT
from weakseg.importing.layouts.class_folders import CLASS_FOLDERS
from weakseg.importing.layouts.dicom import DICOM
from weakseg.importing.layouts.isic import ISIC
from weakseg.importing.layouts.mask_folders import MASK_FOLDERS
from weakseg.importing.layouts.masks_beside import MASKS_BESIDE
from weakseg.importing.layouts.nifti import NIFTI
from weakseg.importing.layouts.nnunet import NNUNET
from weakseg.importing.layouts.npz import NPZ
from weakseg.importing.layouts.table import TABLE, illegible
from weakseg.importing.tree import Tree

LAYOUTS: tuple[Layout, ...] = (
    NNUNET,
    CHESTXRAY14,
    CHEXPERT,
    ISIC,
    NPZ,
    TABLE,
    DICOM,
    NIFTI,
    MASKS_BESIDE,
    MASK_FOLDERS,
    CLASS_FOLDERS,
)


def recognise(tree: Tree, wanted: str | None = None) -> tuple[Layout, list[Layout]]:
    """The layout of a tree: the one that is wanted, else the first that fits.

    Returns
    -------
    layout : Layout
    others : list of Layout
        What would fit as well, and read the files in another way.

    Raises
    ------
    UserError
        For a layout that there is not.
    DataError
        If none fits, or not the one that is wanted.
    """
    names = [x.name for x in LAYOUTS]
    if wanted is not None and wanted not in names:
        raise UserError(
            "There is no such layout.", where=f"--layout {wanted}", fix=did_you_mean(wanted, names)
        )
    fitting = [x for x in LAYOUTS if x.recognise(tree)]
    chosen = next((x for x in fitting if wanted in (None, x.name)), None)
    if chosen is None:
        raise DataError(
            "The files lie in no layout that weakseg knows."
            if wanted is None
            else f"The files do not lie as {wanted}.",
            where=str(tree.root),
            found="; ".join((tree.summary(), *illegible(tree))),
            expected="one of: " + "; ".join(f"{x.name} ({x.title})" for x in LAYOUTS),
            fix="name the folder that holds the images, or write a manifest by hand: a CSV with "
            "the columns image,label and, where there are any, mask,patient",
        )
    return chosen, [x for x in fitting if x.read is not chosen.read]
