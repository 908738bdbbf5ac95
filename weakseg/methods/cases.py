"""The cases of a run: their true masks, and the files and rows of their own ones."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from weakseg.config import DataConfig
from weakseg.data.case_files import case_truth
from weakseg.data.cases import Case
from weakseg.methods.prepared import Prepared


def read_truth(case: Case, shape: Sequence[int], healthy: bool, data: DataConfig) -> Any:
    """The true mask: read, or empty for an image whose label says that there is no lesion.

    None where a lesion is there but nobody has drawn it: such an image cannot be scored.
    """
    truth = case_truth(case, data)
    return np.zeros(tuple(shape), dtype=bool) if truth is None and healthy else truth


def case_entry(case: Case, method: str, kind: str, seed: int | None, seen: int) -> dict[str, Any]:
    """The columns that say what a row is of."""
    return {
        "case": case.id,
        "patient": case.patient,
        "split": case.split,
        "label": case.label,
        "method": method,
        "kind": kind,
        "seed": seed,
        "masks_seen": seen,
    }


def scored_cases(prepared: Prepared) -> set[str]:
    """Test cases that can be scored; none unless at least one lesion has a mask."""
    labels, test = prepared.cases.labels, prepared.cases.of("test")
    masked = {c.id for c in test if c.mask is not None and labels.is_lesion(c.label)}
    healthy = {c.id for c in test if not labels.is_lesion(c.label)}
    return masked | healthy if masked else set()
