"""What a check has found to say."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong with a manifest or its files.

    Attributes
    ----------
    kind : str
        A short code, for instance ``mask-size``.
    row : int or None
        The line in the manifest as an editor counts it; None where it concerns the whole.
    file : str or None
        The image or mask, as the manifest writes it.
    message : str
        What is wrong, what was found.
    fix : str
        The way out.
    severity : {"error", "warning"}
    """

    kind: str
    row: int | None
    file: str | None
    message: str
    fix: str
    severity: Literal["error", "warning"] = "error"
