"""What speaks for a lesion in an image: its own probability, and that of the slices beside it.

The word of classifiers is treated as the network's: both are means with the neighbours'.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, eq=False)
class Evidence:
    """What a network says of a case and of those beside it.

    Attributes
    ----------
    index : int
        Of the case.
    probability : (*size) ndarray
        Of a lesion at every place, by the case alone.
    mean : (*size) ndarray or None
        ``(1 - share) * own + share * mean of neighbours``; None where it has no neighbour.
    neighbours : tuple of int
        The cases that are in it.
    share : float
        Weight of the neighbours' mean.
    """

    index: int
    probability: np.ndarray
    mean: np.ndarray | None = None
    neighbours: tuple[int, ...] = ()
    share: float = 0.0

    def word(self, of: Callable[[int], float | None]) -> float | None:
        """What classifiers say of the case, with their word on its neighbours.

        Parameters
        ----------
        of : callable
            Index → the probability of a lesion somewhere in the case; None where none is asked.
        """
        own = of(self.index)
        others = [p for p in map(of, self.neighbours) if p is not None]
        if own is None or not others:
            return own
        return (1 - self.share) * own + self.share * sum(others) / len(others)


def with_neighbours(
    probabilities: Iterable[tuple[int, np.ndarray]],
    beside: Mapping[int, Sequence[int]],
    share: float,
) -> Iterator[Evidence]:
    """Probabilities, each with what its neighbours' say of the same places.

    A lesion seldom stands in one slice alone, and what looks like one by chance often does.

    Parameters
    ----------
    probabilities : iterable of (int, (*size) ndarray)
        Of every case once. Neighbours wait for each other, so they should follow each other.
    beside : mapping
        Index → those of its neighbours. Those whose maps have another size are left out.
    share : float
        In [0, 1): weight of the neighbours' mean beside the case's own probability.

    Yields
    ------
    Evidence
        In the order in which they came.
    """
    kept: dict[int, np.ndarray] = {}
    waiting: list[int] = []
    done: set[int] = set()

    def of(i: int) -> Evidence:
        own = kept[i]
        around = [j for j in beside.get(i, ()) if j in kept and kept[j].shape == own.shape]
        if not around:
            return Evidence(i, own)
        others = np.mean(np.stack([kept[j] for j in around]), axis=0, dtype=np.float32)
        mean = np.asarray((1 - share) * own + share * others, dtype=np.float32)
        return Evidence(i, own, mean, tuple(around), share)

    def leave(i: int) -> None:
        done.add(i)
        for j in (i, *beside.get(i, ())):
            if j in done and all(k in done for k in beside.get(j, ())):
                kept.pop(j, None)

    for i, probability in probabilities:
        kept[i] = probability
        waiting.append(i)
        while waiting and all(j in kept or j in done for j in beside.get(waiting[0], ())):
            first = waiting.pop(0)
            yield of(first)
            leave(first)
    for i in waiting:  # a neighbour that never came
        yield of(i)
