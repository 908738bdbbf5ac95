"""A dense conditional random field between a heatmap and its image, by pydensecrf2."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field

from weakseg.errors import ConfigError
from weakseg.masks.checks import Bools, Floats, fraction
from weakseg.masks.region import unit_range
from weakseg.masks.rules.arguments import at_least, heat_and_grey
from weakseg.masks.rules.base import FittedRule
from weakseg.masks.rules.search import SearchedRule
from weakseg.settings import Fraction

INSTALL = "pip install 'weakseg[crf]' (it is compiled: a C++ compiler is needed)"
SMOOTH_SD, SMOOTH_WEIGHT = 3.0, 3.0
COLOUR_SD, GREY_SD, COLOUR_WEIGHT = 50.0, 13.0, 10.0
"""The pairwise terms of pydensecrf's own examples: pixels, pixels and grey levels of 255."""


class CrfRule(SearchedRule):
    """A dense conditional random field on the image; needs the extra ``crf``."""

    rule: Literal["crf"] = "crf"
    spoken = "a conditional random field"
    at: Fraction = Field(0.5, description="heat over its maximum at which lesion is as likely")
    steps: int = Field(5, ge=1, le=100)

    needs_image = True
    by_default = False

    def require(self) -> None:
        _package()

    def mask(self, fitted: FittedRule, heat: Floats, image: Any, truth: Any) -> Bools:
        return crf_mask(heat, image, at=self.at, steps=self.steps)


def crf_mask(
    heatmap: npt.ArrayLike, image: npt.ArrayLike, *, at: float = 0.5, steps: int = 5
) -> Bools:
    """The most probable mask where near pixels of like brightness want to be of one kind.

    Parameters
    ----------
    heatmap : (M, N) array_like
        Raw heat.
    image : (M, N[, C]) array_like
        The image that it belongs to.
    at : float, optional
        Share of the heatmap's maximum at which lesion and background are equally likely before
        the image is looked at, in (0, 1).
    steps : int, optional
        Of mean-field inference.

    Returns
    -------
    (M, N) ndarray of bool
        Empty for a flat heatmap.

    Raises
    ------
    ConfigError
        Without the package, with the command that installs it.
    ValueError
        For shapes that differ, or parameters out of range.

    References
    ----------
    Krähenbühl, Koltun, "Efficient inference in fully connected CRFs with Gaussian edge potentials",
    NeurIPS 2011.
    """
    fraction("at", at)
    at_least(1, steps=steps)
    heat, grey = heat_and_grey(heatmap, image)
    crf = _package()
    if not heat.any():
        return np.zeros(heat.shape, dtype=bool)
    # The heat that is as likely as not becomes one half; 0 and 1 keep their places.
    p = np.clip(heat ** (np.log(0.5) / np.log(at)), 0.01, 0.99)
    rows, columns = heat.shape
    field = crf.DenseCRF2D(columns, rows, 2)
    field.setUnaryEnergy(-np.log(np.stack([1 - p, p]).reshape(2, -1)).astype(np.float32))
    field.addPairwiseGaussian(sxy=SMOOTH_SD, compat=SMOOTH_WEIGHT)
    levels = (unit_range(grey) * 255).astype(np.uint8)
    colours = np.ascontiguousarray(np.repeat(levels[..., None], 3, axis=2))
    field.addPairwiseBilateral(sxy=COLOUR_SD, srgb=GREY_SD, rgbim=colours, compat=COLOUR_WEIGHT)
    kinds = np.asarray(field.inference(steps)).argmax(axis=0)
    return np.asarray(kinds.reshape(heat.shape) == 1)


def _package() -> Any:
    try:
        import pydensecrf.densecrf as crf
    except ImportError:
        raise ConfigError(
            "The rule crf needs the package pydensecrf2, which is not installed.",
            where="masks.rules: crf",
            fix=INSTALL,
        ) from None
    return crf
