"""What a network was made of that lies outside of its run's folder, and may have gone since."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from weakseg.config import STARTING_WEIGHTS, weights_content

LENT_HEAT = "lent_heat"
"""Key of a stage in the record that holds what another run's record calls its heatmaps."""

LENT_MASKS = "lent_masks"
"""Key of a stage that holds the fingerprint of another run's masks, which its network learnt
from."""

LENT_MASKS_FROM = "lent_masks_from"
"""Key of a stage that holds where that run lay, whatever folder a command is called in."""

_BY_NAME = ("none", "imagenet")


def as_taken(
    stages: Mapping[str, Any], stage: str, what: str, now: str | None, unknown: str | None = None
) -> str | None:
    """A fingerprint of something outside: as it is now, else as a network was made of it.

    So a network is not out of date because what it began with was moved or deleted.

    Parameters
    ----------
    stages : mapping
        Of the run's record.
    stage : str
        That of the network's training.
    what : {'starting_weights', 'lent_heat'}
        The key of its entry.
    now : str or None
        None for what cannot be read any more.
    unknown : str, optional
        Where the record says nothing of it, either.
    """
    if now is not None:
        return now
    made: str | None = stages.get(stage, {}).get(what)
    return unknown if made is None or made in _BY_NAME else made


def needs_weights(stages: Mapping[str, Any], trained: Iterable[str], weights: str) -> bool:
    """Whether a file of weights is to be read, or refused: not where it has gone and all of the
    stages ``trained`` have begun with it already."""
    if weights in _BY_NAME:
        return False
    now = weights_content(weights)
    if now is not None:
        return True
    return any(as_taken(stages, s, STARTING_WEIGHTS, now) is None for s in trained)
