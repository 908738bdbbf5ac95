"""What `weakseg.WeakSegmenter.save` keeps beside the run: parameters, and labels as handed over."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from weakseg.errors import RunError, did_you_mean
from weakseg.runs import write_json
from weakseg.stored import damaged, read_json

RUN, SAVED = "run", "segmenter.json"
"""Of a saved segmenter: the run folder, and what the run does not say."""
FORMAT = 1
_AGAIN = "save the segmenter again"


class _Params(BaseModel):
    """Those that a loaded segmenter works by; the others count when it is fitted again."""

    model_config = ConfigDict(extra="allow", strict=True, allow_inf_nan=False)

    method: str | None = None
    device: str | None = None
    verbose: bool | int = True


class SavedContent(BaseModel):
    """What ``segmenter.json`` must hold."""

    model_config = ConfigDict(extra="allow", strict=True, allow_inf_nan=False)

    format: Literal[1]
    params: _Params
    classes: list[str | bool | int | float] = Field(min_length=2)


def write_saved(folder: Path, params: Mapping[str, Any], classes: list[Any]) -> None:
    """Write ``segmenter.json``; parameters that are no JSON are left out."""
    plain = {k: v for k, v in params.items() if _is_json(v)}
    write_json(folder / SAVED, {"format": FORMAT, "params": plain, "classes": classes})


def read_saved(folder: Path, known: Mapping[str, Any]) -> tuple[dict[str, Any], list[Any]]:
    """Parameters and classes of a folder that `write_saved` wrote in.

    Parameters
    ----------
    folder : Path
    known : mapping
        The parameters that there are.

    Raises
    ------
    RunError
        If there are none, or they are damaged; the key is named.
    """
    path = folder / SAVED
    if not path.is_file():
        raise RunError(
            "There is no saved segmenter.", where=str(folder), expected=f"a file {SAVED} in it"
        )
    held = read_json(path, _AGAIN)
    if held.get("format") != FORMAT:
        raise RunError(
            "The saved segmenter is not as weakseg writes it.",
            where=str(path),
            found=f"format {held.get('format')!r:.60}",
            expected=f"format {FORMAT}",
            fix="save it again, with this version",
        )
    read_json(path, _AGAIN, SavedContent)
    if unknown := sorted(held["params"].keys() - known.keys()):
        near = did_you_mean(unknown[0], known)
        raise damaged(path, f"params: there is no {unknown[0]!r:.60}; {near}", _AGAIN)
    return held["params"], held["classes"]


def check_classes(folder: Path, classes: list[Any], labels: list[str]) -> None:
    """Refuse other than a class a label of the run."""
    if len(classes) != len(labels):
        found = f"classes: {len(classes)}, where the run has {len(labels)} labels"
        raise damaged(folder / SAVED, found, _AGAIN)


def _is_json(value: Any) -> bool:
    try:
        json.dumps(value)
    except (TypeError, ValueError):
        return False
    return True
