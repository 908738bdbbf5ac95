"""Active contours of images by morphology: every step is a dilation or an erosion.

The operators are those of scikit-image (`skimage.segmentation.morphsnakes`), whose own loops know
no region that a contour may not leave, and begin with one or the other half of the smoothing,
whichever the call before left off at: two equal calls may differ.

References
----------
Márquez-Neila, Baumela, Álvarez, "A morphological approach to curvature-based evolution of curves
and surfaces", IEEE TPAMI 36(1), 2014.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from weakseg.masks.checks import Bools, Floats

_LINES = ((1, 1), (1, 0), (1, -1), (0, 1))
"""From the middle of three pixels in a row to the last, in four directions."""


def region_contour(
    grey: Floats, start: Bools, within: Bools, *, steps: int, smoothing: int = 1
) -> Bools:
    """Active contours without edges: inside and outside differ in their mean grey.

    Parameters
    ----------
    grey : (M, N) ndarray
    start : (M, N) ndarray of bool
        The contour's inside to begin with.
    within : (M, N) ndarray of bool
        The contour stays in it, and the mean of the outside is that of it alone.
    steps : int
    smoothing : int, optional
        How often the contour is smoothed a step.

    Returns
    -------
    (M, N) ndarray of bool

    References
    ----------
    Chan, Vese, "Active contours without edges", IEEE Trans. Image Processing 10(2), 2001.
    """

    def attached(u: Bools) -> Bools:
        outside = within & ~u
        if not u.any() or not outside.any():
            return u
        force = (grey - grey[u].mean()) ** 2 - (grey - grey[outside].mean()) ** 2
        force = force * (sum(np.abs(g) for g in _gradient(u)) > 0)
        return (u | (force < 0)) & ~(force > 0)

    return _evolved(attached, start & within, within, steps, smoothing)


def edge_contour(
    calm: Floats, start: Bools, within: Bools, *, steps: int, smoothing: int = 1, stop: float
) -> Bools:
    """Geodesic active contours: blown up until they meet an edge, which then draws them to itself.

    Parameters
    ----------
    calm : (M, N) ndarray
        High where the image is even, low on its edges.
    start, within, steps, smoothing
        See `region_contour`.
    stop : float
        Where ``calm`` is no higher, the contour is not blown up.

    Returns
    -------
    (M, N) ndarray of bool

    References
    ----------
    Caselles, Kimmel, Sapiro, "Geodesic active contours", IJCV 22(1), 1997.
    """
    slopes, free = _gradient(calm), calm > stop

    def attached(u: Bools) -> Bools:
        blown = np.logical_or.reduce([a | b for a, b in _ends(u)])
        u = (u | blown & free) & within
        drawn = sum(a * b for a, b in zip(slopes, _gradient(u), strict=True))
        return np.asarray((u | (drawn > 0)) & ~(drawn < 0))

    return _evolved(attached, start & within, within, steps, smoothing)


def _evolved(
    step: Callable[[Bools], Bools], u: Bools, within: Bools, steps: int, smoothing: int
) -> Bools:
    halves = (_round_in, _round_out)
    done, before = 0, u
    for i in range(steps):
        if i % 2 == 0 and i:  # after two steps as many halves of the smoothing are left as before
            if np.array_equal(u, before) and (steps - i) % 2 == 0:
                break
            before = u
        u = np.asarray(step(u)) & within
        for _ in range(smoothing):
            u = halves[done % 2](u)
            done += 1
        u = u & within
    return u


def _gradient(values: np.ndarray) -> list[Floats]:
    """Central differences along both axes; none along an axis of one pixel."""
    v = values.astype(np.float64)
    return [np.gradient(v, axis=k) if n > 1 else np.zeros_like(v) for k, n in enumerate(v.shape)]


def _round_in(u: Bools) -> Bools:
    return _opened(_closed(u))


def _round_out(u: Bools) -> Bools:
    return _closed(_opened(u))


def _opened(u: Bools) -> Bools:
    """What some row of three pixels in the mask has its middle on; beside the image is nothing."""
    return np.logical_or.reduce([u & a & b for a, b in _ends(u)])


def _closed(u: Bools) -> Bools:
    """What every row of three pixels about it meets the mask; beside the image is nothing."""
    return np.logical_and.reduce([u | a | b for a, b in _ends(u)])


def _ends(u: Bools) -> Iterator[tuple[Bools, Bools]]:
    """Of every pixel the two neighbours in each of four directions."""
    wide = np.pad(u, 1)
    m, n = u.shape

    def moved(y: int, x: int) -> Bools:
        return wide[1 + y : 1 + y + m, 1 + x : 1 + x + n]

    return ((moved(y, x), moved(-y, -x)) for y, x in _LINES)
