"""Thresholds as ``threshold.json`` keeps them, checked as they are read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import ValidationError

from weakseg.contents import Thresholds
from weakseg.masks.rules import FittedRule, rule_from_json
from weakseg.stored import damaged, read_json

OF_A_SET = ("fixed", "validation", "train-quantile", "oracle-dataset")
"""Rules with one threshold for the whole set."""


def read_thresholds(path: Path) -> dict[str, Any]:
    """A method's entries by seed, ``seed-<n>``.

    Raises
    ------
    RunError
        If the file is missing or damaged, or an entry is of no rule; the key is named.
    """
    entries = read_json(path, model=Thresholds)
    for seed, entry in entries.items():
        if isinstance(entry["rule"], str):  # of a network
            if entry["threshold"] is None:
                raise damaged(path, f"{seed}.threshold: missing, where a network needs one")
            continue
        try:
            fitted = rule_from_json(entry)
        except ValidationError as e:
            first = e.errors(include_url=False)[0]
            at = ".".join(str(part) for part in (seed, "rule", *first["loc"]))
            raise damaged(path, f"{at}: {first['msg']}") from None
        _check_threshold(path, seed, fitted)
    return entries


def _check_threshold(path: Path, seed: str, fitted: FittedRule) -> None:
    if (fitted.threshold is None) == (fitted.name in OF_A_SET):
        found = f"{seed}.threshold: {fitted.threshold} for the rule {fitted.name}"
        raise damaged(path, found)
    if fitted.threshold is not None and fitted.scale == "image" and not 0 <= fitted.threshold <= 1:
        raise damaged(path, f"{seed}.threshold: {fitted.threshold} is no share of the maximum")
