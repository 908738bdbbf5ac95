"""What the functions of rules ask of their arguments, with the words of the error."""

from __future__ import annotations

from itertools import pairwise

import numpy.typing as npt

from weakseg.masks.checks import Floats
from weakseg.masks.region import brightness
from weakseg.masks.thresholds import normalise


def heat_and_grey(heatmap: npt.ArrayLike, image: npt.ArrayLike) -> tuple[Floats, Floats]:
    """A heatmap over its own maximum, and the grey values of the image that it belongs to.

    Parameters
    ----------
    heatmap : (M, N) or (X, Y, Z) array_like
        Raw heat.
    image : (M, N[, C]) or (X, Y, Z[, C]) array_like

    Returns
    -------
    heat, grey : (M, N) or (X, Y, Z) ndarray of float64

    Raises
    ------
    ValueError
        For shapes that differ.
    """
    heat = normalise(heatmap)
    return same_shape(heat, brightness(image, heat.ndim))


def same_shape(heat: Floats, grey: Floats) -> tuple[Floats, Floats]:
    """Both as they are; a ValueError when their shapes differ."""
    if heat.shape != grey.shape:
        raise ValueError(f"the heatmap is {heat.shape}, the image {grey.shape}")
    return heat, grey


def in_order(**shares: float) -> None:
    """Refuse shares in (0, 1) that do not rise in the order in which they are named."""
    values = [0.0, *shares.values(), 1.0]
    if not all(a < b for a, b in pairwise(values)):
        got = " and ".join(f"{name} {value}" for name, value in shares.items())
        raise ValueError(f"0 < {' < '.join(shares)} < 1 must hold, got {got}")


def at_least(least: float, **values: float) -> None:
    """Refuse values below a least one; NaN is below any."""
    for name, value in values.items():
        if not value >= least:
            raise ValueError(f"{name} must be at least {least:g}, got {value}")


def positive(**values: float) -> None:
    """Refuse values that are not above 0."""
    for name, value in values.items():
        if not value > 0:
            raise ValueError(f"{name} must be positive, got {value}")


def below_one(**shares: float) -> None:
    """Refuse shares that are not in [0, 1)."""
    for name, value in shares.items():
        if not 0 <= value < 1:
            raise ValueError(f"{name} must be in [0, 1), got {value}")
