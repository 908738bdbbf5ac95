"""Masks that are parts of one truth: in two rows of one image, or beside the one that is named."""

from __future__ import annotations

import re
from collections.abc import Iterator

from weakseg.data.near_files import names_in
from weakseg.data.problems import Problem
from weakseg.data.table import JOINED, Table

_NUMBERED = re.compile(r"(.+)[_-]\d{1,2}((?:\.nii)?\.\w+)")
"""A name with a number of its own behind, as BUSI's ``benign (4)_mask_1.png``."""


def join_fix(masks: str) -> str:
    """The way out for an image whose masks stand in several rows."""
    return (
        f"if the masks are parts of one truth, join them: `{masks}` as the mask of one row, and "
        "delete the others; else keep one of the rows"
    )


def masks_to_join(table: Table) -> dict[str, str]:
    """Of images that several rows list with a mask each, the cell that names all of them."""
    masks: dict[str, dict[str, str]] = {}
    for row in table.rows:
        for cell in table.masks(row):
            masks.setdefault(table.real(row.image), {}).setdefault(table.real(cell), cell)
    return {image: JOINED.join(m.values()) for image, m in masks.items() if len(m) > 1}


def left_out_masks(table: Table) -> Iterator[Problem]:
    """Files that are called like a mask and a number, and that no row names."""
    named = {table.real(c) for r in table.rows for c in table.files(r)}
    parts: dict[str, dict[str, list[str]]] = {}
    for row in table.rows:
        for cell in table.masks(row):
            folder, slash, name = cell.rpartition("/")
            if folder not in parts:
                parts[folder] = _numbered(names_in(table.resolve(cell).parent))
            more = [f"{folder}{slash}{n}" for n in parts[folder].get(name, ())]
            more = [m for m in more if table.real(m) not in named]
            if more:
                yield Problem(
                    "mask-left-out",
                    row.line,
                    cell,
                    f"beside the mask lies {' and '.join(more)}, which no row names",
                    "if it is a part of the same truth, join them: "
                    f"`{JOINED.join((*table.masks(row), *more))}`; else give it another name",
                    "warning",
                )


def _numbered(names: list[str]) -> dict[str, list[str]]:
    """Names with a number behind, by the name without it."""
    groups: dict[str, list[str]] = {}
    for name in names:
        if match := _NUMBERED.fullmatch(name):
            groups.setdefault(match[1] + match[2], []).append(name)
    return groups
