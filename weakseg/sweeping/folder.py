"""The folder of a sweep: what it is called, what lies where, and that it is of one sweep alone."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pydantic import BaseModel

from weakseg.config import Config
from weakseg.errors import RunError
from weakseg.runs import folder_name, inside
from weakseg.stored import read_json
from weakseg.sweeping.variations import Variation

ROOT = Path("runs")
SUMMARY = "sweep.json"
_AGAIN = "delete it, and repeat the sweep: its runs stay"


class Summary(BaseModel):
    """What a later sweep reads of `SUMMARY`."""

    over: list[str]
    folds: int | None


def default_folder(name: str, of: Variation) -> Path:
    """``runs/NAME-sweep-KEYS``: sweeps that vary other keys of an experiment have other folders.

    Keys stand in it whole, but those of the classifier without their ``classifier.``.

    Parameters
    ----------
    name : str
        Of the experiment.
    of : Variation
        One of its runs.
    """
    keys = [folder_name(_short(key)) for key, _ in of.settings]
    keys += [] if of.folds is None else [f"{of.folds}-folds"]
    return ROOT / "-".join([name, "sweep", *keys])


def _short(key: str) -> str:
    """A key, still another one for every key of an experiment."""
    last = key.removeprefix("classifier.")
    return key if "." in last or last in Config.model_fields else last


def refuse_other_keys(folder: Path, of: Variation) -> None:
    """Refuse to write over the page of a sweep that varies other keys.

    Raises
    ------
    RunError
        Also if what an earlier sweep has written is damaged.
    """
    path = inside(folder, SUMMARY)
    if not path.exists():
        return
    earlier = Summary.model_validate(read_json(path, _AGAIN, Summary))
    theirs, ours = _said_of(earlier.over, earlier.folds), _said_of(list(of.shown), of.folds)
    if theirs != ours:
        raise RunError(
            "The folder holds a sweep over something else.",
            where=str(folder),
            found=theirs,
            expected=ours,
            fix="name another folder with --out",
        )


def _said_of(keys: Sequence[str], folds: int | None) -> str:
    """What a sweep varies, in words."""
    return ", ".join([*keys, *([] if folds is None else [f"{folds} folds"])])


def jobs_folder(folder: Path) -> Path:
    """Where a folder a job lies: what it was told, its log, what became of it."""
    return inside(folder, "jobs")


def run_of(folder: Path, name: str) -> Path:
    """The run folder of a job."""
    return inside(folder, "runs", name)
