"""A dense conditional random field between a heatmap and its image, by pydensecrf2."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field

from weakseg.errors import ConfigError
from weakseg.masks.checks import Bools, Floats, fraction
from weakseg.masks.region import brightness, unit_range
from weakseg.masks.rules.arguments import at_least, heat_and_grey, same_shape
from weakseg.masks.rules.base import FittedRule
from weakseg.masks.rules.search import SearchedRule
from weakseg.settings import Fraction

OF_RULE = "masks.rules: crf"
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
        package()

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
    package()
    if not heat.any():
        return np.zeros(heat.shape, dtype=bool)
    # The heat that is as likely as not becomes one half; 0 and 1 keep their places.
    lesion, rest = _inferred(heat ** (np.log(0.5) / np.log(at)), grey, steps)
    return np.asarray(lesion > rest)


def crf_probability(
    probability: npt.ArrayLike, image: npt.ArrayLike, steps: int = 5, *, where: str = OF_RULE
) -> npt.NDArray[np.float32]:
    """The probability of a lesion once near pixels of like brightness want to be of one kind.

    Parameters
    ----------
    probability : (M, N) array_like
        Of a lesion at every pixel by itself.
    image : (M, N[, C]) array_like
    steps : int, optional
        Of mean-field inference.
    where : str, optional
        The setting that asks for it, for messages.

    Returns
    -------
    (M, N) ndarray of float32

    Raises
    ------
    ConfigError
        Without the package, with the command that installs it.
    ValueError
        For shapes that differ, or no step.
    """
    at_least(1, steps=steps)
    p, grey = same_shape(np.asarray(probability, dtype=np.float64), brightness(image))
    lesion, _ = _inferred(p, grey, steps, where)
    return np.asarray(np.clip(lesion, 0, 1), dtype=np.float32)


def _inferred(p: Floats, grey: Floats, steps: int, where: str = OF_RULE) -> tuple[Floats, Floats]:
    """Posterior probabilities of lesion and background, (M, N) each."""
    crf, p = package(where), np.clip(p, 0.01, 0.99)
    rows, columns = p.shape
    field = crf.DenseCRF2D(columns, rows, 2)
    field.setUnaryEnergy(-np.log(np.stack([1 - p, p]).reshape(2, -1)).astype(np.float32))
    field.addPairwiseGaussian(sxy=SMOOTH_SD, compat=SMOOTH_WEIGHT)
    levels = (unit_range(grey) * 255).astype(np.uint8)
    colours = np.ascontiguousarray(np.repeat(levels[..., None], 3, axis=2))
    field.addPairwiseBilateral(sxy=COLOUR_SD, srgb=GREY_SD, rgbim=colours, compat=COLOUR_WEIGHT)
    rest, lesion = np.asarray(field.inference(steps)).reshape(2, *p.shape)
    return lesion, rest


def package(where: str = OF_RULE) -> Any:
    """pydensecrf2; a ConfigError with the command that installs it where it is not there."""
    try:
        import pydensecrf.densecrf as crf
    except ImportError:
        raise ConfigError(
            "A conditional random field needs the package pydensecrf2, which is not installed.",
            where=where,
            fix=INSTALL,
        ) from None
    return crf
