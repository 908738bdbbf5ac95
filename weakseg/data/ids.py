"""Names of cases: unique, and safe as file names."""

from __future__ import annotations

import hashlib
import os
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from weakseg.disk import is_reserved


def safe_ids(paths: Sequence[Path]) -> list[str]:
    """Names for files that are unique, also where case is ignored, and safe as file names.

    A file's stem; where two are the same, the path below the folder that all have in common; and
    where that does not tell them apart, with a short hash of it.

    Parameters
    ----------
    paths : sequence of Path

    Returns
    -------
    list of str
        1 to 100 characters of A–Z, a–z, 0–9, ``.``, ``_`` and ``-``; none begins with ``.`` or
        ``-`` or ends with ``.``, and none is a device's on Windows.
    """
    below = _below_common([os.path.abspath(p) for p in paths])  # noqa: PTH100
    ids = [_safe(_bare(p).rpartition("/")[2], p) for p in below]
    ids = _where_repeated(ids, [_safe(_bare(p), p) for p in below])
    ids = _where_repeated(
        ids, [f"{name[:80]}-{_short_hash(p)}" for name, p in zip(ids, below, strict=True)]
    )
    # Only the same file twice, or a file that is called like the hash of another, is left.
    taken = {name.casefold() for name in ids}
    seen: set[str] = set()
    numbers: dict[str, int] = {}
    for k, wanted in enumerate(ids):
        number = numbers.get(wanted, 2)
        while ids[k].casefold() in seen or (number > 2 and ids[k].casefold() in taken):
            ids[k], number = f"{wanted}-{number}", number + 1
        numbers[wanted] = number
        seen.add(ids[k].casefold())
    return ids


def _below_common(paths: Sequence[str]) -> list[str]:
    """Absolute paths from the folder on that all have in common, with / between folders."""
    if not paths:
        return []
    folders = {os.path.dirname(p) for p in paths}  # noqa: PTH120
    if len({os.path.splitdrive(p)[0] for p in paths}) > 1:
        return [p.replace(os.sep, "/") for p in paths]
    root = os.path.commonpath(folders).rstrip(os.sep) + os.sep
    return [p[len(root) :].replace(os.sep, "/") for p in paths]


def _bare(path: str) -> str:
    """Without its suffix, of which ``.nii.gz`` is one."""
    bare = _without_suffix(path)
    return _without_suffix(bare) if path.lower().endswith(".nii.gz") else bare


def _without_suffix(path: str) -> str:
    folder, slash, name = path.rpartition("/")
    dot = name.rfind(".")
    return folder + slash + (name[:dot] if 0 < dot < len(name) - 1 else name)


def _safe(name: str, path: str) -> str:
    name = re.sub(r"[^A-Za-z0-9._-]+", "_", name).lstrip("-.").rstrip(".") or "case"
    name = f"case-{name}" if is_reserved(name) else name
    return name if len(name) <= 80 else f"{name[:80]}-{_short_hash(path)}"


def _short_hash(path: str) -> str:
    return hashlib.blake2b(os.fsencode(path), digest_size=4).hexdigest()


def _where_repeated(ids: list[str], others: list[str]) -> list[str]:
    count = Counter(i.casefold() for i in ids)
    return [o if count[i.casefold()] > 1 else i for i, o in zip(ids, others, strict=True)]
