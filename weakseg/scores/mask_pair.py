"""A mask beside the true one, and what several scores need of the two."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike

from weakseg.scores.checks import Floats, Mask, as_heatmap, as_masks
from weakseg.scores.overlap import overlap_scores
from weakseg.scores.surface import hd95_and_mean, surface_distances


@dataclass(frozen=True, eq=False)
class MaskPair:
    """What is scored; each computation is made when a score first asks for it.

    Attributes
    ----------
    pred, truth : (M, N[, P]) ndarray of bool
        The mask that is scored and the true one.
    heat : (M, N[, P]) ndarray of float, optional
        Raw heat.
    spacing : sequence of float, optional
        Distance between neighbouring pixels along each axis; pixels where it is None.
    """

    pred: Mask
    truth: Mask
    heat: Floats | None = None
    spacing: Sequence[float] | None = None

    @cached_property
    def predicted_pixels(self) -> int:
        """Area of the mask."""
        return int(np.count_nonzero(self.pred))

    @cached_property
    def lesion_pixels(self) -> int:
        """Area of the true one."""
        return int(np.count_nonzero(self.truth))

    @property
    def has_lesion(self) -> bool:
        """Whether there is a lesion."""
        return self.lesion_pixels > 0

    @cached_property
    def overlap(self) -> dict[str, float]:
        """See `weakseg.scores.overlap.overlap_scores`."""
        return overlap_scores(self.pred, self.truth)

    @cached_property
    def borders(self) -> tuple[Floats, Floats]:
        """See `weakseg.scores.surface.surface_distances`."""
        return surface_distances(self.pred, self.truth, self.spacing)

    @cached_property
    def apart(self) -> tuple[float, float]:
        """HD95 and the mean surface distance, see `weakseg.scores.surface`."""
        return hd95_and_mean(self.pred, self.truth, self.spacing, self.borders)


def mask_pair(
    pred: ArrayLike,
    truth: ArrayLike,
    heatmap: ArrayLike | None = None,
    spacing: Sequence[float] | None = None,
) -> MaskPair:
    """Check the arrays of a pair.

    Raises
    ------
    ValueError
        For arrays that are no masks, differ in shape or are not finite.
    """
    p, t = as_masks(pred, truth)
    heat = None if heatmap is None else as_heatmap(heatmap, t)[0]
    return MaskPair(p, t, heat, spacing)
