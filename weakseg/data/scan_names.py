"""What a file is by its name: an image of a patient, a mask, or what systems leave behind."""

from __future__ import annotations

import re
from pathlib import PurePath

_MASK_WORDS = (
    r"\w*masks?|msks?|segm?|segmentations?|gt|ground[ _-]?truths?|annotations?|contours?"
    r"|labels?(?:tr|ts)?"
)
_MASK_NAME = re.compile(rf"(?:^|[ _.-])(?:{_MASK_WORDS})(?:[ _.-]?\(?\d+\)?)?$", re.IGNORECASE)
_MASK_SUFFIX = re.compile(
    rf"(.+?)[ _.-]+(?:{_MASK_WORDS.replace(chr(92) + 'w*', '[^ _.-]*')})(?:[ _.-]?\(?\d+\)?)?",
    re.IGNORECASE,
)
_MASK_FOLDER = re.compile(rf"(?:.*[ _.-])?(?:{_MASK_WORDS})$", re.IGNORECASE)
_SYSTEM = ("__macosx", "thumbs.db", "desktop.ini", "@eadir", "$recycle.bin")

MASK, HIDDEN, SYSTEM = (
    "named as a mask",
    "hidden",
    "of the operating system or of a notebook",
)


def why_no_scan(path: PurePath) -> str | None:
    """Why a file of a folder is no image of a patient, by its name; None where it may be one.

    Parameters
    ----------
    path : PurePath
        Relative to the folder that was named.
    """
    parts = [p.casefold() for p in path.parts]
    if why := why_no_data(parts):
        return why
    if _MASK_NAME.search(bare(parts[-1])) or any(map(is_mask_folder, parts[:-1])):
        return MASK
    return None


def why_no_data(parts: list[str]) -> str | None:
    """Why a file is nobody's data, neither image nor mask, by its path in small letters."""
    if any(p in _SYSTEM for p in parts) or ".ipynb_checkpoints" in parts or parts[-1][:2] == "._":
        return SYSTEM
    return HIDDEN if any(p.startswith(".") for p in parts) else None


def is_mask_folder(name: str) -> bool:
    """Whether a folder is called as one of masks."""
    return _MASK_FOLDER.match(name) is not None


def without_mask_word(stem: str) -> str | None:
    """A mask's name without what says that it is one: ``x_mask_1`` → ``x``; None for others."""
    match = _MASK_SUFFIX.fullmatch(stem)
    return match[1] if match else None


def bare(name: str) -> str:
    """A file's name without its ending, of which ``.nii.gz`` is one."""
    return name.removesuffix(".gz").rpartition(".")[0]
