"""NIfTI volumes: a folder a patient with its modalities and a mask, or images/ and masks/.

As BraTS has them, ``X_flair.nii.gz``, ``X_t1.nii.gz``, … and ``X_seg.nii.gz`` are one case.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field

from weakseg.data.scan_names import without_mask_word
from weakseg.errors import DataError, count, is_or_are
from weakseg.importing.answers import Answers
from weakseg.importing.base import Arrangement, Item, Layout
from weakseg.importing.folders import places_of, settle_split
from weakseg.importing.pairing import pair
from weakseg.importing.pictures import HEALTHY, LESION
from weakseg.importing.tree import Tree, folder_of, listed, stem_of

MODALITIES = (
    *("flair", "t2f", "t1c", "t1ce", "t1gd", "t1", "t1n", "t2", "t2w", "pd", "dwi", "adc"),
    *("swi", "ct", "pet", "mra"),
)
"""In the order in which a case names them; the first is the one that pictures show."""
_TAIL = re.compile(rf"(.+)[ _.-]({'|'.join(MODALITIES)})", re.IGNORECASE)
_REGION = re.compile(r"(.+?)[ _.-]*brain[ _-]?mask", re.IGNORECASE)


@dataclass
class _Case:
    """The files of a case, while they are gathered."""

    channels: dict[str, str] = field(default_factory=dict)
    masks: list[str] = field(default_factory=list)
    roi: str | None = None


def _recognise(tree: Tree) -> bool:
    return len(tree.volumes) > 0 and not tree.images


def _read(tree: Tree, answers: Answers) -> Arrangement:
    return read_volumes(tree, answers)


def read_volumes(tree: Tree, answers: Answers, files: Sequence[str] | None = None) -> Arrangement:
    """Volumes with their modalities, masks and regions.

    Parameters
    ----------
    tree : Tree
    answers : Answers
    files : sequence of str, optional
        All NIfTI files of the tree where it is left out.
    """
    volumes = tree.volumes if files is None else files
    cases = _by_modality(volumes)
    if not any(c.masks for c in cases.values()):
        cases = _by_pairs(volumes)
    kept = {name: c for name, c in cases.items() if c.masks}
    if not kept:
        raise DataError(
            "No volume has a mask: volumes train segmenters only, which learn from masks.",
            where=str(tree.root),
            found=f"{len(volumes)} NIfTI files, such as {listed(volumes, 3)}",
            expected="X.nii.gz with X_seg.nii.gz beside it, or folders images and labels",
        )
    firsts = {name: _ordered(c)[0] for name, c in kept.items()}
    places = places_of(tuple(firsts.values()), answers)
    items = [
        Item(
            tree.path(firsts[name]),
            "",
            tuple(tree.path(m) for m in c.masks),
            places[firsts[name]].patient,
            places[firsts[name]].split,
            tuple(tree.path(f) for f in _ordered(c)[1:]),
            roi=tree.path(c.roi) if c.roi else None,
        )
        for name, c in kept.items()
    ]
    return Arrangement(
        settle_split(items, answers),
        tuple(_told(cases, kept)),
        label_by_mask=(HEALTHY, LESION),
    )


def _ordered(case: _Case) -> list[str]:
    order = {m: k for k, m in enumerate(MODALITIES)}
    return [case.channels[m] for m in sorted(case.channels, key=lambda m: order.get(m, -1))]


def _by_modality(files: Sequence[str]) -> dict[str, _Case]:
    """Cases whose files are called by their modality; none where there is no such file."""
    cases: dict[str, _Case] = defaultdict(_Case)
    for f in files:
        if match := _TAIL.fullmatch(stem_of(f)):
            cases[f"{folder_of(f)}/{match[1]}"].channels[match[2].casefold()] = f
    for f in files:
        region, base = _REGION.fullmatch(stem_of(f)), without_mask_word(stem_of(f))
        if region and (case := cases.get(f"{folder_of(f)}/{region[1]}")):
            case.roi = f
        elif base and (case := cases.get(f"{folder_of(f)}/{_case_of(base)}")):
            case.masks.append(f)
    return dict(cases)


def _case_of(base: str) -> str:
    """The case of a mask, called as the case is or as the modality that it was drawn on."""
    match = _TAIL.fullmatch(base)
    return match[1] if match else base


def _by_pairs(files: Sequence[str]) -> dict[str, _Case]:
    regions = {f for f in files if _REGION.fullmatch(stem_of(f))}
    masks = pair([f for f in files if f not in regions]).masks
    of_region = {}
    for f in regions:
        match = _REGION.fullmatch(stem_of(f))
        of_region[folder_of(f), match[1] if match else ""] = f
    return {
        f: _Case({"": f}, list(m), of_region.get((folder_of(f), stem_of(f))))
        for f, m in masks.items()
    }


def _told(cases: dict[str, _Case], kept: dict[str, _Case]) -> list[str]:
    channels = max(len(c.channels) for c in kept.values())
    names = [m for c in list(kept.values())[:1] for m in c.channels if m]
    several = f", {channels} modalities each: {listed(names)}" if names else ""
    remarks = [f"{count(len(kept), 'volume')} with masks{several}"]
    if len(kept) < len(cases):
        left = is_or_are(len(cases) - len(kept), "volume", "without a mask")
        remarks.append(f"{left} left out")
    regions = sum(c.roi is not None for c in kept.values())
    if regions:
        remarks.append(f"{regions} brain masks are taken for the region of interest")
    return remarks


NIFTI = Layout("nifti", "NIfTI volumes with masks", _recognise, _read)
