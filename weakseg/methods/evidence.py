"""What speaks for a lesion in an image: its own probability, and that of the slices beside it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np

Evidence = tuple[int, np.ndarray, np.ndarray | None]
"""Index of a case, its probability, and the mean with its neighbours'; None where it has none."""


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
    index, probability, evidence
        In the order in which they came; ``evidence`` is
        ``(1 - share) * own + share * mean of neighbours``.
    """
    kept: dict[int, np.ndarray] = {}
    waiting: list[int] = []
    done: set[int] = set()

    def of(i: int) -> Evidence:
        own = kept[i]
        others = [kept[j] for j in beside.get(i, ()) if j in kept and kept[j].shape == own.shape]
        if not others:
            return i, own, None
        mean = np.mean(np.stack(others), axis=0, dtype=np.float32)
        return i, own, np.asarray((1 - share) * own + share * mean, dtype=np.float32)

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
