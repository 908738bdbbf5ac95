"""nnU-Net and the Medical Segmentation Decathlon: ``imagesTr``, ``labelsTr`` and ``dataset.json``.

nnU-Net names a file a channel, ``CASE_0000.nii.gz``, ``CASE_0001.nii.gz``, with the mask
``labelsTr/CASE.nii.gz``; the Decathlon an image a case. ``dataset.json`` says what mask values are.
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from weakseg.errors import DataError, count, is_or_are
from weakseg.importing.answers import Answers, Question
from weakseg.importing.base import Arrangement, Item, Layout
from weakseg.importing.pictures import HEALTHY, LESION
from weakseg.importing.tree import (
    IMAGE_ENDINGS,
    VOLUME_ENDINGS,
    Tree,
    counting_order,
    folder_of,
    stem_of,
)

_CHANNEL = re.compile(r"(.+)_(\d{4})")
_LESION = re.compile(
    r"tumou?r|lesion|cancer|nodule|cyst|polyp|metasta|plaque|hematoma|haemorrhage|hemorrhage|edema"
    r"|necro|enhanc|infarct|stroke|covid|infection|melanoma|mass",
    re.IGNORECASE,
)
ALL = "all"


def _root(tree: Tree) -> str | None:
    """The folder that holds dataset.json and imagesTr."""
    for file in tree.named("dataset.json"):
        base = f"{folder_of(file)}/".removeprefix("/")
        if any(f.startswith(f"{base}imagesTr/") for f in tree.files):
            return base
    return None


def _recognise(tree: Tree) -> bool:
    return _root(tree) is not None


def _read(tree: Tree, answers: Answers) -> Arrangement:
    base = _root(tree) or ""
    about = _about(tree.path(f"{base}dataset.json"))
    files = tree.ending(*IMAGE_ENDINGS, *VOLUME_ENDINGS)
    images = [f for f in files if folder_of(f) == f"{base}imagesTr"]
    masks = {stem_of(f): f for f in files if folder_of(f) == f"{base}labelsTr"}
    cases: dict[str, list[str]] = defaultdict(list)
    for f in images:
        match = _CHANNEL.fullmatch(stem_of(f))
        whole = stem_of(f) in masks or match is None
        cases[stem_of(f) if whole or match is None else match[1]].append(f)
    with_mask = {name: sorted(f, key=counting_order) for name, f in cases.items() if name in masks}
    if not with_mask:
        raise DataError(
            "No image of imagesTr has a mask in labelsTr.",
            where=str(tree.path(base)),
            found=f"{len(images)} images, {len(masks)} masks",
            expected="imagesTr/CASE_0000.nii.gz and labelsTr/CASE.nii.gz",
            fix="name the folder of one data set, as nnU-Net has it",
        )
    items = [_item(tree, channels, masks[name]) for name, channels in with_mask.items()]
    rule, remark = _rule(about.get("labels"), answers)
    channels = max(len(f) for f in with_mask.values())
    remarks = [
        f"{count(len(items), 'case')} of imagesTr and labelsTr, {count(channels, 'channel')} each",
        remark,
    ]
    if len(cases) > len(items):
        left = is_or_are(len(cases) - len(items), "case", "without a mask")
        remarks.append(f"{left} left out")
    if any(f.startswith(f"{base}imagesTs/") for f in tree.files):
        remarks.append("imagesTs has no masks and is left out: segment it with `weakseg predict`")
    settings = {} if rule is None else {"data.mask_rule": rule}
    return Arrangement(tuple(items), tuple(remarks), settings, label_by_mask=(HEALTHY, LESION))


def _item(tree: Tree, channels: list[str], mask: str) -> Item:
    first, *more = (tree.path(f) for f in channels)
    return Item(first, "", (tree.path(mask),), more=tuple(more))


def _about(path: Path) -> Mapping[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError) as e:
        raise DataError(
            "dataset.json cannot be read.", where=str(path), found=str(e), fix="fetch it again"
        ) from None
    return content if isinstance(content, dict) else {}


def _rule(labels: Any, answers: Answers) -> tuple[list[int] | None, str]:
    """Which mask values are lesion, and a sentence; None for all of them."""
    values = _values(labels)
    if len(values) <= 1:
        return None, f"mask values: {', '.join(values) or 'not told'}"
    lesions = [name for name in values if _LESION.search(name)]
    default = lesions[0] if len(lesions) == 1 else "lesions" if lesions else ALL
    choices = [ALL, *(["lesions"] if len(lesions) > 1 else []), *values]
    answer = answers.ask(
        Question(
            "lesion",
            f"Which of {', '.join(values)} is the lesion?",
            default,
            choices,
            "by its name" if lesions else "none is called as lesions are",
        )
    )
    if answer == ALL:
        return None, f"every mask value is lesion: {', '.join(values)}"
    chosen = lesions if answer == "lesions" else [answer]
    rule = sorted({v for name in chosen for v in values[name]})
    return rule, f"mask values {', '.join(map(str, rule))} are lesion: {', '.join(chosen)}"


def _values(labels: Any) -> dict[str, list[int]]:
    """Name of a structure → its mask values, of either version of dataset.json."""
    by_name: dict[str, list[int]] = {}
    for key, value in labels.items() if isinstance(labels, dict) else ():
        name, number = (str(value), key) if isinstance(value, str) else (str(key), value)
        try:
            values = [int(v) for v in (number if isinstance(number, list) else [number])]
        except (TypeError, ValueError):
            continue
        values = [v for v in values if v > 0]
        if values and name.casefold() != "ignore":
            by_name[name] = values
    return by_name


NNUNET = Layout("nnunet", "nnU-Net's imagesTr and labelsTr", _recognise, _read)
