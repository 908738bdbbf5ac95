"""``weakseg validate``: every problem of a manifest at once."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from weakseg.config import apply_change, parse_config
from weakseg.data.check import check_manifest, format_problems, problems_json
from weakseg.errors import ConfigError
from weakseg.progress import progress


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
    as_json : bool

    Returns
    -------
    report : str
        For people, or JSON.
    failed : bool
        Whether there is an error; warnings alone do not fail.
    """
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
    with progress("checking images and masks", 0) as advance:
        problems = check_manifest(Path(manifest), data, progress=lambda n, of: advance(n, of=of))
    failed = any(p.severity == "error" for p in problems)
    if as_json:
        return json.dumps(problems_json(problems), indent=2), failed
    return format_problems(problems) if problems else f"{manifest}: no problems", failed
