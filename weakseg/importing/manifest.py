"""What was found, as ``labels.csv``."""

from __future__ import annotations

import csv
import io
import os
import re
from collections.abc import Sequence
from pathlib import Path

from weakseg.data.columns import SLICE
from weakseg.data.table import JOINED
from weakseg.importing.base import Item
from weakseg.runs import write_text
from weakseg.spreadsheets import safe_cell

LABELS = "labels.csv"


def write_items(path: Path, items: Sequence[Item]) -> None:
    """Write a manifest; columns that no item fills are left out.

    Paths are relative where the file is near, so that the folders can be moved together: below the
    folder above the manifest's; else absolute.

    Parameters
    ----------
    path : Path
    items : sequence of Item
        Their relative paths are below the manifest's folder.
    """
    here = Path(os.path.realpath(path.parent))
    more = max((len(i.more) for i in items), default=0)
    extra = list(dict.fromkeys(k for i in items for k in i.extra))
    header = ["image", "label", "mask", "patient", "split"]
    header += [f"image{k}" for k in range(2, more + 2)] + ["roi", SLICE, *extra]
    rows = []
    for i in items:
        further = [_cell(p, here) for p in i.more]
        rows.append(
            [
                _cell(i.image, here),
                safe_text(i.label),
                JOINED.join(_cell(m, here) for m in i.masks),
                safe_text(i.patient),
                i.split,
                *further,
                *[""] * (more - len(further)),
                _cell(i.roi, here) if i.roi else "",
                i.slice,
                *(safe_text(i.extra.get(k, "")) for k in extra),
            ]
        )
    used = [k for k, name in enumerate(header) if k < 2 or any(r[k] for r in rows)]
    text = io.StringIO()
    out = csv.writer(text, lineterminator="\n")
    out.writerow([header[k] for k in used])
    out.writerows([[r[k] for k in used] for r in rows])
    write_text(path, text.getvalue())


def safe_text(text: str) -> str:
    """A label or a name as it is written: no spreadsheet takes it for a formula, numbers stay."""
    return text if re.fullmatch(r"[+-]?\d+(?:[.,]\d+)?", text) else safe_cell(text)


def _cell(file: Path, here: Path) -> str:
    """A path as a manifest in a folder names it; no spreadsheet takes it for a formula."""
    text = _near(file, here)
    return text if safe_cell(text) == text else f"./{text}"


def _near(file: Path, here: Path) -> str:
    if not file.is_absolute():
        return file.as_posix()
    real = os.path.realpath(file.parent)
    if os.path.commonpath([real, here.parent]) != str(here.parent) or here.parent == here:
        return file.as_posix()
    return Path(os.path.relpath(real, here), file.name).as_posix()
