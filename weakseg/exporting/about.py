"""``model.json`` of an export, read and held against what it must hold."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import BaseModel

from weakseg.exporting.description import ABOUT, AGAIN, About
from weakseg.exporting.volumes import FORMAT, VolumesAbout
from weakseg.stored import check, read_json

_FORMATS: dict[str, type[BaseModel]] = {FORMAT: VolumesAbout}


def read_about(folder: Path) -> dict[str, Any]:
    """What ``model.json`` says.

    Raises
    ------
    RunError
        If it is missing or damaged.
    """
    path = folder / ABOUT
    about = read_json(path, AGAIN)
    check(about, _FORMATS.get(str(about.get("format")), About), path, AGAIN)
    return about
