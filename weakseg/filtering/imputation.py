"""Noisy linear imputation: pixels taken out of an image, filled in from what surrounds them.

A test of a heatmap takes pixels away and looks what the network then answers. A constant in their
place would draw the removed shape into the image, and the network could read the shape; a smooth
filling with a little noise gives it nothing to read.

The filling is the solution of one linear system with a symmetric positive definite matrix. Images
here are at most some hundred pixels wide, so that the system, numbered well, is a narrow band, and
a dense Cholesky factorisation of the band beats general sparse ones; these serve larger images.
"""

from __future__ import annotations

import threading
from functools import cache
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import ndimage
from scipy.linalg import solveh_banded
from scipy.sparse import csc_array
from scipy.sparse.linalg import splu
from threadpoolctl import ThreadpoolController  # type: ignore[import-untyped]

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
Indices = npt.NDArray[np.intp]

# Direct neighbours 1/6, diagonal ones 1/12, all times 12: whole numbers add up without rounding.
_STEPS = ((-1, -1), (-1, 0), (-1, 1), (0, -1), (0, 1), (1, -1), (1, 0), (1, 1))
_WEIGHTS = np.array([1.0, 2.0, 1.0, 2.0, 2.0, 1.0, 2.0, 1.0])

# Where band and sparse factorisation were measured to take equally long: about 256² pixels.
_BAND_CELLS = 16_000_000


class _System(NamedTuple):
    """Which equation refers to which, for the N pixels to be solved for."""

    other: Indices  # (N, 8), the equation of each neighbour, -1 where it is none
    weight: Floats  # (N, 8), 0 for neighbours outside
    right: Floats  # (N, C)


def linear_imputation(
    image: npt.ArrayLike,
    missing: npt.ArrayLike,
    *,
    noise: float = 0.01,
    rng: np.random.Generator | None = None,
    valid: npt.ArrayLike | None = None,
) -> npt.NDArray[np.float32]:
    """Fill in the missing pixels of an image from their neighbours, and add a little noise.

    Without noise every missing pixel is the weighted mean of its eight neighbours, known ones and
    missing ones alike: direct neighbours weigh 1/6, diagonal ones 1/12, and where the image or
    ``valid`` ends, the weights of those inside are scaled up to sum to 1. The filling then stays
    within the range of the known pixels and goes on with constants and, away from the ends, with
    linear ramps.

    Parameters
    ----------
    image : (C, H, W) array_like of float
        In [0, 1], before any normalisation by mean and standard deviation. What missing pixels
        and those outside ``valid`` hold has no influence, so long as it is finite.
    missing : (H, W) array_like of bool
        The pixels to fill in, the same ones in every channel.
    noise : float, optional
        Standard deviation of the Gaussian noise that is added to the filled-in pixels, to each
        channel on its own; 0 for none.
    rng : numpy.random.Generator, optional
        Where the noise comes from; required when ``noise`` > 0.
    valid : (H, W) array_like of bool, optional
        The pixels that take part, such as the body region; by default all. The others lend their
        values to no neighbour and are never changed, be they missing or not.

    Returns
    -------
    (C, H, W) ndarray of float32
        A new array. It is **not** clipped: noise can carry filled-in pixels out of [0, 1]. Pixels
        that were not filled in hold what they held. A connected group of missing pixels (diagonal
        neighbours connect) with no known pixel around it gets the mean of the channel's known
        valid pixels, and 0 where there is no such pixel in the whole image; and noise.

    Raises
    ------
    ValueError
        For arrays of other shapes, masks that are not boolean, values that are not finite, or
        that lie out of [0, 1] where missing ones are filled in from them, negative or non-finite
        ``noise``, and ``noise`` > 0 without ``rng``.

    References
    ----------
    Y. Rong, T. Leemann, V. Borisov, G. Kasneci, E. Kasneci, "A Consistent and Efficient Evaluation
    Strategy for Attribution Methods", ICML 2022 (ROAD).

    Examples
    --------
    >>> linear_imputation([[[0.2, 0.0, 0.6]]], [[False, True, False]], noise=0)
    array([[[0.2, 0.4, 0.6]]], dtype=float32)
    """
    values, gap, inside = _checked(image, missing, valid)
    _check_noise(noise, rng)
    filled = values.astype(np.float32)
    gap &= inside
    if not gap.any():
        return filled
    given = inside & ~gap
    _check_range(values[:, given])
    solution = np.empty_like(values)
    solution[:, gap] = values[:, given].mean(axis=1, keepdims=True) if given.any() else 0.0
    place = _places_in_solving_order(gap, given)
    if place.size:
        system = _system(values, place, given, inside)
        # Blocks of a band are too small to share: threads gain nothing, and where the cores are
        # busy, their waiting for each other made this ten times slower.
        with _ONE_SOLVE, _blas().limit(limits=1):
            solution.reshape(len(values), -1)[:, place] = _solve(system).T
    new = solution[:, gap]
    if rng is not None and noise > 0:
        new += rng.normal(0.0, noise, new.shape)
    filled[:, gap] = new
    return filled


def _checked(
    image: npt.ArrayLike, missing: npt.ArrayLike, valid: npt.ArrayLike | None
) -> tuple[Floats, Bools, Bools]:
    values = np.asarray(image, dtype=np.float64)
    if values.ndim != 3 or values.size == 0:
        raise ValueError(
            f"image must be (C, H, W) with at least one pixel, got shape {values.shape}"
        )
    if not np.isfinite(values).all():
        count = int((~np.isfinite(values)).sum())
        raise ValueError(f"image must be finite, got {count} NaN or infinite values")
    shape = values.shape[1:]
    gap = _checked_mask("missing", missing, shape).copy()
    inside = np.ones(shape, dtype=bool) if valid is None else _checked_mask("valid", valid, shape)
    return values, gap, inside


