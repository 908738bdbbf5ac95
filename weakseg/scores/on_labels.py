"""How well a method's masks tell images with a lesion from those without: labels, and no mask."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike


@dataclass(frozen=True)
class OnLabels:
    """What became of images whose labels are known.

    Attributes
    ----------
    found, lesions : int
        Images with a lesion that have a mask, and all of them.
    marked, healthy : int
        Images without one that have a mask, and all of them.
    """

    found: int
    lesions: int
    marked: int
    healthy: int

    @property
    def youden(self) -> float:
        """Youden's index: the share of lesions found less that of healthy images marked."""
        # One division, so that equal ones are equal: 3 / 10 - 1 / 10 is not 2 / 10.
        both = self.found * self.healthy - self.marked * self.lesions
        return both / (self.lesions * self.healthy)

    @property
    def told(self) -> str:
        """For people."""
        return (
            f"finds {self.found} of {self.lesions} lesions, marks {self.marked} of "
            f"{self.healthy} healthy images"
        )


def counts(is_lesion: ArrayLike, marked: ArrayLike) -> dict[str, int]:
    """The four counts of `OnLabels`, for a file.

    Parameters
    ----------
    is_lesion, marked : (N,) array_like of bool
        The label, and whether the image has a mask that is not empty.
    """
    lesion, some = np.asarray(is_lesion, dtype=bool), np.asarray(marked, dtype=bool)
    return {
        "found": int((some & lesion).sum()),
        "lesions": int(lesion.sum()),
        "marked": int((some & ~lesion).sum()),
        "healthy": int((~lesion).sum()),
    }


def added_up(each: Iterable[Mapping[str, int]]) -> OnLabels | None:
    """The counts of several seeds or folds together; None where there are none, or one is empty."""
    of = [OnLabels(*(int(e[k]) for k in ("found", "lesions", "marked", "healthy"))) for e in each]
    lesions, healthy = sum(o.lesions for o in of), sum(o.healthy for o in of)
    if not lesions or not healthy:
        return None
    return OnLabels(sum(o.found for o in of), lesions, sum(o.marked for o in of), healthy)
