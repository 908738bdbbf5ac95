"""``weakseg validate``: every problem of a manifest at once."""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from pathlib import Path

from weakseg.config import DataConfig, apply_change, parse_config
from weakseg.data.check import Problem, format_problems, look_into, problems_json
from weakseg.data.manifest import read_configured, table_labels
from weakseg.errors import ConfigError, DataError, count
from weakseg.progress import progress, say

SHEET = "masks.png"
"""The sheet's name in the folder for pictures."""


def parse_mask_rule(text: str) -> str | list[int]:
    """``nonzero``, ``half``, ``dark``, or values separated by commas.

    Raises
    ------
    ConfigError
        For anything else.
    """
    if text in ("nonzero", "half", "dark"):
        return text
    try:
        return [int(v) for v in text.split(",")]
    except ValueError:
        raise ConfigError(
            "The mask rule is not known.",
            where="--mask-rule",
            found=repr(text),
            expected="nonzero, half, dark, or whole numbers such as 1,4",
        ) from None


def validate_manifest(
    manifest: Path,
    healthy: list[str] | None = None,
    lesion: list[str] | None = None,
    mask_rule: str = "nonzero",
    *,
    changes: Sequence[str] = (),
    pictures: Path | None = None,
    as_json: bool = False,
) -> tuple[str, bool]:
    """Check a manifest.

    Parameters
    ----------
    manifest : Path
    healthy, lesion : list of str, optional
        ``data.healthy_labels`` and ``data.lesion_labels``.
    mask_rule : str
        See `parse_mask_rule`.
    changes : sequence of str
        ``data.key=value``, applied in order.
    pictures : Path, optional
        A folder, made where it is missing, for a sheet of images with their masks' outlines.
    as_json : bool

    Returns
    -------
    report : str
        For people, or JSON.
    failed : bool
        Whether there is an error; warnings alone do not fail.
    """
    if Path(manifest).suffix.lower() in (".yaml", ".yml"):
        raise ConfigError(
            "A manifest is wanted, and this is an experiment.",
            where=str(manifest),
            expected="a CSV of images and labels, as data.manifest of an experiment names it",
            fix="name that CSV; this checks the experiment too: weakseg compare "
            f"{shlex.quote(str(manifest))} --dry-run",
        )
    tree = {
        "data": {
            "manifest": str(manifest),
            "healthy_labels": healthy or "auto",
            "lesion_labels": lesion or "auto",
            "mask_rule": parse_mask_rule(mask_rule),
        }
    }
    for change in changes:
        apply_change(tree, change)
    data = parse_config(tree, where="command line").data
    if pictures is not None:
        _make_folder(pictures)
    with progress("checking images and masks", 0) as advance:
        findings = look_into(Path(manifest), data, progress=lambda n, of: advance(n, of=of))
    problems = findings.problems
    if pictures is not None:
        _draw(pictures / SHEET, Path(manifest), data, problems)
    failed = any(p.severity == "error" for p in problems)
    if as_json:
        return json.dumps(problems_json(problems), indent=2), failed
    lines = [format_problems(problems) if problems else f"{manifest}: no problems"]
    if findings.holds is not None and not failed:
        lines.append(findings.holds)
    if findings.few_tested is not None:
        lines.append(f"note: {findings.few_tested}")
    return "\n".join(lines), failed


def _make_folder(folder: Path) -> None:
    """The folder for pictures, before the files are looked at, which may take long."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as e:
        raise ConfigError(
            "The folder for pictures cannot be made.",
            where=f"--pictures {folder}",
            found=e.strerror or type(e).__name__,
            fix="name a folder that can be written to",
        ) from None


def _draw(sheet: Path, manifest: Path, data: DataConfig, problems: Sequence[Problem]) -> None:
    from weakseg.report.sheet import write_sheet

    try:
        table = read_configured(manifest, data)
    except DataError:  # the problems tell
        say(f"no pictures: {manifest} cannot be read")
        return
    try:
        labels = table_labels(table, data)
    except DataError:  # as above
        labels = None
    with progress("drawing pictures", 0) as advance:
        shown = write_sheet(
            sheet, table, data, problems, labels, progress=lambda n, of: advance(n, of=of)
        )
    drawn = count(shown, "image")
    say(f"{drawn} with the outlines of their masks: {sheet}" if shown else "no pictures")
