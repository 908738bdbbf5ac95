"""By what the scores of two runs are split: a column of the manifest, or a part of the names."""

from __future__ import annotations

import re
from collections.abc import Mapping

import pandas as pd

from weakseg.config import LeftOut
from weakseg.data.manifest import read_configured, table_cases
from weakseg.errors import RunError, UserError
from weakseg.report.read import RunTables

BLANK, NO_MATCH = "(blank)", "(no match)"
LABEL = "label"
FEW = 5
"""Names that an error gives."""


def pattern_of(column: str | None, patients: str | None) -> re.Pattern[str] | None:
    """What is searched in the patients' names; refuses what cannot be."""
    if column is not None and patients is not None:
        raise UserError("Of --by and --by-patient there can be one.", fix="leave the other out")
    if patients is None:
        return None
    where = f"--by-patient {patients}"
    try:
        pattern = re.compile(patients)
    except re.error as e:
        raise UserError(
            "The pattern of --by-patient is no regular expression.",
            where=where,
            found=str(e),
            expected="for example '^TCGA_(..)'",
        ) from None
    if pattern.groups > 1:
        raise UserError(
            "The pattern of --by-patient has several groups in brackets.",
            where=where,
            found=f"{pattern.groups} groups",
            fix="leave one; write (?:…) for brackets that are none",
        )
    return pattern


def groups_of(
    run: RunTables, rows: pd.DataFrame, column: str | None, pattern: re.Pattern[str] | None
) -> dict[str, str] | None:
    """Case → the group that its scores are split by."""
    if pattern is not None:
        return _by_pattern(rows, pattern)
    if column is None:
        return None
    if column.casefold() == LABEL:
        return _filled(dict(zip(rows["case"], rows[LABEL].astype(str), strict=True)))
    return _by_column(run, rows, column)


def _by_pattern(rows: pd.DataFrame, pattern: re.Pattern[str]) -> dict[str, str]:
    names = rows["patient"].astype(str)
    found = {p: pattern.search(p) for p in names.unique()}
    if not any(found.values()):
        raise UserError(
            "No patient's name has what the pattern looks for.",
            where=f"--by-patient {pattern.pattern}",
            found=f"patients {', '.join(list(found)[:FEW])}{', …' if len(found) > FEW else ''}",
            fix="write another pattern, or name a column of the manifest with --by",
        )
    of = {p: NO_MATCH if m is None else m[pattern.groups] or BLANK for p, m in found.items()}
    return {str(c): of[p] for c, p in zip(rows["case"], names, strict=True)}


def _by_column(run: RunTables, rows: pd.DataFrame, column: str) -> dict[str, str]:
    """By a column of the manifest, which is read for it."""
    split = run.config.data.split.model_copy(
        update={"leave_out": LeftOut(column=column, value=column)}
    )
    table = read_configured(run.manifest, run.config.data.model_copy(update={"split": split}))
    cases = table_cases(table)
    by_place = {(str(c.image), c.slice): c.group for c in cases}
    by_name = {c.id: c.group for c in cases}  # of data that have moved since
    at = run.splits.get("slice", pd.Series("", index=run.splits.index)).astype(str)
    of = {
        str(case): by_place.get(
            (str(image), int(z) if z.isdecimal() else None), by_name.get(str(case))
        )
        for case, image, z in zip(run.splits["case"], run.splits["image"], at, strict=True)
    }
    found = {str(c): of.get(str(c)) for c in rows["case"]}
    if lost := [c for c, group in found.items() if group is None]:
        raise RunError(
            "The manifest has no row any more of images that were scored.",
            where=str(run.manifest),
            found=f"none of {', '.join(lost[:FEW])}{', …' if len(lost) > FEW else ''}",
            fix="run `weakseg compare CONFIG` again, of the data as they are now",
        )
    return _filled({c: group or "" for c, group in found.items()})


def _filled(groups: Mapping[str, str]) -> dict[str, str]:
    return {str(c): g.strip() or BLANK for c, g in groups.items()}
