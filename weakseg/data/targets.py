"""What a network is told of many images, in little memory, and as files."""

from __future__ import annotations

import math
from collections.abc import Callable, ItemsView, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from weakseg.data.case_files import case_mask, on_file
from weakseg.data.cases import Case
from weakseg.data.formats.registry import VOLUMES
from weakseg.data.formats.writing import write_like
from weakseg.data.images import write_grey
from weakseg.data.patches import IGNORE

_LESION, _OPEN = 255, 128

Packed = tuple[tuple[int, ...], NDArray[np.uint8], NDArray[np.uint8]]
"""A target's shape, and the bits of its lesion and of what it leaves open (none: no bits)."""


class PackedTargets(Mapping[int, NDArray[np.uint8]]):
    """Targets by the index of their case, kept as bits: each is unpacked when it is looked up.

    They have the images' own size and are kept for a whole training, where a byte a pixel would be
    gigabytes for a large set.
    """

    def __init__(self) -> None:
        self._held: dict[int, Packed] = {}

    def __setitem__(self, i: int, target: NDArray[np.uint8]) -> None:
        """Keep a target of 0, 1 and `IGNORE`."""
        ignored = target == IGNORE
        left_open = np.packbits(ignored) if ignored.any() else np.empty(0, dtype=np.uint8)
        self._held[i] = (target.shape, np.packbits(target == 1), left_open)

    def __getitem__(self, i: int) -> NDArray[np.uint8]:
        shape, lesion, left_open = self._held[i]
        size = math.prod(shape)
        target = np.unpackbits(lesion, count=size)
        if left_open.size:
            target[np.unpackbits(left_open, count=size) == 1] = IGNORE
        return target.reshape(shape)

    def packed(self) -> ItemsView[int, Packed]:
        """All of them as they are kept."""
        return self._held.items()

    def put_packed(self, i: int, target: Packed) -> None:
        """Keep one as `packed` gives it.

        Raises
        ------
        ValueError
            If the bits are not as many as its pixels.
        """
        shape, *bits = target
        size = -(-math.prod(shape) // 8)
        if bits[0].size != size or bits[1].size not in (0, size):
            raise ValueError(f"{bits[0].size} and {bits[1].size} bytes for a target of {shape}")
        self._held[i] = target

    def __iter__(self) -> Iterator[int]:
        return iter(self._held)

    def __len__(self) -> int:
        return len(self._held)

    @property
    def nbytes(self) -> int:
        """Bytes of all targets as they are kept."""
        return sum(a.nbytes + b.nbytes for _, a, b in self._held.values())


def write_target(path: Path, cases: Sequence[Case], targets: Sequence[NDArray[np.uint8]]) -> None:
    """Write what a network is told of a file: 0, 255, and 128 where it is told nothing.

    Parameters
    ----------
    path : Path
        Ends as the masks of such files.
    cases : sequence of Case
        One, or slices of one volume.
    targets : sequence of ndarray of uint8
        0, 1 and `weakseg.data.patches.IGNORE`, on each case's own grid.
    """
    target = on_file(cases, targets)
    grey = np.select([target == 1, target == IGNORE], [_LESION, _OPEN], 0).astype(np.uint8)
    _WRITE_GREY[cases[0].formats.noun](path, grey, cases[0].image)


def read_target(path: Path, case: Case) -> NDArray[np.uint8]:
    """What `write_target` wrote of a case, on the case's own grid.

    Raises
    ------
    DataError
        If it cannot be read.
    """
    target = case_mask(case, path, (_LESION,)).astype(np.uint8)
    target[case_mask(case, path, (_OPEN,))] = IGNORE
    return target


_WRITE_GREY: dict[str, Callable[[Path, NDArray[np.uint8], Path], None]] = {
    "image": lambda path, grey, image: write_grey(path, grey),
    "volume": lambda path, grey, image: write_like(path, grey, image, VOLUMES),
}