def _checked_mask(name: str, mask: npt.ArrayLike, shape: tuple[int, ...]) -> Bools:
    pixels = np.asarray(mask)
    # Elsewhere such masks are numbers, and 1 may mean known: better to refuse than to guess.
    if pixels.dtype != np.bool_:
        raise ValueError(f"{name} must be boolean, got {pixels.dtype}")
    if pixels.shape != shape:
        raise ValueError(f"{name} must have the image's shape {shape}, got {pixels.shape}")
    return pixels


def _check_range(known: Floats) -> None:
    if known.size and (known.min() < 0 or known.max() > 1):
        raise ValueError(
            f"image must lie in [0, 1] where it is known, got {known.min():g} to {known.max():g}; "
            "fill in before you normalise"
        )


def _check_noise(noise: float, rng: np.random.Generator | None) -> None:
    if not (np.isfinite(noise) and noise >= 0):
        raise ValueError(f"noise must be a finite number of at least 0, got {noise}")
    if noise > 0 and rng is None:
        raise ValueError(f"rng must be given to draw noise of {noise:g}, or noise set to 0")


def _places_in_solving_order(gap: Bools, known: Bools) -> Indices:
    """The missing pixels that can be solved for, ordered so that neighbours stay close.

    One connected group after the other, each along its shorter side, since the band is as wide as
    the longest line. Groups without a known pixel around them, whose equations determine nothing,
    are left out.

    Returns
    -------
    (N,) ndarray of int
        Into the flattened image.
    """
    around = np.ones((3, 3), dtype=bool)
    labels, groups = ndimage.label(gap, structure=around)
    anchored = np.zeros(groups + 1, dtype=bool)
    anchored[labels[gap & ndimage.binary_dilation(known, around)]] = True
    anchored[0] = False
    row, column = np.nonzero(anchored[labels])
    group = labels[row, column].astype(np.intp)
    wide = _extent(column, group, groups) > _extent(row, group, groups)
    across = wide[group]
    height, width = gap.shape
    line = np.where(across, column * height + row, row * width + column)
    return (row * width + column)[np.argsort(group * (height * width) + line)]


def _extent(position: Indices, group: Indices, groups: int) -> Indices:
    """How far each group reaches along one axis."""
    last = np.zeros(groups + 1, dtype=np.intp)
    np.maximum.at(last, group, position)
    first = last.copy()
    np.minimum.at(first, group, position)
    return last - first


def _system(values: Floats, place: Indices, known: Bools, inside: Bools) -> _System:
    """One equation a pixel: its weighted sum of neighbours, moved apart into unknown and known."""
    channels, height, width = values.shape
    # A rim of pixels outside spares every neighbour the question whether it is in the image.
    rim = ((1, 1), (1, 1))
    number = np.full((height, width), -1, dtype=np.intp)
    number.reshape(-1)[place] = np.arange(place.size)
    centre = (place // width + 1) * (width + 2) + place % width + 1
    neighbours = centre[:, None] + np.array([y * (width + 2) + x for y, x in _STEPS])
    weight = _WEIGHTS * np.pad(inside, rim).reshape(-1)[neighbours]
    right = np.empty((place.size, channels))
    for channel in range(channels):
        given = np.pad(np.where(known, values[channel], 0.0), rim).reshape(-1)
        right[:, channel] = np.einsum("nk,nk->n", weight, given[neighbours])
    other = np.pad(number, rim, constant_values=-1).reshape(-1)[neighbours]
    return _System(other, weight, right)


def _solve(system: _System) -> Floats:
    """The (N, C) values for which every equation holds."""
    count = len(system.other)
    own = np.broadcast_to(np.arange(count)[:, None], system.other.shape)
    below = system.other > own
    row, column, entry = system.other[below], own[below], -system.weight[below]
    diagonal = system.weight.sum(axis=1)
    bands = int((row - column).max(initial=0)) + 1
    if bands * count <= _BAND_CELLS:
        # Fortran order is LAPACK's own: no copy is made.
        band = np.zeros((bands, count), order="F")
        band[0] = diagonal
        band[row - column, column] = entry
        return solveh_banded(
            band, system.right, lower=True, overwrite_ab=True, overwrite_b=True, check_finite=False
        )
    at = np.arange(count)
    rows, columns = np.concatenate([at, row, column]), np.concatenate([at, column, row])
    entries = np.concatenate([diagonal, entry, entry])
    matrix = csc_array((entries, (rows, columns)), shape=(count, count))
    # The matrix is symmetric and needs no pivots: SuperLU's ordering for just that halves its time.
    factors = splu(
        matrix,
        permc_spec="MMD_AT_PLUS_A",
        diag_pivot_thresh=0.0,
        relax=1,
        panel_size=4,
        options={"SymmetricMode": True},
    )
    return factors.solve(system.right)


_ONE_SOLVE = threading.Lock()
"""The limit is the process's: threads that set and lift it in turns would lose its old value."""


@cache
def _blas() -> ThreadpoolController:
    """The linear algebra libraries of this process; finding them takes a millisecond."""
    return ThreadpoolController().select(user_api="blas")
