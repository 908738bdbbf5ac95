"""BraTS: gliomas in four modalities, a folder a patient.

2020 and 2021 name ``BraTS20_Training_001_flair.nii.gz``, with the values 1, 2 and 4 in ``_seg``;
from 2023 on ``BraTS-GLI-00000-000-t2f.nii.gz`` (patient, then time), with 1, 2 and 3.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import replace

from weakseg.errors import DataError, is_or_are
from weakseg.importing.answers import Answers, Question
from weakseg.importing.base import Arrangement, Item, PublishedSet
from weakseg.importing.layouts.nifti import read_volumes
from weakseg.importing.tree import Tree, listed, stem_of

_OLD = re.compile(r"(BraTS\d*_(?:Training_|Validation_)?.+?)_(?:flair|t1|t1ce|t2)")
_NEW = re.compile(r"(BraTS-[A-Z]+-\d+)-\d+-(?:t2f|t1n|t1c|t2w)")
_EXPECTED = "volumes called as BraTS20_Training_001_flair.nii.gz or BraTS-GLI-00000-000-t2f.nii.gz"
_REGIONS = {
    "whole": "the whole tumour: every value but 0",
    "core": "the tumour core: necrosis and enhancing tumour",
    "enhancing": "the enhancing tumour",
}


def _patient(item: Item) -> tuple[str, int] | None:
    """The patient of a case and the mask's value of enhancing tumour."""
    stem = stem_of(item.image.name)
    if match := _NEW.fullmatch(stem):
        return match[1], 3
    match = _OLD.fullmatch(stem)
    return (match[1], 4) if match else None


def _read(tree: Tree, answers: Answers) -> Arrangement:
    files = [f for f in tree.volumes if stem_of(f).startswith("BraTS")]
    if not files:
        raise DataError(
            "The folder does not hold BraTS.",
            where=str(tree.root),
            found=tree.summary(),
            expected=_EXPECTED,
            fix="name the unpacked folder of the training data",
        )
    whole = read_volumes(tree, answers, files)
    named = [(i, _patient(i)) for i in whole.items]
    ours = [(i, p) for i, p in named if p is not None]
    others = [i.image.name for i, p in named if p is None]
    if not ours:
        raise DataError(
            "No case is called as those of BraTS are.",
            where=str(tree.root),
            found=f"{len(others)} cases, such as {listed(others, 3)}",
            expected=_EXPECTED,
            fix="name the unpacked folder of the training data; files of other names are read by "
            "weakseg init",
        )
    enhancing = Counter(p[1] for _, p in ours).most_common(1)[0][0]
    question = Question("region", "Which region is the lesion?", "whole", tuple(_REGIONS))
    region = answers.ask(question)
    settings = {} if region == "whole" else {"data.mask_rule": [enhancing]}
    if region == "core":
        settings = {"data.mask_rule": [1, enhancing]}
    items = tuple(replace(i, patient=p[0]) for i, p in ours)
    are = is_or_are(len(others), "case", "of other names")
    left = [f"{are} left out: {listed(others, 3)}"] if others else []
    remarks = (*whole.found, *left, f"the lesion is {_REGIONS[region]}")
    return Arrangement(items, remarks, settings, label_by_mask=whole.label_by_mask)


BRATS = PublishedSet(
    "brats",
    "BraTS: brain tumour segmentation, multi-modal MRI",
    "The folder of the training data, a folder a patient.",
    licence="as agreed on registration; research only, and the papers have to be cited",
    citation="Menze BH, et al. The multimodal brain tumor image segmentation benchmark (BRATS). "
    "IEEE Transactions on Medical Imaging 34 (2015), 1993-2024; and Bakas S, et al. Advancing the "
    "cancer genome atlas glioma MRI collections with expert segmentation labels and radiomic "
    "features. Scientific Data 4 (2017), 170117",
    address="https://www.synapse.org/brats",
    read=_read,
)
