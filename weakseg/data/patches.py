"""Where training patches lie, and how they are cut out.

A patch is a block of *output* voxels, together with the *window* of input voxels that the network
needs for it. Windows may reach beyond the image: there they hold the image's border intensity, and
their truth is `IGNORE`.

References
----------
Bertels, Robben, Lemmens, Vandermeulen, arXiv 2211.09562, for the samplers.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from weakseg.data.cases import Case

IGNORE = 255
"""Truth of voxels outside the image: they enter no loss."""
Start = tuple[int, ...]


@dataclass(frozen=True)
class CaseArrays:
    """One case as a network sees it.

    Attributes
    ----------
    image : (C, *size) ndarray of float
    truth : (*size) ndarray of bool, or of uint8 with 0, 1 and `IGNORE`, or None
        None where nobody has drawn the lesion.
    region : (*size) ndarray of bool
        The body or the region of interest.
    fill : (C,) ndarray of float
        Intensity outside the image.
    """

    image: NDArray[np.floating]
    truth: NDArray[np.bool_] | NDArray[np.uint8] | None
    region: NDArray[np.bool_]
    fill: NDArray[np.float32]


@dataclass(frozen=True)
class PatchShape:
    """Sides of a patch.

    Attributes
    ----------
    output : tuple of int
    window : tuple of int
        Sides of the input.
    before : int
        Voxels of the window before the output, on every axis.
    """

    output: tuple[int, ...]
    window: tuple[int, ...]
    before: int


def cut(case: CaseArrays, start: Start, shape: PatchShape) -> tuple[NDArray, NDArray]:
    """The window of a patch and its truth.

    Parameters
    ----------
    case : CaseArrays
        With truth.
    start : tuple of int
        First voxel of the output.
    shape : PatchShape

    Returns
    -------
    window : (C, *window) ndarray of float32
    truth : (*window) ndarray of uint8
        0, 1, and `IGNORE` outside the image. Of the window, so that both can be turned together;
        only the output's part enters a loss.
    """
    assert case.truth is not None
    size = case.image.shape[1:]
    window = np.empty((case.image.shape[0], *shape.window), dtype=np.float32)
    window[:] = case.fill.reshape(-1, *[1] * len(size))
    truth = np.full(shape.window, IGNORE, dtype=np.uint8)
    source, target = [], []
    for s, w, n in zip(start, shape.window, size, strict=True):
        first = s - shape.before
        source.append(slice(max(first, 0), max(min(first + w, n), 0)))
        target.append(slice(max(-first, 0), max(min(w, n - first), 0)))
    window[(slice(None), *target)] = case.image[(slice(None), *source)]
    truth[tuple(target)] = case.truth[tuple(source)]
    return window, truth


def patch_start(centre: Sequence[int], size: Sequence[int], output: Sequence[int]) -> Start:
    """First voxel of the output that is centred on a voxel, as far as the image allows.

    Near a border it is moved so that the output stays within the image; on an axis on which it
    is larger than the image, the image lies in its middle.
    """
    return tuple(
        min(max(c - p // 2, 0), n - p) if n >= p else -((p - n) // 2)
        for c, n, p in zip(centre, size, output, strict=True)
    )


def grid_starts(size: Sequence[int], output: Sequence[int], overlap: float = 0.0) -> list[Start]:
    """Outputs on a regular grid that cover an image, the last of each axis moved inwards.

    Parameters
    ----------
    size, output : sequence of int
        Sides of the image and of an output.
    overlap : float
        Share of an output that the next one covers again, in [0, 1).
    """
    axes = []
    for n, p in zip(size, output, strict=True):
        if n <= p:
            axes.append([-((p - n) // 2)])
            continue
        step = max(1, round(p * (1 - overlap)))
        axes.append([*range(0, n - p, step), n - p])
    return list(itertools.product(*axes))


class PatchSampler:
    """Draws patches of training cases.

    Parameters
    ----------
    arrays : callable
        From the index of a case to its arrays.
    cases : sequence of int
        Indices of the training cases; each has truth.
    with_lesion : sequence of int
        Those whose truth is not empty.
    kind : {"uniform", "foreground", "balanced", "grid"}
        uniform: any case, centred on any voxel of its region. foreground: with probability ``p``
        any case with a lesion, centred on any voxel of the lesion; else uniform. balanced: one
        half as foreground, the other any case, centred on a voxel of its region outside the
        lesion. grid: every patch of a regular grid over every case, in random order.
    p : float
        Of ``foreground``.
    shape : PatchShape or None
        None for whole images, where only the case is drawn: any one in turn (uniform, grid), or
        by the same halves.
    """

    def __init__(
        self,
        arrays: Callable[[int], CaseArrays],
        cases: Sequence[int],
        with_lesion: Sequence[int],
        kind: str,
        p: float,
        shape: PatchShape | None,
    ) -> None:
        self.arrays, self.kind, self.p, self.shape = arrays, kind, p, shape
        self.cases, self.with_lesion = np.asarray(cases), np.asarray(with_lesion)

    def draw(self, rng: np.random.Generator) -> Iterator[tuple[int, Start | None]]:
        """Cases and first output voxels without end."""
        if self.kind == "grid" or (self.kind == "uniform" and self.shape is None):
            yield from self._in_turn(rng)
        p = {"uniform": 0.0, "foreground": self.p, "balanced": 0.5}[self.kind]
        while True:
            lesion = len(self.with_lesion) > 0 and rng.random() < p
            case = int(rng.choice(self.with_lesion if lesion else self.cases))
            if self.shape is None:
                yield case, None
                continue
            arrays = self.arrays(case)
            assert arrays.truth is not None
            if lesion:
                candidates = arrays.truth == 1
            elif self.kind == "balanced":
                candidates = arrays.region & (arrays.truth == 0)
            else:
                candidates = arrays.region
            flat = np.flatnonzero(candidates)
            if not flat.size:
                flat = np.arange(candidates.size)
            centre = np.unravel_index(int(rng.choice(flat)), candidates.shape)
            yield case, patch_start([int(c) for c in centre], candidates.shape, self.shape.output)

    def _in_turn(self, rng: np.random.Generator) -> Iterator[tuple[int, Start | None]]:
        patches: list[tuple[int, Start | None]] = []
        for case in self.cases:
            if self.shape is None:
                patches.append((int(case), None))
                continue
            size = self.arrays(int(case)).image.shape[1:]
            patches += [(int(case), s) for s in grid_starts(size, self.shape.output)]
        while True:
            for i in rng.permutation(len(patches)):
                yield patches[i]


def lesion_share(
    sampler: PatchSampler, count: int, seed: int, inside: Callable[[NDArray], NDArray]
) -> float:
    """Share of lesion voxels in the outputs of ``count`` drawn patches.

    Parameters
    ----------
    sampler : PatchSampler
    count, seed : int
    inside : callable
        From the truth of a window to that of its output.
    """
    lesion = seen = 0
    draws = sampler.draw(np.random.default_rng(seed))
    for case, start in itertools.islice(draws, count):
        arrays = sampler.arrays(case)
        assert arrays.truth is not None
        if sampler.shape is None or start is None:
            truth = arrays.truth.astype(np.uint8)
        else:
            truth = inside(cut(arrays, start, sampler.shape)[1])
        lesion += int((truth == 1).sum())
        seen += int((truth != IGNORE).sum())
    return lesion / max(seen, 1)


def knows_truth(case: Case, healthy: bool) -> bool:
    """Whether a case can train a segmenter: it has a mask, or its label says that it needs none."""
    return case.mask is not None or healthy
